package dit

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Attention by bytes, full and sparse, differs by their rounding and not more, and not at all however its heads are cut.
func TestSageDiffersByItsRoundingAlone(t *testing.T) {
	d := enginetest.Open(t)
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks, config.FFDim = 1, 1, 128
	size := Size{Frames: 5, Height: 32, Width: 16, RopeScale: [3]float32{1, 2, 2}}
	sparse := config
	sparse.Nabla = &Nabla{P: 0.8, Window: [3]int{3, 3, 3}}
	for name, c := range map[string]Config{"full": config, "sparse": sparse} {
		want := velocityOf(t, d, c, Options{}, size)
		got := velocityOf(t, d, c, Options{Attention: load.AttentionSage}, size)
		var diff, norm float64
		for i, v := range got {
			diff += float64(v-want[i]) * float64(v-want[i])
			norm += float64(want[i]) * float64(want[i])
		}
		// Attention alone errs by a hundredth for scores of deviation 1, and is a part of the stream.
		if rel := math.Sqrt(diff / norm); !(rel < 1e-2) || rel == 0 {
			t.Errorf("%s: relative difference %g", name, rel)
		}
		if groups := velocityOf(t, d, c, Options{Attention: load.AttentionSage, HeadGroups: 2}, size); !slices.Equal(groups, got) {
			t.Errorf("%s: velocities of 2 groups of heads differ", name)
		}
	}
	if _, err := New(t.Context(), d, load.Synthetic(weights.BF16), config, Options{Attention: load.AttentionSage, Precision: load.Float32}); err == nil || !strings.Contains(err.Error(), "mixed") {
		t.Errorf("in fp32: %v", err)
	}
}
