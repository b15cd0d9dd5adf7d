package dit

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// Input is what an evaluation starts from.
type Input struct {
	// Latents are [T, H, W, C], any float type. With C the model's whole input width they are taken as they are;
	// otherwise C is in_visual_dim, and a model with visual conditioning gets zeros and the mask appended.
	Latents    engine.Tensor
	MaskFrames int     // frames from the first on whose mask is 1: 1 for image-to-video, 0 for text-to-video
	Time       float32 // one of those that the pass was made for
}

// Skip says what a branch does instead of, or besides, running the visual blocks; see package kandinsky5's MagCache.
type Skip struct {
	Use  engine.Tensor // residual [N, D] to add instead of running the blocks; none: run them
	Save engine.Tensor // where to write what the blocks added; none: nowhere
}

// Evaluate records the velocities of all branches for one input and returns them, F32 [T, H, W, C_out] each, valid until
// the next call. skip is nil or has an entry per branch. All visual blocks are brought to the device once, or not at
// all when every branch skips them. The work is submitted, not waited for. A time that was not among the pass's panics.
func (p *Pass) Evaluate(ctx context.Context, in Input, skip []Skip) ([]engine.Tensor, error) {
	m := p.model
	s := m.device.Compute()
	if skip == nil {
		skip = make([]Skip, len(p.branches))
	}
	run := false
	for k, b := range p.branches {
		if err := p.embed(s, k, b, in); err != nil {
			return nil, err
		}
		if skip[k].Use.IsZero() {
			run = true
			if err := m.device.Upload(ctx, b.ctx, b.condition(in.Time).text); err != nil {
				return nil, err
			}
			if !skip[k].Save.IsZero() {
				b.v.each(func(v engine.Tensor, from, to int) { ops.Affine(s, skip[k].Save.Rows(from, to), v, -1, 0) })
			}
		}
	}
	if run {
		if err := p.visualBlocks(ctx, in.Time, skip); err != nil {
			return nil, err
		}
	}
	out := make([]engine.Tensor, len(p.branches))
	for k, b := range p.branches {
		switch {
		case !skip[k].Use.IsZero():
			b.v.each(func(v engine.Tensor, from, to int) { ops.Add(s, v, v, skip[k].Use.Rows(from, to)) })
		case !skip[k].Save.IsZero():
			b.v.each(func(v engine.Tensor, from, to int) {
				save := skip[k].Save.Rows(from, to)
				ops.Add(s, save, v, save)
			})
		}
		p.output(s, b, b.condition(in.Time).act)
		if err := p.trace(k, "velocity", b.out); err != nil {
			return nil, err
		}
		out[k] = b.out
	}
	_, err := s.Flush()
	return out, err
}

// condition returns what the branch is told at a time.
func (b *branch) condition(time float32) condition {
	c, ok := b.at[time]
	if !ok {
		panic(fmt.Sprintf("dit: the pass was not made for time %g", time))
	}
	return c
}

// embed computes v_0 from the latents.
func (p *Pass) embed(s *engine.Stream, k int, b *branch, in Input) error {
	m, c := p.model, p.model.Config
	channels := in.Latents.Dim(3)
	args := ops.PatchifyArgs{Latents: in.Latents, Fractal: c.Nabla != nil, Y: p.work.patches}
	if extra := c.InputChannels() - channels; extra > 0 {
		if channels != c.InVisualDim {
			return fmt.Errorf("latents of %d channels for a model of %d", channels, c.InVisualDim)
		}
		args.CondChannels, args.Mask, args.MaskFrames = extra-1, true, in.MaskFrames
	}
	ops.Patchify(s, args)
	weight, bias := params{m.outer}.linear("visual_embeddings.in_layer")
	b.v.each(func(v engine.Tensor, from, to int) {
		ops.Matmul(s, ops.MatmulArgs{X: p.work.patches.Rows(from, to), W: weight, Bias: bias, Y: v, Half: m.half})
	})
	return p.traceStream(k, "visual_embed", b.v)
}

func (p *Pass) visualBlocks(ctx context.Context, time float32, skip []Skip) error {
	s := p.model.device.Compute()
	return p.model.visual.each(ctx, s, p.work.h, func(i int, weights load.Params) error {
		for k, b := range p.branches {
			if !skip[k].Use.IsZero() {
				continue
			}
			if err := p.visualBlock(s, params{weights}, k, i, b, b.condition(time).act); err != nil {
				return err
			}
			if err := p.traceStream(k, fmt.Sprintf("visual_block.%d", i), b.v); err != nil {
				return err
			}
		}
		return s.Err()
	})
}

// output computes the velocity from the visual stream.
func (p *Pass) output(s *engine.Stream, b *branch, act engine.Tensor) {
	m, w, d := p.model, &p.work, p.model.Config.ModelDim
	l := layers{s, m, &w.blockWork, params{m.outer}}
	weight, bias := l.weights.linear("out_layer.modulation.out_layer")
	ops.Matmul(s, ops.MatmulArgs{X: act.Reshape(1, m.Config.TimeDim), W: weight, Bias: bias, Y: w.mod.View(0, 1, 2*d)})
	h := l.norm(b.v, modulated{shift: w.mod.View(0, d), scale: w.mod.View(int64(d), d)})
	weight, bias = l.weights.linear("out_layer.out_layer")
	ops.Matmul(s, ops.MatmulArgs{X: h, W: weight, Bias: bias, Y: w.rows, Half: m.half})
	ops.Unpatchify(s, b.out, w.rows, m.Config.Nabla != nil)
}
