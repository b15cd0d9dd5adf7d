package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// PatchifyArgs are the operands of Patchify.
type PatchifyArgs struct {
	Latents engine.Tensor // [T, H, W, C1], H and W even
	// CondChannels channels follow: Cond [T, H, W, CondChannels], or zeros when it is none, as in video generation.
	CondChannels int
	Cond         engine.Tensor
	// Mask adds one last channel that is 1 on the first MaskFrames frames and 0 on the others.
	Mask       bool
	MaskFrames int
	// Fractal orders the tokens for NABLA attention: H and W are then multiples of 16.
	Fractal bool
	Y       engine.Tensor // [T·(H/2)·(W/2), 4·(C1 + CondChannels + Mask)]
}

// Patchify records the transformer's input rows, one per patch of 1×2×2 places; inside a row the channel runs fastest:
// (p_h, p_w, channel) (kandinsky-5, kandinsky/models/nn.py, VisualEmbeddings). It is cut over frames.
func Patchify(s *engine.Stream, a PatchifyArgs) {
	if s.Err() != nil {
		return
	}
	channels := a.check()
	frames, height, width := a.Latents.Dim(0), a.Latents.Dim(1), a.Latents.Dim(2)
	place := int64(height) * int64(width)
	caps := s.Device().Caps()
	latent, row := int64(a.Latents.Dim(3)), place*int64(channels)
	bytes := []int64{place * latent * a.Latents.DType.Size(), row * a.Y.DType.Size()}
	if !a.Cond.IsZero() {
		bytes = append(bytes, place*int64(a.CondChannels)*a.Cond.DType.Size())
	}
	mask := uint32(0)
	if a.Mask {
		mask = 1
	}
	piece := pieceSize(caps, "Patchify", frames, 4*float64(row), bytes...)
	for at := 0; at < frames; at += piece {
		count := int64(min(piece, frames-at))
		push := shaders.PatchifyPush{Frames: uint32(count), Height: uint32(height), Width: uint32(width), LatentChannels: uint32(latent),
			CondChannels: uint32(a.CondChannels), MaskChannels: mask, MaskFrames: uint32(a.MaskFrames), FirstFrame: uint32(at)}
		bind := make([]engine.Tensor, 3)
		bind[0], push.LatentsBase = alignedView(caps, a.Latents, int64(at)*place*latent, count*place*latent)
		bind[1], push.CondBase = alignedView(caps, a.Cond, int64(at)*place*int64(a.CondChannels), count*place*int64(a.CondChannels))
		bind[2], push.YBase = alignedView(caps, a.Y, int64(at)*row, count*row)
		s.Dispatch(engine.Call{
			Shader: shaders.Patchify, Push: push.Append(nil), Bind: bind,
			Spec: shaders.PatchifySpec{LatentsType: uint32(a.Latents.DType), CondType: uint32(a.Cond.DType), YType: uint32(a.Y.DType),
				Cond: !a.Cond.IsZero(), Fractal: a.Fractal}.Values(),
			Groups: folded(caps, (count*row+elementsPerGroup-1)/elementsPerGroup),
			Cost:   4 * float64(count*row), Label: fmt.Sprintf("patchify %dx%dx%dx%d", count, height, width, channels),
		})
	}
}

// check returns the number of channels.
func (a PatchifyArgs) check() int {
	bad := func(why string) {
		panic(fmt.Sprintf("ops.Patchify: %s: latents %v, %d channels of cond %v, y %v", why, a.Latents, a.CondChannels, a.Cond, a.Y))
	}
	if !floats(a.Latents, a.Y) || len(a.Latents.Shape) != 4 || a.Latents.Elems() == 0 {
		bad("latents must be floats [T, H, W, C]")
	}
	if !gridFits(a.Latents, a.Fractal) {
		bad("height and width must be even, in fractal order multiples of 16")
	}
	places := a.Latents.Elems() / int64(a.Latents.Dim(3))
	if a.CondChannels < 0 || a.MaskFrames < 0 || !a.Cond.IsZero() && (!floats(a.Cond) || a.Cond.Elems() != places*int64(a.CondChannels)) {
		bad("cond must be floats [T, H, W, CondChannels]")
	}
	channels := a.Latents.Dim(3) + a.CondChannels
	if a.Mask {
		channels++
	}
	if a.Y.Elems() != places*int64(channels) || a.Y.Dim(-1) != 4*channels {
		bad(fmt.Sprintf("y must have a row of %d per token", 4*channels))
	}
	return channels
}

// gridFits tells whether a latent [T, H, W, C] can be cut into patches.
func gridFits(t engine.Tensor, fractal bool) bool {
	unit := 2
	if fractal {
		unit = 16
	}
	return t.Dim(1)%unit == 0 && t.Dim(2)%unit == 0
}
