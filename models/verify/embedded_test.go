package verify

import (
	"bytes"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func embedded(t *testing.T) []EmbeddedCase {
	t.Helper()
	cases, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestEmbeddedCasesAreCutFromTheGoldenFilesUnchanged(t *testing.T) {
	for _, c := range embedded(t) {
		got, err := weights.OpenBytes(c.Name, c.Data)
		if err != nil {
			t.Fatal(err)
		}
		want, err := weights.Open(testdata.Shared(t, "golden/"+c.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer want.Close()
		if len(got.Names()) == 0 {
			t.Errorf("%s is empty", c.Name)
		}
		for _, name := range got.Names() {
			a, _ := got.Tensor(name)
			b, ok := want.Tensor(name)
			if !ok || a.DType != b.DType || !bytes.Equal(a.Data, b.Data) {
				t.Errorf("%s: tensor %s is not the golden file's: run go run ./tools/embedcases GOLDEN_FOLDER", c.Name, name)
			}
		}
	}
}

func TestEmbeddedCasesCoverEveryComponentAndStaySmall(t *testing.T) {
	missing := map[string]bool{"clip": true, "dit": true, "qwen": true, "resize": true, "rng": true, "sampler": true, "tiny": true, "vae": true}
	for _, c := range embedded(t) {
		f, err := weights.OpenBytes(c.Name, c.Data)
		if err != nil {
			t.Fatal(err)
		}
		delete(missing, f.Metadata()["component"])
	}
	if len(missing) > 0 {
		t.Errorf("no embedded case for %v", missing)
	}
	entries, err := embeddedFiles.ReadDir("embedded")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 6500<<10 {
		t.Errorf("the embedded cases take %d bytes, which every copy of the program carries", total)
	}
}
