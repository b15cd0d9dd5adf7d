package convert

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// TestTextEncodersCarryTheirTokenizers: GGUF files of text encoders hold what kandinsky.cpp's converter writes, and a model's
// folder needs no other tokenizer then.
func TestTextEncodersCarryTheirTokenizers(t *testing.T) {
	dir := model(t, weights.BF16)
	for _, c := range []struct {
		component              weights.Component
		folder, tokenizer, key string
	}{{weights.Qwen, "text_encoder", "tokenizer", "qwen2.block_count"}, {weights.CLIP, "text_encoder_2", "tokenizer_2", "clip.block_count"}} {
		out := filepath.Join(t.TempDir(), "x.gguf")
		if _, err := Run(t.Context(), Options{In: dir, Component: c.component, Out: out, Type: Q8_0}); err != nil {
			t.Fatal(err)
		}
		vocab, merges, err := weights.EmbeddedTokenizer(out)
		wantVocab, vocabErr := os.ReadFile(filepath.Join(dir, c.tokenizer, "vocab.json"))
		wantMerges, mergesErr := os.ReadFile(filepath.Join(dir, c.tokenizer, "merges.txt"))
		if err != nil || vocabErr != nil || mergesErr != nil || !bytes.Equal(vocab, wantVocab) || !bytes.Equal(merges, wantMerges) {
			t.Errorf("%s: another tokenizer (%v, %v, %v)", c.component, err, vocabErr, mergesErr)
		}
		f, err := weights.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		if f.Metadata()[c.key] == "" {
			t.Errorf("%s: the file has no %s", c.component, c.key)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		place := filepath.Join(dir, c.folder, "x.gguf")
		old, err := filepath.Glob(filepath.Join(dir, c.folder, "*.safetensors*"))
		for _, path := range old {
			err = os.Remove(path)
		}
		if err == nil {
			err = os.Rename(out, place)
		}
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, c.tokenizer))
		}
		if err != nil {
			t.Fatal(err)
		}
		l, err := weights.FindLayout(dir)
		if err != nil || c.component == weights.Qwen && l.QwenTokenizer != place || c.component == weights.CLIP && l.CLIPTokenizer != place {
			t.Errorf("%s: tokenizers %q and %q are used, want %q (%v)", c.component, l.QwenTokenizer, l.CLIPTokenizer, place, err)
		}
		again := filepath.Join(t.TempDir(), "again.gguf")
		if _, err := Run(t.Context(), Options{In: dir, Component: c.component, Out: again, Type: Q4_0}); err != nil {
			t.Fatal(err)
		}
		if kept, _, err := weights.EmbeddedTokenizer(again); err != nil || !bytes.Equal(kept, vocab) {
			t.Errorf("%s: converted again, the tokenizer is another (%v)", c.component, err)
		}
	}
}
