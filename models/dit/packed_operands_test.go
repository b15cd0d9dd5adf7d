package dit

import (
	"math"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Layers from packed operands sum in another order, which shows in the last bits, and give the same bits however activations are cut.
func TestPackedOperandsGiveTheSameVelocity(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks, config.FFDim = 1, 0, 128
	size := Size{Frames: 4, Height: 32, Width: 32, RopeScale: [3]float32{1, 2, 2}}
	if len(config.packedBuffers(size.Tokens(), 0)) == 0 || len(config.packedBuffers(size.Tokens()-1, 0)) != 0 {
		t.Fatalf("%d tokens are not the fewest that are packed", size.Tokens())
	}
	d := enginetest.Open(t)
	if d.Caps().Fragments == engine.NoFragments {
		d = enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{EmulateFragments: true}})
	}
	plain := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{NoBFloat16: true}})
	want := velocityOf(t, plain, config, Options{}, size)
	got := velocityOf(t, d, config, Options{}, size)
	var diff, norm float64
	for i, v := range got {
		diff += float64(v-want[i]) * float64(v-want[i])
		norm += float64(want[i]) * float64(want[i])
	}
	// Both keep activations in bf16, whose roundings differ by 2⁻⁸ at most.
	if rel := math.Sqrt(diff / norm); !(rel < 0x1p-8) || rel == 0 {
		t.Errorf("relative difference %g", rel)
	}
	if groups := velocityOf(t, d, config, Options{HeadGroups: 2}, size); !slices.Equal(groups, got) {
		t.Error("velocities of 2 groups of heads differ")
	}
}
