package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// embedded writes a GGUF file that holds the tokenizer of a folder, as kandinsky.cpp does.
func embedded(t *testing.T, dir string) string {
	t.Helper()
	var values []weights.GGUFValue
	for key, name := range map[string]string{weights.GGUFVocab: "vocab.json", weights.GGUFMerges: "merges.txt"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, weights.GGUFValue{Key: key, Value: string(data)})
	}
	path := filepath.Join(t.TempDir(), "encoder.gguf")
	w, err := weights.CreateGGUF(path, nil, values)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTokenizersInGGUFFilesAreThePublishedOnes: what the files leave out is as in the published folders.
func TestTokenizersInGGUFFilesAreThePublishedOnes(t *testing.T) {
	wantQwen, wantCLIP := published(t)
	_, cases := golden(t)
	for name, want := range map[string]*Tokenizer{"qwen": wantQwen, "clip": wantCLIP} {
		path := embedded(t, filepath.Dir(testdata.Shared(t, "tokenizers/"+name+"/vocab.json")))
		open := OpenQwenIn
		if name == "clip" {
			open = OpenCLIPIn
		}
		got, err := open(nil, path)
		if err != nil {
			t.Fatal(err)
		}
		if got.Published() != want.Published() || got.Pad() != want.Pad() || got.Size() != want.Size() {
			t.Errorf("%s: pad %d, size %d, want %d, %d", name, got.Pad(), got.Size(), want.Pad(), want.Size())
		}
		for _, c := range cases {
			for _, text := range []string{c.Text, "<|im_start|>user\n" + c.Text + "<|im_end|><|image_pad|>", "<|startoftext|>" + c.Text + "<|endoftext|>"} {
				ids := want.Encode(text)
				if !slices.Equal(got.Encode(text), ids) || got.Decode(ids, true) != want.Decode(ids, true) {
					t.Errorf("%s: %q differs", name, text)
				}
			}
		}
	}
	if _, err := OpenQwenIn(nil, filepath.Join(t.TempDir(), "none.gguf")); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a file that is not there: %v", err)
	}
}
