package dit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// openPacking opens a device on which operands are packed.
func openPacking(t *testing.T, limits engine.TestLimits) *engine.Device {
	t.Helper()
	limits.EmulateFragments = enginetest.Open(t).Caps().Fragments == engine.NoFragments
	return enginetest.OpenWith(t, engine.Options{Limits: limits})
}

// Layers from packed operands sum in another order, which shows in the last bits, and give the same bits however activations are cut and blocks
// are held: those that stay on the device are packed once, others whenever they come, and coded ones whenever they are decoded.
func TestPackedOperandsGiveTheSameVelocity(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks, config.FFDim = 2, 0, 128
	d, scale := openPacking(t, engine.TestLimits{}), [3]float32{1, 2, 2}
	plain := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{NoBFloat16: true}})
	small := openPacking(t, engine.TestLimits{MaxAllocation: 480 << 10, MaxStorageRange: 128 << 10})
	odd, few := Size{Frames: 5, Height: 10, Width: 26, RopeScale: scale}, Size{Frames: 1, Height: 4, Width: 6, RopeScale: scale}
	for _, c := range []struct {
		name string
		size Size
		ways []Options
	}{
		{"odd", odd, []Options{{Visual: SwapOptions{Slots: 1, Tier: swap.Mapped}}, {Visual: SwapOptions{Slots: 1, Host: load.CodedWeights}}}},
		{"few tokens", few, []Options{{HeadGroups: 2, Visual: SwapOptions{Slots: 1}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := velocityOf(t, plain, config, Options{}, c.size)
			got := velocityOf(t, d, config, Options{}, c.size)
			// Both keep activations in bf16, whose roundings differ by 2⁻⁸ at most.
			if rel := distance(got, want); !(rel < 0x1p-8) || rel == 0 && c.size == odd {
				t.Errorf("relative difference %g", rel)
			}
			for _, o := range append(c.ways, Options{HeadGroups: 2}) {
				t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
					if other := velocityOf(t, d, config, o, c.size); !slices.Equal(other, got) {
						t.Error("velocities differ")
					}
				})
			}
			if other := velocityOf(t, small, config, Options{HeadGroups: 2}, c.size); !slices.Equal(other, got) {
				t.Error("velocities of a device that allows little at once differ")
			}
		})
	}
}

// Weights are packed when they come, not for every branch; attention's outputs are for each.
func TestWeightsArePackedWhenTheyCome(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks, config.FFDim = 3, 0, 128
	d := enginetest.OpenWith(t, engine.Options{Timings: true, Limits: engine.TestLimits{EmulateFragments: enginetest.Open(t).Caps().Fragments == engine.NoFragments}})
	if !d.Compute().Timed() {
		t.Skip("the queue has no timestamps")
	}
	prompts, release := madeUpPrompts(t, d, config, 3)
	defer release()
	latents, err := d.Alloc("latents", engine.F32, 5, 10, 26, config.InVisualDim)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(latents)
	d.Compute().Fill(latents, 0x3f800000)
	m, err := New(t.Context(), d, load.Synthetic(weights.BF16), config, Options{Visual: SwapOptions{Slots: 2, Stream: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	pass, err := m.NewPass(t.Context(), PassOptions{Size: Size{Frames: 5, Height: 10, Width: 26, RopeScale: [3]float32{1, 2, 2}}, Times: []float32{500}, Prompts: prompts})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	var first []float32
	for step, packed := range []int{3 * 8, 2 * 8, 2 * 8} { // one block of three stays
		d.Compute().TakeSpans()
		v, err := pass.Evaluate(t.Context(), Input{Latents: latents, MaskFrames: 1, Time: 500}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.DownloadF32(t.Context(), v[1])
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		} else if !slices.Equal(got, first) {
			t.Errorf("step %d gives another velocity", step)
		}
		n := 0
		for _, s := range d.Compute().TakeSpans() {
			if strings.HasPrefix(s.Label, "pack fragments") {
				n++
			}
		}
		if outputs := 3 * 2 * len(prompts); n != packed+outputs {
			t.Errorf("step %d packs %d times, want %d", step, n, packed+outputs)
		}
	}
}
