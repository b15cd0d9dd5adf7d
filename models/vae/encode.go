package vae

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// EncodeOptions say how a video is encoded; the zero value encodes it in one piece, as the reference does a single image.
type EncodeOptions struct {
	Tiling   Tiling
	Progress func(done, total int) // called after each tile, optional
}

// Posterior is a normal distribution of latents, on the device; Free it.
type Posterior struct {
	Moments engine.Tensor // f32 [T', H', W', 2·C]: means, then logarithms of variances, not clamped
	dev     *engine.Device
}

// Normalize converts 8-bit pixels to the encoder's range: x/127.5 − 1.
func Normalize(rgb []byte) []float32 {
	out := make([]float32, len(rgb))
	for i, v := range rgb {
		out[i] = float32(v)/127.5 - 1
	}
	return out
}

// Encode computes the posterior of pixels, a float tensor [T, H, W, 3] with values from −1 to 1; T is 4k + 1, H and W are
// multiples of 8. The encoder must be loaded. When the context ends it returns the context's error and all memory is
// given back.
func (v *VAE) Encode(ctx context.Context, pixels engine.Tensor, o EncodeOptions) (*Posterior, error) {
	if v.encoder == nil {
		return nil, fmt.Errorf("vae: encode: the encoder's weights are not loaded")
	}
	if len(pixels.Shape) != 4 || pixels.Dim(3) != v.config.InChannels || !pixels.DType.IsFloat() {
		return nil, fmt.Errorf("vae: encode: pixels are %v, want floats [T, H, W, %d]", pixels, v.config.InChannels)
	}
	size := Size{pixels.Dim(0), pixels.Dim(1), pixels.Dim(2)}
	if err := firstError(size.check(), o.Tiling.check()); err != nil {
		return nil, err
	}
	z := size.latents()
	moments, err := v.dev.Alloc("autoencoder: posterior", engine.F32, z[0], z[1], z[2], 2*v.config.LatentChannels)
	if err != nil {
		return nil, fmt.Errorf("vae: encode: %w", err)
	}
	if _, err := v.do(ctx, encodeJob(pixels, moments, o), *v.encoder); err != nil {
		v.dev.Free(moments)
		return nil, err
	}
	return &Posterior{Moments: moments, dev: v.dev}, nil
}

func encodeJob(pixels, moments engine.Tensor, o EncodeOptions) job {
	return job{part: encoderPart, in: pixels, gain: 1, tiling: o.Tiling, from: pixelUnit, to: latentUnit, progress: o.Progress,
		emit: func(_ context.Context, n *net, first int, frames []buffer) error {
			for t, f := range frames {
				if !n.planning() {
					to := moments.Rows(first+t, first+t+1).Reshape(f.Shape...)
					ops.CopyRegion(n.stream, to, []int{0, 0, 0}, f.Tensor, []int{0, 0, 0}, f.Shape)
				}
			}
			return nil
		}}
}

// Sample records latents = (mean + exp(clamp(logvar, −30, 20)/2)·noise)·scale into y [T', H', W', C]; noise is a standard
// normal of the same shape, or none for the mean. scale is the configuration's ScalingFactor for latents as the
// diffusion model sees them.
func (p *Posterior) Sample(s *engine.Stream, y, noise engine.Tensor, scale float64) {
	ops.Posterior(s, ops.PosteriorArgs{Moments: p.Moments, Noise: noise, Y: y, Scale: float32(scale)})
}

// Download returns means and logarithms of variances, clamped to [−30, 20], [T', H', W', C] each.
func (p *Posterior) Download(ctx context.Context) (mean, logvar []float32, err error) {
	all, err := p.dev.DownloadF32(ctx, p.Moments)
	if err != nil {
		return nil, nil, err
	}
	c := p.Moments.Dim(3) / 2
	for at := 0; at < len(all); at += 2 * c {
		mean = append(mean, all[at:at+c]...)
		for _, v := range all[at+c : at+2*c] {
			logvar = append(logvar, min(max(v, -30), 20))
		}
	}
	return mean, logvar, nil
}

// Free gives the posterior's memory back. A second call does nothing.
func (p *Posterior) Free() {
	p.dev.Free(p.Moments)
	p.Moments = engine.Tensor{}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
