package qwen

import (
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// TestMatchesTheReference holds f32 to a tenth of what models/verify allows it; that runs the case in every precision and
// tier.
func TestMatchesTheReference(t *testing.T) {
	const limit = 1e-5
	g := openGolden(t)
	d := enginetest.OpenWith(t, engine.Options{Tier: engine.TierBase})
	m := g.open(t, d, Options{Precision: load.Float32})
	t.Run("text", func(t *testing.T) { g.compareText(t, d, m, limit) })
	t.Run("picture", func(t *testing.T) { g.comparePicture(t, d, m, limit) })
	t.Run("continuation", func(t *testing.T) { g.compareContinuation(t, m) })
}

func (g *goldenCase) compareText(t *testing.T, d *engine.Device, m *Model, limit float64) {
	p, last := g.text(t)
	unmasked, err := m.Hidden(t.Context(), p.IDs, nil)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "without mask", take(t, d, unmasked), g.floats(t, "f32.last_hidden_state_unmasked"), limit)

	masked, err := m.Hidden(t.Context(), p.IDs, p.Mask)
	if err != nil {
		t.Fatal(err)
	}
	logits, err := m.Logits(t.Context(), masked, []int{last})
	if err != nil {
		t.Fatal(err)
	}
	valid := (last + 1) * m.Config.Text.HiddenSize
	within(t, "valid rows with mask", take(t, d, masked)[:valid], g.floats(t, "f32.last_hidden_state_masked")[:valid], limit)
	within(t, "logits", logits, g.floats(t, "f32.logits_last_valid"), limit)
}

func (g *goldenCase) comparePicture(t *testing.T, d *engine.Device, m *Model, limit float64) {
	p := g.picture(t)
	embeds, err := m.ImageEmbeds(t.Context(), p.Images[0])
	if err != nil {
		t.Fatal(err)
	}
	within(t, "picture", take(t, d, embeds), g.floats(t, "f32.image_embeds"), limit)
	hidden, err := m.Encode(t.Context(), []Prompt{p})
	if err != nil {
		t.Fatal(err)
	}
	logits, err := m.Logits(t.Context(), hidden[0], []int{len(p.IDs) - 1})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "hidden state", take(t, d, hidden[0]), g.floats(t, "f32.image_prompt_hidden"), limit)
	within(t, "logits", logits, g.floats(t, "f32.image_prompt_logits_last"), limit)
}

func (g *goldenCase) compareContinuation(t *testing.T, m *Model) {
	want := g.ints(t, "f32.generated_ids")
	var told [][]int32
	// The reference's ids were chosen without repetition penalty.
	ids, err := m.Generate(t.Context(), g.picture(t), GenerateOptions{Max: len(want), Choose: Chooser(weights.GenerationConfig{RepetitionPenalty: 1}, 1),
		Added: func(ids []int32) { told = append(told, slices.Clone(ids)) }})
	if err != nil {
		t.Fatal(err)
	}
	for n, ids := range told {
		if !slices.Equal(ids, want[:n+1]) {
			t.Errorf("after %d ids %v were told", n+1, ids)
		}
	}
	if len(told) != len(want) {
		t.Errorf("%d ids were told, want %d", len(told), len(want))
	}
	if !slices.Equal(ids, want) {
		p, last := g.text(t)
		other, _ := m.Generate(t.Context(), Prompt{IDs: p.IDs[:last+1]}, GenerateOptions{Max: len(want)})
		t.Errorf("continued with %v, want %v, text %v", ids, want, other)
	}
}
