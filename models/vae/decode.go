package vae

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
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
	_, err := v.do(ctx, decodeJob(latents, o, func(ctx context.Context, f Frames, t engine.Tensor) (err error) {
		if o.Float {
			f.Float, err = v.dev.DownloadF32(ctx, t)
		} else {
			f.RGB, err = v.dev.Download(ctx, t)
		}
		if err != nil {
			return err
		}
		return deliver(f)
	}), *v.decoder)
	return err
}

// decodeJob gathers finished frames, as bytes or floats, in one tensor for send.
func decodeJob(latents engine.Tensor, o DecodeOptions, send func(context.Context, Frames, engine.Tensor) error) job {
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
				return n.err()
			}
			for t, f := range frames {
				if o.Float {
					n.stream.Copy(all.frame(t), f.Tensor)
				} else {
					ops.Pixels(n.stream, all.frame(t), f.Tensor)
				}
			}
			return send(ctx, Frames{First: first, Count: len(frames), Height: h, Width: w}, all.Tensor)
		}}
}
