package tokenizer

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

func validUTF8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func hasAdded(t *Tokenizer, ids []int32) bool {
	return slices.ContainsFunc(ids, t.hasAdded)
}

// synthetic opens the tokenizers of a small synthetic model.
func synthetic(tb testing.TB) (q, c *Tokenizer, opt weights.SynthOptions) {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "model")
	opt = weights.SmallSynth()
	if err := weights.Synth(context.Background(), dir, opt); err != nil {
		tb.Fatal(err)
	}
	q, err := OpenQwen(filepath.Join(dir, "tokenizer"))
	if err != nil {
		tb.Fatal(err)
	}
	c, err = OpenCLIP(filepath.Join(dir, "tokenizer_2"))
	if err != nil {
		tb.Fatal(err)
	}
	return q, c, opt
}

func TestSyntheticVocabulariesWorkLikePublishedOnes(t *testing.T) {
	q, c, opt := synthetic(t)
	if q.Published() {
		t.Error("a synthetic vocabulary passes for the published one")
	}
	if q.Size() > opt.Qwen.Text.VocabSize || c.Size() != opt.CLIP.VocabSize {
		t.Errorf("ids up to %d and %d, embeddings have %d and %d rows", q.Size(), c.Size(), opt.Qwen.Text.VocabSize, opt.CLIP.VocabSize)
	}
	for name, want := range map[string]int{
		"<|endoftext|>": opt.Qwen.BOSTokenID, "<|im_start|>": opt.Qwen.BOSTokenID + 1, "<|im_end|>": opt.Qwen.EOSTokenID,
		"<|vision_start|>": opt.Qwen.VisionStartTokenID, "<|vision_end|>": opt.Qwen.VisionEndTokenID,
		"<|image_pad|>": opt.Qwen.ImageTokenID, "<|video_pad|>": opt.Qwen.VideoTokenID, "<|file_sep|>": opt.Qwen.BOSTokenID + 21,
	} {
		if id, ok := q.ID(name); !ok || int(id) != want {
			t.Errorf("%s is %d, want %d", name, id, want)
		}
	}
	text := "The other station, then the end: Ünïcödé 熊猫 <|im_end|> <tool_call>"
	ids := q.Encode(text)
	if got := q.Decode(ids, false); got != text {
		t.Errorf("round trip gives %q", got)
	}
	if len(q.Encode(" the")) != 1 || len(q.Encode("the")) != 1 || len(c.Encode("the")) != 1 {
		t.Errorf("merges do not work: %v %v %v", q.Encode(" the"), q.Encode("the"), c.Encode("the"))
	}
	for _, tpl := range Templates() {
		p, err := q.EncodePrompt(tpl, "a cat", 256)
		if err != nil || len(p.IDs) != 256+p.Crop {
			t.Fatalf("%s: %d ids, crop %d, %v", tpl.Name, len(p.IDs), p.Crop, err)
		}
		if got := q.Decode(p.IDs[p.Crop-tpl.extraCrop:p.Valid()], true); !strings.HasPrefix(got, "a cat") {
			t.Errorf("%s: after the crop comes %q", tpl.Name, got)
		}
	}
	p, err := c.EncodeCLIP("the cat", opt.CLIP.MaxPositionEmbeddings)
	if err != nil || int(p.IDs[p.Valid()-1]) != opt.CLIP.VocabSize-1 || slices.Max(p.IDs) != p.IDs[p.Valid()-1] {
		t.Errorf("the end token is not the largest id: %v, %v", p.IDs, err)
	}
}

// Qwen's expression alternative by alternative; the look-ahead is tried out by brute force.
func referenceSplit(text string) []string {
	alternatives := []*regexp.Regexp{
		regexp.MustCompile(`^(?i:'s|'t|'re|'ve|'m|'ll|'d)`), regexp.MustCompile(`^[^\r\n\p{L}\p{N}]?\p{L}+`), regexp.MustCompile(`^\p{N}`),
		regexp.MustCompile(`^ ?[^` + space + `\p{L}\p{N}]+[\r\n]*`), regexp.MustCompile(`^[` + space + `]*[\r\n]+`), nil, regexp.MustCompile(`^[` + space + `]+`),
	}
	var out []string
	for text != "" {
		n := -1
		for _, re := range alternatives {
			if re == nil {
				n = lookAhead(text)
			} else if loc := re.FindStringIndex(text); loc != nil {
				n = loc[1]
			}
			if n > 0 {
				break
			}
		}
		out, text = append(out, text[:n]), text[n:]
	}
	return out
}

