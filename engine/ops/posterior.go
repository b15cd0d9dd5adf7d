package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// PosteriorArgs are the operands of Posterior. All tensors are f32, bf16 or f16, each for itself.
type PosteriorArgs struct {
	Moments engine.Tensor // [..., 2·C]: C means, then C logarithms of variances
	Noise   engine.Tensor // [..., C], standard normal; none: the mean itself
	Y       engine.Tensor // [..., C]
	Scale   float32       // the autoencoder's scaling factor
}

// Posterior records y = (mean + exp(clamp(logvar, −30, 20)/2)·noise)·scale, a sample from the autoencoder's posterior
// (huggingface/diffusers, models/autoencoders/vae.py, DiagonalGaussianDistribution). It is cut over rows.
func Posterior(s *engine.Stream, a PosteriorArgs) {
	if s.Err() != nil {
		return
	}
	channels := a.check()
	rows := int(a.Y.Elems() / channels)
	caps := s.Device().Caps()
	cost := 16 * float64(channels)
	piece := pieceSize(caps, "Posterior", rows, cost, 2*channels*a.Moments.DType.Size(), channels*a.Noise.DType.Size(), channels*a.Y.DType.Size())
	for at := 0; at < rows; at += piece {
		count := int64(min(piece, rows-at))
		push := shaders.PosteriorPush{Rows: uint32(count), Channels: uint32(channels), Scale: a.Scale}
		bind := make([]engine.Tensor, 3)
		bind[0], push.MomentsBase = alignedView(caps, a.Moments, int64(at)*2*channels, count*2*channels)
		bind[1], push.NoiseBase = alignedView(caps, a.Noise, int64(at)*channels, count*channels)
		bind[2], push.YBase = alignedView(caps, a.Y, int64(at)*channels, count*channels)
		s.Dispatch(engine.Call{
			Shader: shaders.Posterior, Push: push.Append(nil), Bind: bind,
			Spec: shaders.PosteriorSpec{MomentsType: uint32(a.Moments.DType), NoiseType: uint32(a.Noise.DType), YType: uint32(a.Y.DType),
				Noise: !a.Noise.IsZero()}.Values(),
			Groups: folded(caps, (count*channels+elementsPerGroup-1)/elementsPerGroup),
			Cost:   cost * float64(count), Label: fmt.Sprintf("posterior %dx%d", count, channels),
		})
	}
}

// check returns the number of channels.
func (a PosteriorArgs) check() int64 {
	if !floats(a.Moments, a.Y) || a.Y.Elems() == 0 || a.Moments.Elems() != 2*a.Y.Elems() || a.Moments.Dim(-1) != 2*a.Y.Dim(-1) ||
		!a.Noise.IsZero() && (!a.Noise.DType.IsFloat() || a.Noise.Elems() != a.Y.Elems()) {
		panic(fmt.Sprintf("ops.Posterior: moments %v must be [..., 2C] for noise %v and y %v [..., C]", a.Moments, a.Noise, a.Y))
	}
	return int64(a.Y.Dim(-1))
}
