package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// GroupNormArgs are the operands of GroupNorm. All tensors are f32, bf16 or f16, each for itself.
type GroupNormArgs struct {
	X            engine.Tensor // [..., C], channels last: all leading axes (time, height, width) are normalised together
	Y            engine.Tensor // like X; may be X itself
	Weight, Bias engine.Tensor // [C]
	Groups       int           // divides C
	Eps          float32
	SiLU         bool // applied to the result
}

// GroupNorm records y = (x − mean)/sqrt(var + eps)·weight + bias, mean and biased variance over a group of channels and
// all places, then SiLU if asked (the autoencoder's GroupNorm; huggingface/diffusers,
// models/autoencoders/autoencoder_kl_hunyuan_video.py).
//
// Statistics are taken in two passes of merged moments in fp32 (never a difference of large sums), over chunks of 256
// rows that do not depend on how the work is cut. x is read twice. Scratch memory of GroupNormScratch bytes is taken from
// the device and given back; when there is none left the stream fails.
func GroupNorm(s *engine.Stream, a GroupNormArgs) {
	if s.Err() != nil {
		return
	}
	m := a.check()
	scratch := s.Device().NewArena("groupnorm")
	defer scratch.Release()
	partial := scratch.Alloc("moments", engine.F32, m.scratch()...)
	stats := scratch.Alloc("statistics", engine.F32, 1, a.Groups, 4)
	if err := scratch.Err(); err != nil {
		s.Fail(fmt.Errorf("group normalisation of %v: %w", a.X, err))
		return
	}
	m.partial(s, "groupnorm", partial)
	mergeMoments(s, "groupnorm", stats, partial, m.chunks(), a.Eps)
	a.apply(s, m, stats)
}

// GroupNormScratch returns the bytes of device memory that GroupNorm needs besides its operands, for rows places.
func GroupNormScratch(rows, groups int) int64 {
	return (int64(ceilDiv(rows, momentsChunk)) + 1) * int64(groups) * 16
}

func (a GroupNormArgs) check() moments {
	bad := func(why string) {
		panic(fmt.Sprintf("ops.GroupNorm: %s: x %v, y %v, weight %v, bias %v, %d groups", why, a.X, a.Y, a.Weight, a.Bias, a.Groups))
	}
	if !floats(a.X, a.Y, a.Weight, a.Bias) || len(a.X.Shape) == 0 || a.X.Elems() == 0 {
		bad("all four must be float tensors that are not empty")
	}
	channels := a.X.Dim(-1)
	if a.Y.Elems() != a.X.Elems() || a.Y.Dim(-1) != channels || !vectorOf(a.Weight, channels) || !vectorOf(a.Bias, channels) {
		bad("y must be shaped like x, weight and bias must hold one float per channel")
	}
	if a.Groups < 1 || channels%a.Groups != 0 {
		bad("the groups must divide the channels")
	}
	return moments{a.X, 1, int(a.X.Elems() / int64(channels)), a.Groups, channels / a.Groups}
}

// apply records the second pass.
func (a GroupNormArgs) apply(s *engine.Stream, m moments, stats engine.Tensor) {
	const rowsPerInvocation = 8
	caps := s.Device().Caps()
	rows, channels := m.segmentRows, int64(a.X.Dim(-1))
	vec := m.groupDim%4 == 0 && quadAligned(a.X, a.Y, a.Weight, a.Bias)
	columns := channels
	if vec {
		columns /= 4
	}
	spec := shaders.GroupnormSpec{XType: uint32(a.X.DType), YType: uint32(a.Y.DType), WeightType: uint32(a.Weight.DType),
		BiasType: uint32(a.Bias.DType), Silu: a.SiLU, Vec: vec, Rows: rowsPerInvocation}.Values()
	cost := 8 * float64(channels)
	piece := pieceSize(caps, "GroupNorm", rows, cost, channels*a.X.DType.Size(), channels*a.Y.DType.Size())
	for at := 0; at < rows; at += piece {
		count := min(piece, rows-at)
		push := shaders.GroupnormPush{Rows: uint32(count), Channels: uint32(channels), GroupDim: uint32(m.groupDim)}
		bind := make([]engine.Tensor, 5)
		bind[0], push.XBase = alignedView(caps, a.X, int64(at)*channels, int64(count)*channels)
		bind[1], push.YBase = alignedView(caps, a.Y, int64(at)*channels, int64(count)*channels)
		bind[2], push.WeightBase = alignedView(caps, a.Weight, 0, channels)
		bind[3], push.BiasBase = alignedView(caps, a.Bias, 0, channels)
		bind[4], push.StatsBase = alignedView(caps, stats, 0, stats.Elems())
		invocations := int64(ceilDiv(count, rowsPerInvocation)) * columns
		s.Dispatch(engine.Call{
			Shader: shaders.Groupnorm, Spec: spec, Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, (invocations+elementsPerGroup-1)/elementsPerGroup),
			Cost:   cost * float64(count), Label: fmt.Sprintf("groupnorm %dx%d", count, channels),
		})
	}
}
