package ref

import "math"

// Pixels turns decoded video into bytes: trunc((clamp(x, −1, 1) + 1)·127.5), 0 for NaN. Unlike the rest of this package
// it computes in float32, because a truncated result shows every rounding.
func Pixels(x []float64) []uint8 {
	y := make([]uint8, len(x))
	for i, v := range x {
		if !math.IsNaN(v) {
			up := float32(math.Min(math.Max(v, -1), 1)) + 1
			y[i] = uint8(float32(up * 127.5))
		}
	}
	return y
}

// Posterior draws from a Gaussian given by rows of `channels` means and as many logarithms of variances (clamped to
// [−30, 20]): (mean + exp(logvar/2)·noise)·scale (huggingface/diffusers, models/autoencoders/vae.py).
func Posterior(moments, noise []float64, channels int, scale float64) []float64 {
	mustHold("Posterior moments", moments, 2*len(noise))
	y := make([]float64, len(noise))
	for i, e := range noise {
		at := i/channels*2*channels + i%channels
		logvar := math.Min(math.Max(moments[at+channels], -30), 20)
		y[i] = (moments[at] + math.Exp(logvar/2)*e) * scale
	}
	return y
}
