package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
)

func published(tb testing.TB) (q, c *Tokenizer) {
	tb.Helper()
	q, err := OpenQwen(filepath.Dir(testdata.Shared(tb, "tokenizers/qwen/vocab.json")))
	if err != nil {
		tb.Fatal(err)
	}
	c, err = OpenCLIP(filepath.Dir(testdata.Shared(tb, "tokenizers/clip/vocab.json")))
	if err != nil {
		tb.Fatal(err)
	}
	return q, c
}

type goldenCase struct {
	Text    string
	Qwen    []int32
	SHA     string `json:"qwen_video_prompt_ids_sha"`
	Valid   int    `json:"qwen_video_prompt_valid"`
	Decoded string `json:"qwen_decode"`
	CLIP    []int32
}

func golden(tb testing.TB) (prefixes map[string][]int, cases []goldenCase) {
	tb.Helper()
	data, err := os.ReadFile(testdata.Shared(tb, "golden/tokenizers.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Prefixes map[string][]int `json:"prefix_token_counts"`
		Cases    []goldenCase
	}
	if err := json.Unmarshal(data, &file); err != nil {
		tb.Fatal(err)
	}
	return file.Prefixes, file.Cases
}

func TestGoldenPromptsGiveTheReferenceIDs(t *testing.T) {
	q, c := published(t)
	_, cases := golden(t)
	if len(cases) != 21 {
		t.Fatalf("%d golden prompts, want 21", len(cases))
	}
	for i, g := range cases {
		t.Run(fmt.Sprintf("%d %.20q", i, g.Text), func(t *testing.T) {
			if got := q.Encode(g.Text); !slices.Equal(got, g.Qwen) {
				t.Errorf("Qwen ids %v, want %v", got, g.Qwen)
			}
			if got := q.Decode(g.Qwen, false); got != g.Decoded {
				t.Errorf("Qwen text %q, want %q", got, g.Decoded)
			}
			p, err := q.EncodePrompt(Video(), g.Text, 256)
			if err != nil || len(p.IDs) != 385 || p.Crop != 129 {
				t.Fatalf("%d ids, crop %d, %v", len(p.IDs), p.Crop, err)
			}
			hash := sha256.New()
			if err := binary.Write(hash, binary.LittleEndian, p.IDs); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(hash.Sum(nil)); got != g.SHA || p.Valid() != g.Valid {
				t.Errorf("video prompt: hash %s, %d valid, want %s, %d", got, p.Valid(), g.SHA, g.Valid)
			}
			pc, err := c.EncodeCLIP(g.Text, 77)
			if err != nil || !slices.Equal(pc.IDs, g.CLIP) {
				t.Errorf("CLIP ids %v, want %v (%v)", pc.IDs, g.CLIP, err)
			}
			if first := slices.Index(g.CLIP, c.eos) + 1; pc.Valid() != first {
				t.Errorf("CLIP mask has %d tokens, want %d", pc.Valid(), first)
			}
		})
	}
}

func TestTemplatesAreTheReferencesToTheByte(t *testing.T) {
	q, _ := published(t)
	counts, _ := golden(t)
	want := map[string]string{
		"video":       "09efacd0c7584e236b605dfa1d8b76e87051f5d4ca99f79243e46cbec993c3bc",
		"image2video": "34c9ab571d1bc007e2da89695c50964604906dfb78f39c37f6a08ba4d7e9cd5b",
		"image":       "04de998d6e835997641241c6d0ec3dc0fab9e8c70f87dccf98333822ccdff04f",
		"image_edit":  "8cd783f4ed62c3dd395209b429809f5fe5ef9fb9ef684bc4d17d611503757db9",
	}
	if len(Templates()) != len(want) {
		t.Fatalf("%d templates, want %d", len(Templates()), len(want))
	}
	for _, tpl := range Templates() {
		t.Run(tpl.Name, func(t *testing.T) {
			if sum := sha256.Sum256([]byte(tpl.Text)); hex.EncodeToString(sum[:]) != want[tpl.Name] {
				t.Errorf("sha256 %x, want %s", sum, want[tpl.Name])
			}
			counted := len(q.Encode(tpl.prefix()))
			if counted != counts[tpl.Name][0] || counted+tpl.extraCrop != tpl.CropStart || q.CropStart(tpl) != tpl.CropStart {
				t.Errorf("%d tokens before the prompt, want %d; crop %d, want %d", counted, counts[tpl.Name][0], q.CropStart(tpl), tpl.CropStart)
			}
		})
	}
}

func TestPublishedVocabulariesAreRecognised(t *testing.T) {
	q, c := published(t)
	if !q.Published() || c.Published() {
		t.Errorf("Qwen published: %v, CLIP: %v", q.Published(), c.Published())
	}
	if q.Size() != 151665 || c.Size() != 49408 || q.Pad() != 151643 || c.Pad() != 49407 || c.bos != 49406 || c.eos != 49407 {
		t.Errorf("sizes %d, %d, pads %d, %d", q.Size(), c.Size(), q.Pad(), c.Pad())
	}
	for name, want := range map[string]int32{"<|im_start|>": 151644, "<|im_end|>": 151645, "<|vision_start|>": 151652, "<|image_pad|>": 151655, "<|file_sep|>": 151664} {
		if id, ok := q.ID(name); !ok || id != want {
			t.Errorf("%s is %d, want %d", name, id, want)
		}
	}
}

func TestCLIPReadsEitherFormOfItsFilesAlike(t *testing.T) {
	_, whole := published(t)
	dir := t.TempDir()
	for _, name := range []string{"vocab.json", "merges.txt", "tokenizer_config.json"} {
		data, err := os.ReadFile(testdata.Shared(t, "tokenizers/clip/"+name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := OpenCLIP(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, cases := golden(t)
	texts := []string{"<|startoftext|> a <|STARTOFTEXT|>", "<|endoftext|><|ENDOFTEXT|>", "İstanbul ΣΑΣ"}
	for _, g := range cases {
		texts = append(texts, g.Text)
	}
	for _, text := range texts {
		if a, b := whole.Encode(text), pair.Encode(text); !slices.Equal(a, b) {
			t.Errorf("%q: %v from tokenizer.json, %v from vocab.json", text, a, b)
		}
	}
}

func TestCLIPFindsOneSpecialTokenInRawAndOneInNormalisedText(t *testing.T) {
	_, c := published(t)
	for text, want := range map[string][]int32{
		"<|startoftext|>": {49406}, "<|StartOfText|>": {49406}, "<|endoftext|>": {49407},
	} {
		if got := c.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if got := c.Encode("<|EndOfText|>"); slices.Contains(got, 49407) {
		t.Errorf("the end token was found in capitals: %v", got)
	}
}

func TestDecodeOfPublishedIDs(t *testing.T) {
	q, c := published(t)
	for _, x := range []struct {
		ids  []int32
		skip bool
		want string
	}{
		{[]int32{151644, 785, 151645, 151643}, true, "The"},
		{[]int32{151644, 785, 151645}, false, "<|im_start|>The<|im_end|>"},
		{[]int32{151657, 785, 151658}, true, "<tool_call>The</tool_call>"}, // added, but not special
		{[]int32{-1, 785, 999999}, true, "The"},
	} {
		if got := q.Decode(x.ids, x.skip); got != x.want {
			t.Errorf("%v: %q, want %q", x.ids, got, x.want)
		}
	}
	if got := c.Decode(c.Encode("A red fox, 4k"), true); got != "a red fox , 4 k" {
		t.Errorf("CLIP text %q", got)
	}
}

func FuzzPublishedVocabularies(f *testing.F) {
	q, c := published(f)
	_, cases := golden(f)
	for _, g := range cases {
		f.Add(g.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkEncode(t, q, c, text)
	})
}

// checkEncode holds what must be true of every text.
func checkEncode(t *testing.T, q, c *Tokenizer, text string) {
	t.Helper()
	want := norm.NFC.String(validUTF8(text))
	ids := q.Encode(text)
	// Added tokens are cut out before normalisation, which may change where they touch.
	if got := q.Decode(ids, false); got != want && !hasAdded(q, ids) {
		t.Fatalf("%q became %q, want %q", text, got, want)
	}
	for _, id := range append(ids, c.Encode(text)...) {
		if id < 0 {
			t.Fatalf("%q: id %d", text, id)
		}
	}
	if p, err := c.EncodeCLIP(text, 77); err != nil || len(p.IDs) != 77 || p.IDs[0] != c.bos || !slices.Contains(p.IDs, c.eos) {
		t.Fatalf("%q: %v, %v", text, p, err)
	}
}
