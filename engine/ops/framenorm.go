package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// FrameNormArgs are the operands of FrameNorm.
type FrameNormArgs struct {
	X engine.Tensor // [T, ...], changed in place
	// Source frames from the first on are changed.
	Source int
	// RefFrom to RefTo (exclusive) are the frames whose common statistics are the aim.
	RefFrom, RefTo int
	// How far the aimed mean may lie below and above a frame's own, and the same for the deviation. The reference uses
	// 0.05, 0.1, 0.1, 0.25: see FirstFrameNorm.
	MeanDown, MeanUp, StdDown, StdUp float32
}

// FirstFrameNorm returns the arguments of image-to-video's last step for latents [T, H, W, C]: the first four frames are
// pulled towards frames four to eight. ok is false for fewer than five frames, which have no reference and stay as
// they are (kandinsky-5, kandinsky/i2v_pipeline.py, normalize_first_frame).
func FirstFrameNorm(latents engine.Tensor) (a FrameNormArgs, ok bool) {
	frames := latents.Dim(0)
	return FrameNormArgs{X: latents, Source: min(4, frames), RefFrom: 4, RefTo: min(9, frames),
		MeanDown: 0.05, MeanUp: 0.1, StdDown: 0.1, StdUp: 0.25}, frames > 4
}

// FrameNorm records, for each source frame with mean μ and deviation s, x ← (x − μ)/s·S' + M', where M' and S' are the
// reference's mean and deviation, clamped to the frame's own surroundings. Deviations are unbiased. A frame of equal
// elements becomes NaN, as in the reference implementation. It takes scratch memory as GroupNorm does.
func FrameNorm(s *engine.Stream, a FrameNormArgs) {
	if s.Err() != nil {
		return
	}
	size := a.check()
	frames := a.X.Dim(0)
	// The last axis is kept as a row so that chunks are runs of rows, whatever the axes in between are.
	channels := a.X.Dim(-1)
	m := moments{a.X, frames, size / channels, 1, channels}
	scratch := s.Device().NewArena("framenorm")
	defer scratch.Release()
	partial := scratch.Alloc("moments", engine.F32, m.scratch()...)
	own := scratch.Alloc("frame statistics", engine.F32, a.Source, 1, 4)
	aim := scratch.Alloc("reference statistics", engine.F32, 1, 1, 4)
	if err := scratch.Err(); err != nil {
		s.Fail(fmt.Errorf("frame normalisation of %v: %w", a.X, err))
		return
	}
	m.partial(s, "framenorm", partial)
	mergeMoments(s, "framenorm", own, partial, m.chunks(), 0)
	mergeMoments(s, "framenorm", aim, partial.Rows(a.RefFrom*m.chunks(), a.RefTo*m.chunks()), (a.RefTo-a.RefFrom)*m.chunks(), 0)
	a.apply(s, size, own, aim)
}

// check returns the elements of a frame.
func (a FrameNormArgs) check() int {
	if !floats(a.X) || len(a.X.Shape) < 2 || a.X.Elems() == 0 || a.Source < 1 || a.Source > a.X.Dim(0) ||
		a.RefFrom < 0 || a.RefTo <= a.RefFrom || a.RefTo > a.X.Dim(0) {
		panic(fmt.Sprintf("ops.FrameNorm: %d source frames and reference frames %d to %d of %v", a.Source, a.RefFrom, a.RefTo, a.X))
	}
	return int(a.X.Elems() / int64(a.X.Dim(0)))
}

func (a FrameNormArgs) apply(s *engine.Stream, size int, own, aim engine.Tensor) {
	caps := s.Device().Caps()
	piece := pieceSize(caps, "FrameNorm", a.Source, 8*float64(size), int64(size)*a.X.DType.Size())
	for at := 0; at < a.Source; at += piece {
		count := int64(min(piece, a.Source-at))
		push := shaders.FramenormPush{Frames: uint32(count), FrameSize: uint32(size), MeanDown: a.MeanDown, MeanUp: a.MeanUp,
			StdDown: a.StdDown, StdUp: a.StdUp}
		bind := make([]engine.Tensor, 3)
		bind[0], push.XBase = alignedView(caps, a.X, int64(at)*int64(size), count*int64(size))
		bind[1], push.FrameBase = alignedView(caps, own, int64(at)*4, count*4)
		bind[2], push.ReferenceBase = alignedView(caps, aim, 0, 4)
		s.Dispatch(engine.Call{
			Shader: shaders.Framenorm, Spec: shaders.FramenormSpec{XType: uint32(a.X.DType)}.Values(), Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, (count*int64(size)+elementsPerGroup-1)/elementsPerGroup),
			Cost:   8 * float64(count) * float64(size), Label: fmt.Sprintf("framenorm %dx%d", count, size),
		})
	}
}
