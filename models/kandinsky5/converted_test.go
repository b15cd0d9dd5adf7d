package kandinsky5

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/convert"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// convertIn replaces the only checkpoint file of a network's folder by a converted one.
func convertIn(t *testing.T, dir string, c weights.Component, folder, ext string, typ convert.Type) {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(dir, folder, "*.*f*"))
	for _, path := range old {
		if filepath.Ext(path) == ".json" {
			continue
		}
		if _, err = convert.Run(t.Context(), convert.Options{In: dir, Component: c, Out: filepath.Join(dir, folder, "new"+ext), Type: typ}); err == nil {
			err = os.Remove(path)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// madeOf makes a picture from a prompt alone, so that every weight of the transformer has a part in it.
func madeOf(t *testing.T, d *engine.Device, dir string, o Options) []byte {
	t.Helper()
	c := openSmall(t, dir)
	c.Config.Pipeline = configs.T2V
	r := pictureRequest()
	r.Image = nil
	return generate(t, d, c, o, r).Clip.Pix
}

// levelsOff is the root mean square difference of two pictures, in levels of 256.
func levelsOff(a, b []byte) float64 {
	var squares float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		squares += d * d
	}
	return math.Sqrt(squares / float64(len(a)))
}

// TestEveryTypeOfCheckpointMakesNearlyTheSamePicture converts a small model's transformer to each type. The limits are what
// the types differed by when this was written, two and a half times over; random weights of a small network forgive less
// than trained ones of a large one.
func TestEveryTypeOfCheckpointMakesNearlyTheSamePicture(t *testing.T) {
	d, source := enginetest.OpenPlain(t), smallModel(t)
	want := madeOf(t, d, source, Options{})
	limits := map[convert.Type]float64{convert.BF16: 0, convert.F16: 0.5, convert.F32: 0, convert.Int8: 2, convert.FP8: 7.5,
		convert.Q8_0: 3, convert.Q5_1: 7.5, convert.Q5_0: 10, convert.Q4_1: 28, convert.Q4_0: 15}
	for _, typ := range convert.Types() {
		ext := ".gguf"
		if typ == convert.F32 || typ == convert.Int8 || typ == convert.FP8 {
			ext = ".safetensors"
		}
		t.Run(string(typ), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "model")
			if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
				t.Fatal(err)
			}
			convertIn(t, dir, weights.DiT, "transformer", ext, typ)
			got := madeOf(t, d, dir, Options{BlocksInMemory: 2, HostTier: swap.Mapped})
			off := levelsOff(got, want)
			t.Logf("off by %.3f levels", off)
			if limit, ok := limits[typ]; !ok || !(off <= limit) || limit > 1 && off == 0 {
				t.Errorf("the picture is off by %.3f levels, allowed %g", off, limit)
			}
		})
	}
}

// TestTextEncodersInOtherTypes has Qwen and CLIP in GGUF files, and in eight bits with scales.
func TestTextEncodersInOtherTypes(t *testing.T) {
	d, source := enginetest.OpenPlain(t), smallModel(t)
	want := madeOf(t, d, source, Options{})
	for ext, typ := range map[string]convert.Type{".gguf": convert.Q8_0, ".safetensors": convert.Int8} {
		dir := filepath.Join(t.TempDir(), "model")
		if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		convertIn(t, dir, weights.Qwen, "text_encoder", ext, typ)
		convertIn(t, dir, weights.CLIP, "text_encoder_2", ext, typ)
		off := levelsOff(madeOf(t, d, dir, Options{QwenLayersInMemory: 1}), want)
		t.Logf("%s off by %.3f levels", ext, off)
		if off == 0 || off > 3.5 {
			t.Errorf("with text encoders as %s the picture is off by %.3f levels, want something up to 3.5", typ, off)
		}
	}
}
