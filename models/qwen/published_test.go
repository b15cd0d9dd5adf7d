package qwen

import (
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// TestPublishedSizes takes a prompt with a picture through one decoder layer and two vision blocks of the published
// sizes, which the reference case is far below: heads of 128 and 80 channels, seven query heads to a key head, matrices
// larger than a binding, widths that are no multiple of 8. Mixed and f32 use different kernels, and must agree.
func TestPublishedSizes(t *testing.T) {
	config := weights.Qwen7B()
	config.Text.NumHiddenLayers, config.Text.VocabSize = 1, 1000
	config.ImageTokenID = 999
	config.Vision.Depth, config.Vision.FullAttBlockIndexes = 2, []int{1}
	rng := rand.New(rand.NewPCG(5, 6))
	picture := Image{Rows: 4, Cols: 6, Patches: make([]float32, 24*patchElements(config.Vision))}
	for k := range picture.Patches {
		picture.Patches[k] = float32(rng.NormFloat64())
	}
	p := Prompt{Images: []Image{picture}, IDs: []int32{998}}
	for range 6 {
		p.IDs = append(p.IDs, int32(config.ImageTokenID))
	}
	p.IDs = append(p.IDs, 77)
	d := enginetest.Open(t)
	var states, logits [2][]float32
	for k, precision := range []load.Precision{load.Float32, load.Mixed} {
		m, err := New(t.Context(), d, load.Synthetic(weights.BF16), config, Options{Precision: precision})
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := m.Encode(t.Context(), []Prompt{p})
		if err != nil {
			t.Fatal(err)
		}
		if logits[k], err = m.Logits(t.Context(), hidden[0], []int{7}); err != nil {
			t.Fatal(err)
		}
		states[k] = take(t, d, hidden[0])
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	within(t, "states", states[1], states[0], 1e-2)
	within(t, "logits", logits[1], logits[0], 1e-2)
}
