package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// lossy replaces each maximal ill-formed part by one U+FFFD, as Python's and Rust's decoders do (Unicode standard,
// section 3.9, "substitution of maximal subparts"). Go's own conversions count bytes or runs instead.
func lossy(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			size = illFormed(text[i:])
		}
		b.WriteRune(r)
		i += size
	}
	return b.String()
}

// illFormed is the length of the maximal subpart at the start of text, which does not begin a valid character: a lead
// byte with those continuation bytes that could still have led to one.
func illFormed(text string) int {
	lo, hi, want := byte(0x80), byte(0xbf), 0
	switch lead := text[0]; {
	case lead >= 0xc2 && lead <= 0xdf:
		want = 1
	case lead >= 0xe0 && lead <= 0xef:
		want = 2
		if lead == 0xe0 {
			lo = 0xa0
		} else if lead == 0xed {
			hi = 0x9f
		}
	case lead >= 0xf0 && lead <= 0xf4:
		want = 3
		if lead == 0xf0 {
			lo = 0x90
		} else if lead == 0xf4 {
			hi = 0x8f
		}
	}
	n := 1
	for n <= want && n < len(text) && text[n] >= lo && text[n] <= hi {
		lo, hi = 0x80, 0xbf
		n++
	}
	return n
}
