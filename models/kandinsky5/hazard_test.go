package kandinsky5

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// A pass of the transformer with two blocks in memory, of which one slot is streamed through: where compute and copies
// share a queue, as they do on software drivers, more streaming slots have later waits that make up for a missing one.
func TestAPassWithAMissingWaitIsReported(t *testing.T) {
	c := smallCheckpoint(t)
	ckpt, err := c.open(weights.DiT, weights.DiTSpec(c.ditConfig().DiTConfig))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	reader := load.FromCheckpoint(ckpt)
	for _, p := range []struct {
		name   string
		limits engine.TestLimits
		tier   swap.HostTier
	}{
		{"a block is used before its copy", engine.TestLimits{OmitWait: 2}, swap.Pinned},
		{"a block is overwritten during its use", engine.TestLimits{OmitCopyWait: 1}, swap.Pinned},
		{"a mapped block is overwritten during its use", engine.TestLimits{OmitCopyWait: 1}, swap.Mapped},
	} {
		t.Run(p.name, func(t *testing.T) {
			enginetest.PlantedHazard(t, p.limits, enginetest.SeesAll, func(d *engine.Device) { onePass(t, d, reader, c.ditConfig(), p.tier) })
		})
	}
	t.Run("nothing is missing", func(t *testing.T) {
		for _, tier := range []swap.HostTier{swap.Pinned, swap.Mapped} {
			onePass(t, enginetest.OpenPlain(t), reader, c.ditConfig(), tier)
		}
	})
}

// onePass evaluates the transformer once.
func onePass(t *testing.T, d *engine.Device, r load.Reader, config dit.Config, tier swap.HostTier) {
	t.Helper()
	m, err := dit.New(t.Context(), d, r, config, dit.Options{Visual: dit.SwapOptions{Slots: 2, Stream: 1, Tier: tier}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	arena := d.NewArena("test")
	defer arena.Release()
	text := arena.Alloc("text", engine.F32, 3, config.InTextDim)
	latents := arena.Alloc("latents", engine.F32, 1, 4, 4, config.InVisualDim)
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	d.Compute().Fill(text, 0)
	d.Compute().Fill(latents, 0)
	pass, err := m.NewPass(t.Context(), dit.PassOptions{Size: dit.Size{Frames: 1, Height: 4, Width: 4, RopeScale: [3]float32{1, 1, 1}}, Times: []float32{500},
		Prompts: []dit.Prompt{{Text: text, Pooled: make([]float32, config.InTextDim2)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	if _, err := pass.Evaluate(t.Context(), dit.Input{Latents: latents, Time: 500}, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Err(); err != nil {
		t.Error(err)
	}
}
