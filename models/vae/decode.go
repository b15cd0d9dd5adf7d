package vae

import (
	"bytes"
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// DecodeOptions say how latents are decoded.
type DecodeOptions struct {
	Tiling Tiling
	// Gain multiplies the latents first, 0 meaning 1: the inverse of the configuration's ScalingFactor for latents of the
	// diffusion model.
	Gain float32
	// Float delivers frames as floats, not clamped, instead of bytes.
	Float    bool
	Progress func(done, total int) // called after each tile, optional
}

// Frames are some consecutive frames of a decoded video. The slices are the receiver's.
type Frames struct {
	First, Count, Height, Width int
	RGB                         []byte    // [Count, Height, Width, 3], trunc((clamp(x, −1, 1) + 1)·127.5)
	Float                       []float32 // instead of RGB when DecodeOptions.Float is set
}

// Decode turns latents, a float tensor [T, H, W, C], into 4(T − 1) + 1 frames of 8H × 8W pixels and delivers them in
// order: all of an image, else tile by tile in time as soon as they are final. The decoder must be loaded. An error of
// deliver ends the decoding and is returned; so does the end of the context. Memory is given back in any case.
func (v *VAE) Decode(ctx context.Context, latents engine.Tensor, o DecodeOptions, deliver func(Frames) error) error {
	if v.decoder == nil {
		return fmt.Errorf("vae: decode: the decoder's weights are not loaded")
	}
	if len(latents.Shape) != 4 || latents.Dim(3) != v.config.LatentChannels || !latents.DType.IsFloat() || latents.Elems() == 0 {
		return fmt.Errorf("vae: decode: latents are %v, want floats [T, H, W, %d]", latents, v.config.LatentChannels)
	}
	if err := o.Tiling.check(); err != nil {
		return err
	}
	_, err := v.do(ctx, decodeJob(latents, o, func(ctx context.Context, n *net, f Frames, t engine.Tensor) error {
		return v.send(ctx, n, f, t, o.Float, deliver)
	}), *v.decoder)
	return err
}

// send brings finished frames to the host and delivers them: later, when the next tile is at work, where they fit into
// the memory for results.
func (v *VAE) send(ctx context.Context, n *net, f Frames, t engine.Tensor, floats bool, deliver func(Frames) error) error {
	if v.dev.Rehearsing() {
		return nil
	}
	hand := func(raw []byte) error {
		if !floats {
			f.RGB = raw
			return deliver(f)
		}
		f.Float = make([]float32, len(raw)/4)
		numeric.F32sFromBytes(f.Float, raw)
		return deliver(f)
	}
	if err := n.settle(ctx); err != nil {
		return err
	}
	if !n.back.Holds(t.Bytes()) {
		raw, err := v.dev.Download(ctx, t)
		if err != nil {
			return err
		}
		return hand(raw)
	}
	n.pending = func(ctx context.Context) error {
		raw, err := n.back.Take(ctx)
		if err != nil {
			return err
		}
		return hand(bytes.Clone(raw))
	}
	return n.back.Start(t)
}

// decodeJob gathers finished frames, as bytes or floats, in one tensor for send.
func decodeJob(latents engine.Tensor, o DecodeOptions, send func(context.Context, *net, Frames, engine.Tensor) error) job {
	gain := o.Gain
	if gain == 0 {
		gain = 1
	}
	dt := engine.U8
	if o.Float {
		dt = engine.F32
	}
	return job{part: decoderPart, in: latents, gain: gain, tiling: o.Tiling, from: latentUnit, to: pixelUnit, progress: o.Progress,
		emit: func(ctx context.Context, n *net, first int, frames []buffer) error {
			h, w, c := frames[0].Dim(0), frames[0].Dim(1), frames[0].Dim(2)
			all := video{n.kept.take(dt, len(frames), h, w, c)}
			defer n.kept.put(all.buffer)
			if n.planning() {
				n.hostBytes = max(n.hostBytes, all.Bytes())
				return n.err()
			}
			for t, f := range frames {
				if o.Float {
					n.stream.Copy(all.frame(t), f.Tensor)
				} else {
					ops.Pixels(n.stream, all.frame(t), f.Tensor)
				}
			}
			return send(ctx, n, Frames{First: first, Count: len(frames), Height: h, Width: w}, all.Tensor)
		}}
}
