package tokenizer

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalise prepares a text that holds no raw added tokens.
func (t *Tokenizer) normalise(text string) string {
	text = norm.NFC.String(text)
	if t.kind == qwen {
		return text
	}
	return lowercase(collapse(text))
}

// collapse makes every run of white space one space.
func collapse(text string) string {
	var b strings.Builder
	inSpace := false
	for _, r := range text {
		space := unicode.IsSpace(r)
		switch {
		case !space:
			b.WriteRune(r)
		case !inSpace:
			b.WriteByte(' ')
		}
		inSpace = space
	}
	return b.String()
}

// lowercase maps each character by itself, without regard to its neighbours (no final sigma). U+0130 is the only one
// whose lower case is two characters.
func lowercase(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == 'İ' {
			b.WriteString("i\u0307")
		} else {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// split yields the words of a normalised text, none empty.
func (t *Tokenizer) split(text string) iter.Seq[string] {
	next := nextQwen
	if t.kind == clip {
		next = nextCLIP
	}
	return func(yield func(string) bool) {
		for text != "" {
			n, keep := next(text)
			if keep && !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

// nextQwen is the length in bytes of the match of Qwen's expression at the start of a non-empty text:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// Its alternatives cover every character, so there is always a match and keep is always true.
func nextQwen(text string) (n int, keep bool) {
	if n := contraction(text, true); n > 0 {
		return n, true
	}
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case unicode.IsLetter(r):
		return span(text, unicode.IsLetter), true
	case unicode.IsNumber(r):
		return size, true
	}
	if r != '\r' && r != '\n' {
		if letters := span(text[size:], unicode.IsLetter); letters > 0 {
			return size + letters, true
		}
	}
	start := 0
	if r == ' ' {
		start = 1
	}
	if others := span(text[start:], isOther); others > 0 {
		end := start + others
		return end + span(text[end:], isNewline), true
	}
	return spaces(text), true
}

// spaces is the length of the match of \s*[\r\n]+|\s+(?!\S)|\s+ at the start of a text that begins with white space.
func spaces(text string) int {
	run := span(text, unicode.IsSpace)
	if newline := strings.LastIndexAny(text[:run], "\r\n"); newline >= 0 {
		return newline + 1
	}
	if run == len(text) {
		return run
	}
	// The look-ahead makes the run give back its last character, which then joins what follows; a run of one cannot.
	_, last := utf8.DecodeLastRuneInString(text[:run])
	if run > last {
		return run - last
	}
	return run
}

// nextCLIP is the length in bytes of the match of CLIP's expression at the start of a non-empty text, or of the white
// space there, which is dropped (keep false):
//
//	's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
func nextCLIP(text string) (n int, keep bool) {
	if n := contraction(text, false); n > 0 {
		return n, true
	}
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case unicode.IsSpace(r):
		return size, false
	case unicode.IsLetter(r):
		return span(text, unicode.IsLetter), true
	case unicode.IsNumber(r):
		return size, true
	}
	return span(text, isOther), true
}

// contraction is the length of 's, 't, 're, 've, 'm, 'll or 'd at the start of text, or 0. Folding case admits U+017F,
// the long s, as Unicode says.
func contraction(text string, fold bool) int {
	if text[0] != '\'' {
		return 0
	}
	for _, suffix := range [...]string{"s", "t", "re", "ve", "m", "ll", "d"} {
		rest := text[1:]
		if strings.HasPrefix(rest, suffix) || fold && len(rest) >= len(suffix) && strings.EqualFold(rest[:len(suffix)], suffix) {
			return 1 + len(suffix)
		}
	}
	if fold && strings.HasPrefix(text[1:], "ſ") {
		return 1 + len("ſ")
	}
	return 0
}

// span is the length in bytes of the longest prefix whose characters all satisfy in.
func span(text string, in func(rune) bool) int {
	for i, r := range text {
		if !in(r) {
			return i
		}
	}
	return len(text)
}

func isOther(r rune) bool   { return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) }
func isNewline(r rune) bool { return r == '\r' || r == '\n' }
