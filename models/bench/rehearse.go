package bench

import (
	"context"
	"errors"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/vae"
)

// open brings the transformer to the device.
func (o Options) open(ctx context.Context, d *engine.Device) (*dit.Model, error) {
	return dit.New(ctx, d, o.Weights, kandinsky5.DiTConfig(o.Config), dit.Options{Precision: o.Precision, Linear: o.Linear, Attention: o.Attention, Visual: o.Swap})
}

// newPass makes a pass ready, with packed operands unless memory is too short for them, as a plan has it.
func (o Options) newPass(ctx context.Context, m *dit.Model, prompts []dit.Prompt) (*dit.Pass, error) {
	g := o.Geometry
	size := dit.Size{Frames: g.LatentFrames, Height: g.LatentHeight, Width: g.LatentWidth, RopeScale: kandinsky5.RopeScale(o.Config)}
	options := dit.PassOptions{Size: size, Prompts: prompts, Times: o.times(), Packed: true}
	pass, err := m.NewPass(ctx, options)
	if short := (*memory.BudgetError)(nil); errors.As(err, &short) {
		options.Packed = false
		pass, err = m.NewPass(ctx, options)
	}
	return pass, err
}

// latents takes room for noise.
func (o Options) latents(a *engine.Arena) engine.Tensor {
	g := o.Geometry
	return a.Alloc("latents", engine.F32, g.LatentFrames, g.LatentHeight, g.LatentWidth, o.Config.Model.DiT.InVisualDim)
}

// prompt takes room for an encoded prompt of the full length.
func (o Options) prompt(a *engine.Arena) dit.Prompt {
	return dit.Prompt{Text: a.Alloc("text", engine.F32, o.Config.Model.Qwen.MaxLength, o.Config.Model.DiT.InTextDim),
		Pooled: make([]float32, o.Config.Model.DiT.InTextDim2)}
}

// rehearse is a pass on a device that computes nothing.
func (o Options) rehearse(ctx context.Context, d *engine.Device) error {
	m, err := o.open(ctx, d)
	if err != nil {
		return err
	}
	a := d.NewArena("bench inputs")
	defer a.Release()
	var prompts []dit.Prompt
	for range o.branches() {
		prompts = append(prompts, o.prompt(a))
	}
	latents := o.latents(a)
	if err := a.Err(); err != nil {
		return errors.Join(err, m.Close())
	}
	pass, err := o.newPass(ctx, m, prompts)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	_, err = pass.Evaluate(ctx, dit.Input{Latents: latents, MaskFrames: 1, Time: o.times()[0]}, nil)
	return errors.Join(err, pass.Close(), m.Close())
}

// latents takes room for what is decoded.
func (o VAEOptions) latents(a *engine.Arena) engine.Tensor {
	return a.Alloc("latents", engine.F32, (o.Size.Frames-1)/4+1, o.Size.Height/8, o.Size.Width/8, o.Config.LatentChannels)
}

// rehearse is a decode on a device that computes nothing.
func (o VAEOptions) rehearse(ctx context.Context, d *engine.Device) error {
	v, err := vae.New(d, o.Weights, o.Config, o.Precision)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := v.LoadDecoder(ctx); err != nil {
		return err
	}
	a := d.NewArena("bench latents")
	defer a.Release()
	latents := o.latents(a)
	if err := a.Err(); err != nil {
		return err
	}
	return v.Decode(ctx, latents, vae.DecodeOptions{Tiling: o.Tiling}, func(vae.Frames) error { return nil })
}
