package convert

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// interrupted converts with Resume until a number of pieces is written.
func interrupted(t *testing.T, o Options, pieces int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	o.Resume, o.Progress = true, func(int64, int64) {
		if calls++; calls == pieces {
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if _, err := os.Stat(o.Out); err == nil {
		t.Fatal("an unfinished file has its name")
	}
}

func TestAnInterruptedConversionGoesOn(t *testing.T) {
	dir := model(t, weights.BF16)
	for typ, ext := range map[Type]string{Int8: ".safetensors", FP8: ".safetensors", Q4_1: ".gguf"} {
		straight := filepath.Join(t.TempDir(), "x"+ext)
		want, err := Run(t.Context(), Options{In: dir, Out: straight, Type: typ})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(straight)
		if err != nil {
			t.Fatal(err)
		}
		for _, pieces := range []int{1, 40, want.Tensors - 5} {
			folder := t.TempDir()
			o := Options{In: dir, Out: filepath.Join(folder, "x"+ext), Type: typ}
			interrupted(t, o, pieces)
			interrupted(t, o, 3)
			o.Resume = true
			got, err := Run(t.Context(), o)
			if err != nil {
				t.Fatalf("%s after %d pieces: %v", typ, pieces, err)
			}
			again, err := os.ReadFile(o.Out)
			if err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s after %d pieces: another file, %v", typ, pieces, err)
			}
			if got.Resumed == 0 || got.SHA256 != want.SHA256 || got.Worst != want.Worst || got.Parameters != want.Parameters ||
				got.Error.Max != want.Error.Max || got.WorstError != want.WorstError || got.Error.RMS < want.Error.RMS*0.999999 || got.Error.RMS > want.Error.RMS*1.000001 {
				t.Errorf("%s after %d pieces: report %+v, want %+v", typ, pieces, got, want)
			}
			if left, _ := os.ReadDir(folder); len(left) != 1 {
				t.Errorf("%s: the folder has %v", typ, left)
			}
		}
	}
}

func TestWhatIsLeftOfAnotherConversionIsNotUsed(t *testing.T) {
	dir := model(t, weights.BF16)
	file := filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")
	for name, change := range map[string]func(o *Options){
		"another type": func(o *Options) { o.Type = BF16 },
		"the source was written again": func(*Options) {
			if err := os.Chtimes(file, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		},
		"the unfinished file is another": func(o *Options) { write(t, o.Out+partialSuffix, strings.Repeat("x", 1<<20)) },
		"the unfinished file is short":   func(o *Options) { shorten(t, o.Out+partialSuffix) },
		"there is no unfinished file":    func(o *Options) { os.Remove(o.Out + partialSuffix) },
		"there is no journal":            func(o *Options) { os.Remove(o.Out + journalSuffix) },
		"the journal is broken":          func(o *Options) { write(t, o.Out+journalSuffix, `{"type":`) },
		"the journal promises too much": func(o *Options) {
			data, err := os.ReadFile(o.Out + journalSuffix)
			if err != nil {
				t.Fatal(err)
			}
			write(t, o.Out+journalSuffix, strings.Replace(string(data), `"tensors":`, `"tensors":1000`, 1))
		},
		"the journal's checksum is broken": func(o *Options) {
			data, err := os.ReadFile(o.Out + journalSuffix)
			if err != nil {
				t.Fatal(err)
			}
			write(t, o.Out+journalSuffix, strings.Replace(string(data), `"sha256_state":"`, `"sha256_state":"AAAA`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{In: dir, Out: filepath.Join(t.TempDir(), "x.safetensors"), Type: Int8}
			interrupted(t, o, 60)
			change(&o)
			o.Resume = true
			got, err := Run(t.Context(), o)
			if err != nil || got.Resumed != 0 {
				t.Fatalf("%d bytes resumed, %v", got.Resumed, err)
			}
			straight, err := Run(t.Context(), Options{In: dir, Out: filepath.Join(t.TempDir(), "y.safetensors"), Type: o.Type})
			if err != nil || straight.SHA256 != got.SHA256 {
				t.Errorf("another file than a conversion at once gives: %v", err)
			}
			if left, _ := os.ReadDir(filepath.Dir(o.Out)); len(left) != 1 {
				t.Errorf("the folder has %v", left)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func shorten(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, 30000); err != nil {
		t.Fatal(err)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"type":"int8","sources":[{"path":"x","bytes":1}],"tensors":1,"sha256_state":"AAAA","lost":{"a":{"count":1}}}`))
	f.Add([]byte(`{"tensors":-1,"lost":{"a":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if j, ok := readJournal(path); ok && (j.Tensors < 1 || j.Lost == nil) {
			t.Errorf("took %+v", j)
		}
	})
}
