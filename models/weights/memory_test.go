package weights

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestAModelInMemoryIsTheModelOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	if err := Synth(t.Context(), dir, SmallSynth()); err != nil {
		t.Fatal(err)
	}
	disk, err := FindLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := LayoutIn(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := memory.Require(Components()...); err != nil {
		t.Fatal(err)
	}
	if memory.Kind != DiffusersLayout || memory.Files() == nil || memory.QwenTokenizer != "tokenizer" || memory.CLIPTokenizer != "tokenizer_2" ||
		memory.Scheduler == "" || memory.Generation == "" {
		t.Errorf("%+v", memory)
	}
	for _, c := range Components() {
		want, err := disk.Part(c).Open(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := memory.Part(c).Open(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Names()) != len(want.Names()) || got.Bytes() != want.Bytes() || got.Bytes() == 0 {
			t.Errorf("%s: %d tensors of %d bytes, on disk %d of %d", c, len(got.Names()), got.Bytes(), len(want.Names()), want.Bytes())
		}
		spec, _, from, err := specFor(c, memory.Part(c), got)
		if err != nil || Check(got, spec).Err() != nil || !strings.HasSuffix(from, "/config.json") {
			t.Errorf("%s: configuration from %s, %v", c, from, err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if err := want.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLayoutInNamesWhatIsMissingOrTwice(t *testing.T) {
	one := &fstest.MapFile{Data: []byte("x")}
	l, err := LayoutIn(fstest.MapFS{"vae/a.safetensors": one})
	if err != nil || l.VAE.Path != "vae/a.safetensors" || l.VAE.Config != "" {
		t.Fatalf("%+v, %v", l, err)
	}
	if err := l.Require(VAE, DiT); err == nil || !strings.Contains(err.Error(), "transformer") || strings.Contains(err.Error(), "vae/") {
		t.Errorf("got %v", err)
	}
	if _, err := l.VAE.Open(VAE); err == nil || !strings.Contains(err.Error(), "vae/a.safetensors") {
		t.Errorf("a file of one byte: %v", err)
	}
	if _, err := LayoutIn(fstest.MapFS{"vae/a.safetensors": one, "vae/b.safetensors": one}); err == nil || !strings.Contains(err.Error(), "several") {
		t.Errorf("two files: %v", err)
	}
}
