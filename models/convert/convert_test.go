package convert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/models/weights/nf4test"
)

// model writes a small model of random weights.
func model(t *testing.T, d weights.DType) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "модель")
	o := weights.SmallSynth()
	o.DType = d
	if err := weights.Synth(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, path string, c weights.Component) *weights.Checkpoint {
	t.Helper()
	ckpt, err := weights.OpenComponent(path, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ckpt.Close() })
	return ckpt
}

// rmsOf compares two checkpoints, element by element in float64.
func rmsOf(t *testing.T, old, converted *weights.Checkpoint) (overall, worst float64) {
	t.Helper()
	var squares, values float64
	for _, name := range converted.Names() {
		a, ok := old.Tensor(name)
		b, _ := converted.Tensor(name)
		if !ok {
			t.Fatalf("the new file has a tensor %q", name)
		}
		was, now := a.Float32s(), b.Float32s()
		var s, v float64
		for i := range was {
			d := float64(now[i]) - float64(was[i])
			s, v = s+d*d, v+float64(was[i])*float64(was[i])
		}
		squares, values = squares+s, values+v
		if v > 0 {
			worst = max(worst, math.Sqrt(s/v))
		}
	}
	return math.Sqrt(squares / values), worst
}

// A type with codes evenly spaced at a step has a mean squared error of step²/12. Of normal numbers the largest of 32 is about
// 2.1 standard deviations and the range 4.1; of 128, 2.7. So the step is, in standard deviations, 2.7/127 for int8, 2.1/127
// for q8_0, 2.1/16 and 4.1/31 for q5, 2.1/8 and 4.1/15 for q4; fp8 has a relative error of at most 2⁻⁴, 2⁻⁴/√3 if evenly
// spread. The limits are these with half as much again.
func limitOf(typ Type) float64 {
	evenly := func(step float64) float64 { return 1.5 * step / math.Sqrt(12) }
	switch typ {
	case F16:
		return 0x1p-11
	case Int8:
		return evenly(2.7 / 127)
	case FP8:
		return 1.5 * 0x1p-4 / math.Sqrt(3)
	case Q8_0:
		return evenly(2.1 / 127)
	case Q5_0:
		return evenly(2.1 / 16)
	case Q5_1:
		return evenly(4.1 / 31)
	case Q4_0:
		return evenly(2.1 / 8)
	case Q4_1:
		return evenly(4.1 / 15)
	}
	return 0
}

func TestEveryTypeIsReadBack(t *testing.T) {
	dir := model(t, weights.BF16)
	old := open(t, filepath.Join(dir, "transformer"), weights.DiT)
	for _, typ := range Types() {
		for _, format := range []Format{Safetensors, GGUF} {
			if _, err := formatOf("x."+string(format), typ); err != nil {
				continue
			}
			t.Run(fmt.Sprintf("%s in %s", typ, format), func(t *testing.T) {
				folder := t.TempDir()
				out := filepath.Join(folder, "out."+string(format))
				var last, total int64
				r, err := Run(t.Context(), Options{In: dir, Out: out, Type: typ, Progress: func(d, n int64) { last, total = d, n }})
				if err != nil {
					t.Fatal(err)
				}
				data, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(data)
				if r.SHA256 != hex.EncodeToString(sum[:]) || r.Bytes != int64(len(data)) || last != total || total == 0 {
					t.Errorf("report %+v of a file of %d bytes, sha256 %x; progress %d of %d", r, len(data), sum, last, total)
				}
				got := open(t, out, weights.DiT)
				if len(got.Names()) != len(old.Names()) {
					t.Errorf("%d tensors, the old file has %d", len(got.Names()), len(old.Names()))
				}
				overall, worst := rmsOf(t, old, got)
				if math.Abs(overall-r.Error.RMS) > 1e-6*overall || math.Abs(worst-r.WorstError.RMS) > 1e-6*worst {
					t.Errorf("rms %g, worst %g; the report says %g and %g", overall, worst, r.Error.RMS, r.WorstError.RMS)
				}
				if limit := limitOf(typ); overall > limit || limit > 0.001 && overall < limit/4 {
					t.Errorf("rms %g is not what the type promises, %g", overall, limit)
				}
				if found, err := weights.Inspect(out); err != nil || !found.OK() {
					t.Errorf("inspect: %v %v", found.Problems, err)
				}
				if left, _ := os.ReadDir(folder); len(left) != 1 {
					t.Errorf("the folder has %v", left)
				}
			})
		}
	}
}

