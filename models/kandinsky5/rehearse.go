package kandinsky5

import (
	"context"
	"log/slog"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/vae"
)

// rehearse begins to compile the kernels of all stages, in the order in which they come, while the first of them read weights: the
// stages run once on a device that computes nothing. What it misses (a prompt that is still to be written out, a smaller plan in
// mid-run) is compiled where it is needed. The caller stops it before the run ends.
func (g *run) rehearse(ctx context.Context) *engine.Compiling {
	p := *g.Pipeline
	p.log, p.dit, p.prints, p.opts = slog.New(slog.DiscardHandler), nil, nil, g.opts
	r := run{asked: g.opts, opts: g.opts, auto: g.auto, plan: g.plan, settings: g.settings, prepared: g.prepared, from: g.from}
	return g.device.Rehearse(ctx, func(ctx context.Context, d *engine.Device) error {
		p.device = d
		r.Pipeline = &p
		r.arena = d.NewArena("clip")
		r.arenas = []*engine.Arena{r.arena}
		err := r.rehearseStages(ctx)
		for _, a := range r.arenas {
			a.Release()
		}
		return oneline.Join(err, p.freeTransformer())
	})
}

func (g *run) rehearseStages(ctx context.Context) error {
	var prompts []dit.Prompt
	var first engine.Tensor
	var err error
	over := g.stepsMade() == g.settings.Steps
	if !over {
		if prompts, err = g.rehearseText(ctx); err != nil {
			return err
		}
	}
	if g.settings.hasFirstFrame() {
		if first, err = g.encodeImage(ctx); err != nil {
			return err
		}
	}
	c := g.settings.Geometry
	latents := g.arena.Alloc("latents", engine.F32, c.LatentFrames, c.LatentHeight, c.LatentWidth, g.ckpt.Config.Model.DiT.InVisualDim)
	if err := g.arena.Err(); err != nil {
		return err
	}
	if !over {
		if err := g.rehearseSteps(ctx, prompts, first, latents); err != nil {
			return err
		}
	}
	return g.rehearseDecode(ctx, latents)
}

// rehearseText is encodeText, whose 4-bit matrices are the real run's to forget.
func (g *run) rehearseText(ctx context.Context) ([]dit.Prompt, error) {
	switch {
	case g.settings.resume != nil:
		return g.restorePrompts(ctx)
	case g.prepared != nil:
		return g.restore(ctx)
	}
	return g.encodeTexts(ctx)
}

// rehearsedSteps are enough: all steps are alike, but with MagCache, which decides about them without looking at numbers.
const rehearsedSteps = 2

// rehearseSteps is loading and denoising.
func (g *run) rehearseSteps(ctx context.Context, prompts []dit.Prompt, first, latents engine.Tensor) error {
	o, err := g.ditOptions()
	if err != nil {
		return err
	}
	if g.dit, err = dit.New(ctx, g.device, g.transformerReader(), g.ckpt.ditConfig(), o); err != nil {
		return err
	}
	s := g.settings
	options := DenoiseOptions{Steps: s.Steps, SchedulerScale: s.SchedulerScale, Guidance: s.Guidance, FirstFrame: first}
	if s.MagCache {
		if options.MagCache, err = NewMagCache(g.ckpt.Config.MagRatios, s.Steps, Guided(s.Guidance)); err != nil {
			return err
		}
	} else {
		options.Steps = min(s.Steps, rehearsedSteps)
	}
	pass, err := g.dit.NewPass(ctx, g.passOptions(prompts, options))
	if err != nil {
		return err
	}
	err = Denoise(ctx, g.device, pass, g.dit, latents, options)
	return oneline.Join(err, pass.Close())
}

func (g *run) rehearseDecode(ctx context.Context, latents engine.Tensor) error {
	if g.opts.Offload {
		if err := g.makeRoom(); err != nil {
			return err
		}
	}
	tiling, err := g.decodeTiling()
	if err != nil {
		return err
	}
	v, err := g.decoder(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	return v.Decode(ctx, latents, g.decodeOptions(tiling), func(vae.Frames) error { return nil })
}
