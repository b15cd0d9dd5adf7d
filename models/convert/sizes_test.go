package convert

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// TestSizesAreThoseOfTheFiles converts a small transformer to every type.
func TestSizesAreThoseOfTheFiles(t *testing.T) {
	dir := model(t, weights.BF16)
	found, err := weights.Inspect(filepath.Join(dir, "transformer"))
	if err != nil {
		t.Fatal(err)
	}
	sizes, err := Sizes(found.Components[0].Config.(weights.DiTConfig))
	if err != nil || len(sizes) != len(Types()) {
		t.Fatalf("%d sizes, error %v", len(sizes), err)
	}
	for _, s := range sizes {
		out := filepath.Join(t.TempDir(), "x."+string(s.Format))
		r, err := Run(t.Context(), Options{In: dir, Out: out, Type: s.Type})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(out)
		if err != nil || info.Size() != s.File || r.Bytes != s.File || s.Blocks <= 0 || s.Blocks >= s.File {
			t.Errorf("%s: %d bytes, of which %d of blocks; the file has %d (%v)", s.Type, s.File, s.Blocks, info.Size(), err)
		}
	}
}
