package dit

import (
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Linear layers in int8 change the velocity a little, whether blocks are swapped or not in the same way, and blocks take
// about half the bytes.
func TestLinearLayersInInt8(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	d := enginetest.Open(t)
	prompts, release := madeUpPrompts(t, d, config, 5)
	defer release()
	size := Size{Frames: 3, Height: 8, Width: 12, RopeScale: [3]float32{1, 2, 2}}
	latents, err := d.Alloc("latents", engine.F32, size.Frames, size.Height, size.Width, config.InVisualDim)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(latents)
	values := make([]float32, latents.Elems())
	for k := range values {
		values[k] = float32(math.Sin(float64(k)*1.7) * 1.4)
	}
	if err := d.UploadF32(t.Context(), latents, values); err != nil {
		t.Fatal(err)
	}
	evaluate := func(o Options) ([]float32, int64, load.RoundingReport) {
		m, err := New(t.Context(), d, load.Synthetic(weights.BF16), config, o)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		pass, err := m.NewPass(t.Context(), PassOptions{Size: size, Prompts: prompts, Times: []float32{700}})
		if err != nil {
			t.Fatal(err)
		}
		defer pass.Close()
		v, err := pass.Evaluate(t.Context(), Input{Latents: latents, Time: 700}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Compute().Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		out, err := d.DownloadF32(t.Context(), v[0])
		if err != nil {
			t.Fatal(err)
		}
		return out, m.BlockBytes(), m.Rounding()
	}
	full, fullBytes, none := evaluate(Options{})
	rounded, bytes, report := evaluate(Options{Linear: load.LinearInt8})
	swapped, _, _ := evaluate(Options{Linear: load.LinearInt8, Visual: SwapOptions{Slots: 1}})
	var diff, norm float64
	for k, v := range full {
		if rounded[k] != swapped[k] {
			t.Fatalf("element %d is %g, with blocks swapped %g", k, rounded[k], swapped[k])
		}
		diff += float64(v-rounded[k]) * float64(v-rounded[k])
		norm += float64(v) * float64(v)
	}
	if e := math.Sqrt(diff / norm); !(e > 1e-4 && e < 3e-2) {
		t.Errorf("int8 changes the velocity by %.3g of itself", e)
	}
	// The modulation, [9 D, T], stays as it was.
	modulation := 2 * 9 * int64(config.ModelDim) * int64(config.TimeDim)
	if got, most := bytes-modulation, (fullBytes-modulation)*6/10; got > most {
		t.Errorf("blocks take %d bytes without their modulation, were %d", got, fullBytes-modulation)
	}
	if want := 10 * config.NumVisualBlocks; none.Tensors != 0 || report.Tensors != want || !(report.Error > 1e-3 && report.Error <= report.Worst && report.Worst < 2e-2) {
		t.Errorf("rounding %+v, want %d weights; without it %+v", report, want, none)
	}
}

func TestInt8NeedsMixedPrecision(t *testing.T) {
	d := enginetest.Open(t)
	if m, err := New(t.Context(), d, load.Synthetic(weights.BF16), Config{DiTConfig: weights.SmallSynth().DiT}, Options{Precision: load.Float32, Linear: load.LinearInt8}); err == nil {
		m.Close()
		t.Error("no error")
	}
}