// TestAConvertedFileConvertsBack goes from coded files to plain ones: what was lost once is not lost again.
func TestAConvertedFileConvertsBack(t *testing.T) {
	dir := model(t, weights.F32)
	for typ, ext := range map[Type]string{Int8: ".safetensors", FP8: ".safetensors", Q5_1: ".gguf"} {
		coded, plain := filepath.Join(t.TempDir(), "coded"+ext), filepath.Join(t.TempDir(), "plain.safetensors")
		if _, err := Run(t.Context(), Options{In: dir, Out: coded, Type: typ}); err != nil {
			t.Fatal(err)
		}
		r, err := Run(t.Context(), Options{In: coded, Out: plain, Type: F32})
		if err != nil {
			t.Fatal(err)
		}
		if r.Error != (Error{}) || r.Worst != "" {
			t.Errorf("%s to f32 lost %+v", typ, r.Error)
		}
		if overall, _ := rmsOf(t, open(t, coded, weights.DiT), open(t, plain, weights.DiT)); overall != 0 {
			t.Errorf("%s to f32: values differ by %g", typ, overall)
		}
	}
}

func TestOtherNetworks(t *testing.T) {
	dir := model(t, weights.F32)
	for _, c := range []struct {
		component weights.Component
		typ       Type
		ext       string
		left      bool
	}{{weights.Qwen, Int8, ".safetensors", false}, {weights.Qwen, Q8_0, ".gguf", true}, {weights.CLIP, FP8, ".safetensors", false}, {weights.CLIP, Q4_1, ".gguf", false}, {weights.VAE, F16, ".safetensors", false}} {
		out := filepath.Join(t.TempDir(), "x"+c.ext)
		r, err := Run(t.Context(), Options{In: dir, Component: c.component, Out: out, Type: c.typ})
		if err != nil {
			t.Errorf("%s: %v", c.component, err)
			continue
		}
		// Small networks have other head widths than those that are inferred, so their configuration must lie beside them.
		config, err := os.ReadFile(filepath.Join(r.In, "config.json"))
		if err == nil {
			err = os.WriteFile(filepath.Join(filepath.Dir(out), "config.json"), config, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if found, err := weights.Inspect(out); r.Component != c.component || (len(r.LeftOut) > 0) != c.left || err != nil || !found.OK() {
			t.Errorf("%s as %s: %+v %v %v", c.component, c.typ, r, found.Problems, err)
		}
	}
	if _, err := Run(t.Context(), Options{In: dir, Component: weights.VAE, Out: filepath.Join(t.TempDir(), "x.gguf"), Type: F16}); !errors.Is(err, ErrInput) {
		t.Errorf("an autoencoder, whose tensors have five axes, as GGUF: %v", err)
	}
}

// spoiled is a copy of a model's transformer with one value replaced.
func spoiled(t *testing.T, dir string, value float32) string {
	t.Helper()
	ckpt := open(t, filepath.Join(dir, "transformer"), weights.DiT)
	var list []weights.Tensor
	for _, name := range ckpt.Names() {
		tensor, _ := ckpt.Tensor(name)
		if name == "visual_transformer_blocks.3.feed_forward.in_layer.weight" {
			tensor.Data = append([]byte(nil), tensor.Data...)
			binary.LittleEndian.PutUint16(tensor.Data[200:], numeric.BF16FromF32(value))
		}
		list = append(list, tensor)
	}
	path := filepath.Join(t.TempDir(), "spoiled.safetensors")
	if err := weights.WriteFile(path, list, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatCannotBeConvertedIsRefused(t *testing.T) {
	dir := model(t, weights.BF16)
	file := filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")
	for _, c := range []struct {
		name, in, out string
		typ           Type
		component     weights.Component
		want          string
	}{
		{"no ending", dir, "x", BF16, "", ".safetensors or .gguf"},
		{"int8 as GGUF", dir, "x.gguf", Int8, "", "safetensors"},
		{"q4_0 as safetensors", dir, "x.safetensors", Q4_0, "", ".gguf"},
		{"no such file", filepath.Join(dir, "none"), "x.gguf", Q4_0, "", "none"},
		{"a folder of nothing", t.TempDir(), "x.gguf", Q4_0, "", "no .safetensors"},
		{"another network", file, "x.gguf", Q4_0, weights.CLIP, "holds no clip"},
		{"an existing file", dir, "exists.gguf", Q4_0, "", "--overwrite"},
		{"a folder in its place", dir, "folder.gguf", Q4_0, "", "is a folder"},
		{"itself", file, file, F16, "", "overwrite what it is made from"},
		{"NaN", spoiled(t, dir, float32(math.NaN())), "x.gguf", Q8_0, "", "feed_forward.in_layer.weight"},
		{"beyond f16", spoiled(t, dir, 70000), "x.gguf", F16, "", "cannot hold"},
		{"beyond a scale in f16", spoiled(t, dir, 1e30), "x.gguf", Q8_0, "", "cannot hold"},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "exists.gguf"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(folder, "folder.gguf"), 0o700); err != nil {
				t.Fatal(err)
			}
			out := c.out
			if !filepath.IsAbs(out) {
				out = filepath.Join(folder, out)
			}
			_, err := Run(t.Context(), Options{In: c.in, Out: out, Type: c.typ, Component: c.component, Overwrite: c.name == "itself"})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !errors.Is(err, ErrInput) && !errors.Is(err, weights.ErrNotFinite) {
				t.Errorf("error %v, want one of the user's with %q", err, c.want)
			}
			if left, _ := os.ReadDir(folder); len(left) != 2 {
				t.Errorf("the folder has %v", left)
			}
			if data, _ := os.ReadFile(filepath.Join(folder, "exists.gguf")); string(data) != "mine" {
				t.Error("the existing file was changed")
			}
		})
	}
}

func TestOverwriteReplaces(t *testing.T) {
	dir, out := model(t, weights.BF16), filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(out, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{In: dir, Out: out, Type: Q8_0, Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	open(t, out, weights.DiT)
}

func TestACancelledConversionLeavesNothing(t *testing.T) {
	dir, folder := model(t, weights.BF16), t.TempDir()
	for _, typ := range []Type{FP8, Int8, BF16} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		_, err := Run(ctx, Options{In: dir, Out: filepath.Join(folder, "x.safetensors"), Type: typ, Progress: func(int64, int64) {
			if calls++; calls == 20 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", typ, err)
		}
		if left, _ := os.ReadDir(folder); len(left) > 0 {
			t.Errorf("%s: left %v", typ, left)
		}
		cancel()
	}
}

func TestWhichTensorsAreCoded(t *testing.T) {
	matrix := func(name string, shape ...int) weights.Tensor {
		return weights.Tensor{Name: name, DType: weights.F32, Shape: shape}
	}
	const block = "visual_transformer_blocks.5."
	for _, c := range []struct {
		tensor     weights.Tensor
		typ        Type
		format     Format
		wantStored weights.DType
	}{
		{matrix(block+"self_attention.to_query.weight", 512, 512), Int8, Safetensors, weights.I8},
		{matrix(block+"self_attention.to_query.weight", 512, 500), Int8, Safetensors, weights.BF16},
		{matrix(block+"self_attention.to_query.weight", 512, 500), FP8, Safetensors, weights.F8E4M3},
		{matrix(block+"cross_attention.out_layer.weight", 512, 512), FP8, Safetensors, weights.F8E4M3},
		{matrix(block+"feed_forward.in_layer.weight", 512, 512), Int8, Safetensors, weights.I8},
		{matrix(block+"visual_modulation.out_layer.weight", 512, 512), Int8, Safetensors, weights.BF16},
		{matrix(block+"self_attention.query_norm.weight", 64), Int8, Safetensors, weights.F32},
		{matrix(block+"self_attention.to_query.bias", 512), BF16, Safetensors, weights.F32},
		{matrix("text_embeddings.in_layer.weight", 512, 512), FP8, Safetensors, weights.BF16},
		{matrix("out_layer.out_layer.weight", 64, 512), Int8, Safetensors, weights.BF16},
		{matrix("out_layer.out_layer.weight", 64, 512), F16, Safetensors, weights.F16},
		{matrix("model.layers.3.mlp.up_proj.weight", 512, 512), Int8, Safetensors, weights.I8},
		{matrix("model.embed_tokens.weight", 512, 512), Int8, Safetensors, weights.BF16},
		{matrix("out_layer.out_layer.weight", 64, 512), Q8_0, GGUF, weights.Q8_0},
		{matrix("out_layer.out_layer.weight", 64, 512), Q4_0, GGUF, weights.F16},
		{matrix(block+"visual_modulation.out_layer.weight", 512, 512), Q4_0, GGUF, weights.Q4_0},
		{matrix(block+"feed_forward.in_layer.weight", 512, 500), Q4_0, GGUF, weights.F16},
		{matrix(block+"feed_forward.in_layer.weight", 7, 32), Q4_0, GGUF, weights.F32},
		{matrix(block+"self_attention.to_query.bias", 512), F16, GGUF, weights.F32},
	} {
		if got := c.typ.storedAs(c.format, c.tensor); got != c.wantStored {
			t.Errorf("%s %v as %s in %s is stored as %s, want %s", c.tensor.Name, c.tensor.Shape, c.typ, c.format, got, c.wantStored)
		}
	}
}

func TestTypeNames(t *testing.T) {
	for _, typ := range Types() {
		if got, err := ParseType(strings.ToUpper(string(typ))); err != nil || got != typ {
			t.Errorf("%s: %v %v", typ, got, err)
		}
		if typ.dtype() == weights.Invalid {
			t.Errorf("%s has no element type", typ)
		}
	}
	if _, err := ParseType("q4_k"); err == nil || !strings.Contains(err.Error(), "q4_1") {
		t.Errorf("q4_k: %v", err)
	}
}

func TestTheGGUFHeaderSaysTheTransformersShape(t *testing.T) {
	dir, out := model(t, weights.BF16), filepath.Join(t.TempDir(), "x.gguf")
	if _, err := Run(t.Context(), Options{In: dir, Out: out, Type: Q8_0}); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]string{"general.architecture": "kandinsky5-dit", "dit.model_dim": "128", "dit.ff_dim": "256", "dit.time_dim": "64",
		"dit.in_visual_dim": "132", "dit.out_visual_dim": "64", "dit.num_text_blocks": "2", "dit.num_visual_blocks": "6"} {
		if got := f.Metadata()[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestMatricesIn4BitsAreNotConverted(t *testing.T) {
	from, to := filepath.Join(model(t, weights.BF16), "text_encoder"), t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	from, to = filepath.Join(from, "model.safetensors"), filepath.Join(to, "model.safetensors")
	if err := os.Remove(to); err != nil {
		t.Fatal(err)
	}
	nf4test.Write(t, from, to, nf4test.Options{Quantized: func(name string) bool { return strings.HasSuffix(name, "mlp.up_proj.weight") }})
	out := filepath.Join(t.TempDir(), "out.safetensors")
	_, err := Run(t.Context(), Options{In: to, Out: out, Type: BF16, Component: weights.Qwen})
	if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "mlp.up_proj.weight") || !strings.Contains(err.Error(), "4 bits") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there: %v", out, err)
	}
}
