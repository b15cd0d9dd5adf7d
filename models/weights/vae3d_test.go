package weights_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/models/weights/vae3dtest"
)

// smallVAE writes a random autoencoder in fp16 and returns its folder.
func smallVAE(t *testing.T) string {
	t.Helper()
	o := weights.SmallSynth()
	o.DType = weights.F16
	dir := t.TempDir()
	if err := weights.Synth(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "vae")
}

func openVAE(t *testing.T, path string) *weights.Checkpoint {
	t.Helper()
	c, err := weights.OpenComponent(path, weights.VAE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestVAE3D: a decoder as kandinsky.cpp writes it is the decoder that it was made of, however it is read.
func TestVAE3D(t *testing.T) {
	dir := smallVAE(t)
	path := filepath.Join(t.TempDir(), "vae3d.gguf")
	vae3dtest.Write(t, dir, path)
	whole, half := openVAE(t, dir), openVAE(t, path)
	config, _, err := weights.LoadVAEConfig(weights.Part{Config: filepath.Join(dir, "config.json")}, whole)
	if err != nil {
		t.Fatal(err)
	}
	if whole.DecoderOnly() || !half.DecoderOnly() {
		t.Error("which one has no encoder is not told")
	}
	spec := weights.VAEDecoderSpec(config)
	if err := weights.Check(half, weights.VAESpecOf(half, config)).Err(); err != nil {
		t.Fatal(err)
	}
	if unknown := weights.Check(half, spec).Unexpected; len(unknown) > 0 || len(half.Names()) != len(spec) {
		t.Errorf("%d tensors for %d, unknown are %v", len(half.Names()), len(spec), unknown)
	}
	for _, e := range spec {
		for _, to := range []weights.DType{weights.F16, weights.BF16, weights.F32} {
			if got, want := read(t, half, e, to), read(t, whole, e, to); !bytes.Equal(got, want) {
				t.Errorf("%s as %s differs from the original", e.Name, to)
			}
		}
		a, _ := half.Tensor(e.Name)
		b, _ := whole.Tensor(e.Name)
		if len(e.Shape) == 5 && !slices.Equal(a.Rows(1, 2).Float32s(), b.Rows(1, 2).Float32s()) {
			t.Errorf("rows of %s differ from the original", e.Name)
		}
	}
	if err := half.CheckFinite(t.Context()); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, c *weights.Checkpoint, e weights.Expected, to weights.DType) []byte {
	t.Helper()
	tensor, err := c.Require(e.Name, e.Shape...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, tensor.Elements()*to.Size()), make([]byte, tensor.Elements()*to.Size())
	if err := weights.ConvertTo(a, tensor, to); err != nil {
		t.Fatal(err)
	}
	if err := weights.ConvertFinite(b, tensor, to); err != nil || !bytes.Equal(a, b) {
		t.Errorf("%s: ConvertFinite gives other bytes (error %v)", e.Name, err)
	}
	return a
}

// TestVAE3DInference: without a config.json the shapes say what the decoder is.
func TestVAE3DInference(t *testing.T) {
	dir := smallVAE(t)
	path := filepath.Join(t.TempDir(), "vae3d.gguf")
	vae3dtest.Write(t, dir, path)
	got, _, gotErr := weights.LoadVAEConfig(weights.Part{Path: path}, openVAE(t, path))
	want, _, wantErr := weights.LoadVAEConfig(weights.Part{Path: dir}, openVAE(t, dir))
	if (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
		t.Fatalf("errors %v and %v", gotErr, wantErr)
	}
	if !slices.Equal(got.BlockOutChannels, want.BlockOutChannels) || got.LayersPerBlock != want.LayersPerBlock || got.LatentChannels != want.LatentChannels {
		t.Errorf("%+v, the whole autoencoder gives %+v", got, want)
	}
	found, err := weights.Inspect(path)
	if err != nil || len(found.Components) != 1 || found.Components[0].Component != weights.VAE {
		t.Errorf("inspected as %+v, error %v", found.Components, err)
	}
}

// TestVAE3DRefused: what is no such file is refused in a line that says so.
func TestVAE3DRefused(t *testing.T) {
	for _, c := range []struct {
		name, kind, tensor string
		shape              []int
		want               string
	}{
		{"the picture autoencoder", "vae", "decoder.conv_in.weight", []int{4, 3, 3, 3}, "vae3d.gguf"},
		{"no number", "vae3d", "decoder.conv_in.weight.kdx", []int{4, 3, 3, 3}, "frames in time"},
		{"too long", "vae3d", "decoder.conv_in.weight.kd9", []int{9, 3, 3, 3}, "frames in time"},
		{"rows left over", "vae3d", "decoder.conv_in.weight.kd3", []int{4, 3, 3, 3}, "frames in time"},
		{"too few axes", "vae3d", "decoder.conv_in.weight.kd3", []int{6, 9}, "frames in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vae.gguf")
			info := weights.TensorInfo{Name: c.tensor, DType: weights.F16, Shape: c.shape}
			w, err := weights.CreateGGUF(path, []weights.TensorInfo{info}, []weights.GGUFValue{{Key: "general.architecture", Value: c.kind}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, w.DataBytes())); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := weights.OpenComponent(path, weights.VAE); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
}