// space is \s with Unicode: Go's own means ASCII only.
const space = `\t\n\v\f\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`

// lookAhead matches \s+(?!\S), longest first, or returns -1.
func lookAhead(text string) int {
	run := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsSpace(r) })
	if run < 0 {
		run = len(text)
	}
	for ; run > 0; _, run = lastRune(text, run) {
		next, _ := utf8.DecodeRuneInString(text[run:])
		if run == len(text) || unicode.IsSpace(next) {
			return run
		}
	}
	return -1
}

func lastRune(text string, end int) (rune, int) {
	r, size := utf8.DecodeLastRuneInString(text[:end])
	return r, end - size
}

func TestQwenSplitterFollowsTheExpression(t *testing.T) {
	q := &Tokenizer{kind: qwen}
	for _, c := range []struct {
		text string
		want []string
	}{
		{"a  b", []string{"a", " ", " b"}}, {"a   ", []string{"a", "   "}}, {"a \n b", []string{"a", " \n", " b"}}, {"\n\n\n", []string{"\n\n\n"}},
		{"x  \n  y", []string{"x", "  \n", " ", " y"}}, {"It'S we'LL o'clock", []string{"It", "'S", " we", "'LL", " o", "'clock"}},
		{"'sh", []string{"'s", "h"}}, {"'ſx", []string{"'ſ", "x"}}, {"12 3", []string{"1", "2", " ", "3"}}, {" !!\n\nx", []string{" !!\n\n", "x"}},
		{"\tword", []string{"\tword"}}, {"$word", []string{"$word"}}, {"$$word", []string{"$$", "word"}}, {" \u00a0x", []string{" ", "\u00a0x"}},
		{"  1", []string{" ", " ", "1"}}, {"\r\nx", []string{"\r\n", "x"}}, {" ", []string{" "}}, {"é̈", []string{"é", "̈"}},
	} {
		if got := slices.Collect(q.split(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
		if ref := referenceSplit(c.text); !slices.Equal(ref, c.want) {
			t.Errorf("%q: the reference gives %q, the table %q", c.text, ref, c.want)
		}
	}
}

func TestCLIPSplitterFollowsTheExpression(t *testing.T) {
	c := &Tokenizer{kind: clip}
	for text, want := range map[string][]string{
		"a  b":        {"a", "b"},
		"don't it'S":  {"don", "'t", "it", "'s"}, // lowercased first
		"''s":         {"''", "s"},
		"x12!?y":      {"x", "1", "2", "!?", "y"},
		"\u00a0É\t Ü": {"é", "ü"},
		"İ":           {"i", "\u0307"},
	} {
		if got := slices.Collect(c.split(c.normalise(text))); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzSplitters(f *testing.F) {
	for _, s := range []string{"It's  \r\n 12 $x\u00a0 y", "'ſ'K\u2028\u3000\n'lL", "\u0301a\u0308 \t\v\fx", "a b'c'd're 've"} {
		f.Add(s)
	}
	cre := regexp.MustCompile(`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^` + space + `\p{L}\p{N}]+`)
	q, c := &Tokenizer{kind: qwen}, &Tokenizer{kind: clip}
	f.Fuzz(func(t *testing.T, text string) {
		text = validUTF8(text)
		got := slices.Collect(q.split(text))
		if want := referenceSplit(text); !slices.Equal(got, want) {
			t.Fatalf("Qwen %q: %q, want %q", text, got, want)
		}
		if strings.Join(got, "") != text {
			t.Fatalf("Qwen %q: pieces lose text", text)
		}
		if got, want := slices.Collect(c.split(text)), cre.FindAllString(text, -1); !slices.Equal(got, want) {
			t.Fatalf("CLIP %q: %q, want %q", text, got, want)
		}
	})
}

func FuzzEncode(f *testing.F) {
	q, c, _ := synthetic(f)
	for _, s := range []string{"", "the other  then\n", "<|im_end|><|im_start", "\xff\xfe é", "<|startoftext|>x<|ENDOFTEXT|>", "e\u0301<tool_call>\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkEncode(t, q, c, text)
	})
}

func TestMergingIsFastOnLongWords(t *testing.T) {
	q, c, _ := synthetic(t)
	text := strings.Repeat("theother", 50_000)
	start := time.Now()
	n := len(q.Encode(text)) + len(c.Encode(text))
	if took := time.Since(start); took > 5*time.Minute { // quadratic merging would take hours
		t.Errorf("%d ids took %v", n, took)
	}
	if got := q.Decode(q.Encode(text), false); got != text {
		t.Error("a long word does not survive a round trip")
	}
}

// classicMerge is the textbook algorithm: merge every occurrence of the best pair, again and again.
func classicMerge(t *Tokenizer, word string) []int32 {
	var ids []int32
	for i := range len(word) {
		ids = append(ids, t.bytes[0][word[i]])
	}
	for {
		best, found := merge{}, false
		for i := range len(ids) - 1 {
			if m, ok := t.merges[pairKey(ids[i], ids[i+1])]; ok && (!found || m.rank < best.rank) {
				best, found = m, true
			}
		}
		if !found {
			return ids
		}
		for i := 0; i < len(ids)-1; i++ {
			if m, ok := t.merges[pairKey(ids[i], ids[i+1])]; ok && m.rank == best.rank {
				ids = slices.Replace(ids, i, i+2, m.id)
			}
		}
	}
}

func TestMergingAgreesWithTheTextbook(t *testing.T) {
	q, _ := published(t)
	words := append(strings.Fields(videoText+image2videoText), "internationalisation", "aaaaaaaaaaaaaaaa", "ababababab", "антиконституционный", "中华人民共和国", "\u0301\u0301x")
	for _, w := range words {
		for _, word := range []string{w, " " + w} {
			if got, want := q.merge(nil, word), classicMerge(q, word); !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v", word, got, want)
			}
		}
	}
}

func TestLossyReplacesMaximalSubparts(t *testing.T) {
	for in, want := range map[string]string{
		"ok": "ok", "\xff\xff": "\uFFFD\uFFFD", "\xe4\xb8": "\uFFFD", "\xe4\xb8x": "\uFFFDx", "\xf0\x9f\x90": "\uFFFD", "\xf0\x9f\x90\xf0\x9f\x90\x89": "\uFFFD🐉",
		"\xe0\x80\x80": "\uFFFD\uFFFD\uFFFD", "\xed\xa0\x80": "\uFFFD\uFFFD\uFFFD", "\xf4\x90\x80\x80": "\uFFFD\uFFFD\uFFFD\uFFFD", "\xc0\xaf": "\uFFFD\uFFFD",
		"\xf1\x80\x80\xe1\x80\xc2": "\uFFFD\uFFFD\uFFFD", "\xc3": "\uFFFD", "\x80": "\uFFFD", "\uFFFD": "\uFFFD",
	} {
		if got := lossy(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestChatTemplate(t *testing.T) {
	const head, tail = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
	const vision = "<|vision_start|><|image_pad|><|vision_end|>"
	for place, want := range map[ImagePlace]string{NoImage: head + "T" + tail, ImageBefore: head + vision + "T" + tail, ImageAfter: head + "T" + vision + tail} {
		if got := Chat("T", place); got != want {
			t.Errorf("%d: %q, want %q", place, got, want)
		}
	}
	q, _, opt := synthetic(t)
	pad := int32(opt.Qwen.ImageTokenID)
	ids := q.Encode(Chat("T", ImageBefore))
	out, err := q.RepeatImagePads(ids, 486)
	if err != nil || len(out) != len(ids)+485 {
		t.Fatalf("%d ids became %d: %v", len(ids), len(out), err)
	}
	n := 0
	for _, id := range out {
		if id == pad {
			n++
		}
	}
	if n != 486 {
		t.Errorf("%d pads, want 486", n)
	}
	for _, cells := range [][]int{nil, {1, 2}} {
		if _, err := q.RepeatImagePads(ids, cells...); err == nil {
			t.Errorf("one pad and %d images were accepted", len(cells))
		}
	}
}

func TestEncodePromptRefusesImpossibleLengths(t *testing.T) {
	q, c, _ := synthetic(t)
	if _, err := q.EncodePrompt(Video(), "x", 0); err == nil {
		t.Error("a prompt of no tokens was accepted")
	}
	if _, err := c.EncodeCLIP("x", 1); err == nil {
		t.Error("a CLIP sequence of one token was accepted")
	}
	defer func() {
		if recover() == nil {
			t.Error("EncodePrompt on CLIP did not panic")
		}
	}()
	_, _ = c.EncodePrompt(Video(), "x", 10)
}

func BenchmarkEncodePrompt(b *testing.B) {
	q, _ := published(b)
	for b.Loop() {
		if _, err := q.EncodePrompt(Video(), "A red fox runs through the snow, cinematic lighting, 4k", 256); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenQwen(b *testing.B) {
	for b.Loop() {
		published(b)
	}
}
