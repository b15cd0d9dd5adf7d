package kandinsky5

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// decode turns latents into frames. Larger tiles give better pictures, so the transformer makes room for them.
func (g *run) decode(ctx context.Context, latents engine.Tensor) (*Clip, error) {
	if g.opts.Offload {
		if err := g.makeRoom(); err != nil {
			return nil, err
		}
	}
	tiling, err := g.decodeTiling()
	if err != nil {
		return nil, err
	}
	g.stats.Tiles, g.rounds.Tiles = tiling.String(), tilesText(tiling.Height, tiling.Width)
	v, err := g.decoder(ctx)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	geometry := g.settings.Geometry
	clip := &Clip{Frames: geometry.Frames, Height: g.settings.Size.Height, Width: g.settings.Size.Width, Pix: make([]uint8, 3*geometry.Frames*g.settings.Size.Height*g.settings.Size.Width)}
	options := g.decodeOptions(tiling)
	options.Progress = func(done, total int) { g.report(StageDecode, done, total) }
	frame := 3 * clip.Height * clip.Width
	g.digest.decoding()
	err = v.Decode(ctx, latents, options, func(f vae.Frames) error {
		if f.Height != clip.Height || f.Width != clip.Width || (f.First+f.Count)*frame > len(clip.Pix) {
			return fmt.Errorf("the decoder made frames %d to %d of %d×%d, the clip has %d of %d×%d", f.First, f.First+f.Count, f.Width, f.Height, clip.Frames, clip.Width, clip.Height)
		}
		here := clip.Pix[f.First*frame : (f.First+f.Count)*frame]
		copy(here, f.RGB)
		g.digest.decoded(here)
		return nil
	})
	return clip, err
}

func (g *run) decodeOptions(t vae.Tiling) vae.DecodeOptions {
	return vae.DecodeOptions{Tiling: t, Gain: float32(1 / g.nets.vaeConfig.ScalingFactor)}
}

// makeRoom takes the transformer from the device. The stage's peak is measured from then on.
func (g *run) makeRoom() error {
	err := oneline.Join(g.freeTransformer(), g.device.Settle())
	g.device.Mem.ResetPeak()
	return err
}

// roomFor takes the transformer from the device where it is in the way of so many bytes.
func (g *run) roomFor(need int64) error {
	budget, left := g.device.Mem.Budget(memory.Device)
	if budget == 0 || need <= left || g.dit == nil {
		return nil
	}
	return g.makeRoom()
}

// decodeTiling chooses the largest tiles that the memory holds, without the transformer where it would be in the way.
func (g *run) decodeTiling() (vae.Tiling, error) {
	if err := g.device.Settle(); err != nil {
		return vae.Tiling{}, err
	}
	model := g.vaeModel()
	size := vae.Size{Frames: g.settings.Geometry.Frames, Height: g.settings.Size.Height, Width: g.settings.Size.Width}
	whole, err := model.FitTiling(size, 1<<62)
	if err != nil {
		return whole, err
	}
	model.Limits.Cut = g.device.Mem.Left()
	need, err := model.DecodeNeed(size, whole, false)
	if err != nil {
		return whole, err
	}
	if budget, _ := g.device.Mem.Budget(memory.Device); budget == 0 {
		return whole, nil
	}
	if err := g.roomFor(need.Bytes()); err != nil {
		return whole, err
	}
	_, left := g.device.Mem.Budget(memory.Device)
	return model.FitTiling(size, left)
}

// roomForImage makes room for encoding the first frame: an earlier clip may have left the transformer on the device.
func (g *run) roomForImage() error {
	size, model := g.settings.Size, g.vaeModel()
	model.Limits.Cut = g.device.Mem.Left()
	need, err := model.EncodeNeed(vae.Size{Frames: 1, Height: size.Height, Width: size.Width}, vae.Tiling{})
	if err != nil {
		return err
	}
	return g.roomFor(need.Bytes() + int64(size.Height)*int64(size.Width)*12)
}

func (g *run) vaeModel() vae.Model {
	return vae.Model{Config: g.nets.vaeConfig, Precision: g.opts.Precision, Stored: g.nets.vaeStored, Limits: vae.LimitsOf(g.device.Caps(), g.opts.Precision)}
}

// storedType is the type of a checkpoint's matrices.
func storedType(c *weights.Checkpoint) weights.DType {
	for _, name := range c.Names() {
		if t, ok := c.Tensor(name); ok && len(t.Shape) > 1 {
			return t.DType
		}
	}
	return weights.F16
}

// decoder loads the autoencoder's decoder; the caller closes it.
func (g *run) decoder(ctx context.Context) (*vae.VAE, error) {
	v, err := vae.New(g.device, g.nets.vaeReader, g.nets.vaeConfig, g.opts.Precision)
	if err != nil {
		return nil, err
	}
	if err := v.LoadDecoder(ctx); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}
