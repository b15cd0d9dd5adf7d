package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Unpatchify records y [T, H, W, C] from the output layer's rows x [T·(H/2)·(W/2), 4·C], in which the channel runs
// slowest: (channel, p_h, p_w), unlike Patchify's rows (kandinsky-5, kandinsky/models/nn.py, OutLayer). With fractal the
// tokens are in NABLA's order and H and W multiples of 16. It is cut over frames.
func Unpatchify(s *engine.Stream, y, x engine.Tensor, fractal bool) {
	if s.Err() != nil {
		return
	}
	if !floats(x, y) || len(y.Shape) != 4 || y.Elems() == 0 || !gridFits(y, fractal) || x.Elems() != y.Elems() || x.Dim(-1) != 4*y.Dim(3) {
		panic(fmt.Sprintf("ops.Unpatchify: y %v must be [T, H, W, C] of even (in fractal order, multiples of 16) H and W, x %v [T·H·W/4, 4·C]", y, x))
	}
	frames, height, width, channels := y.Dim(0), y.Dim(1), y.Dim(2), y.Dim(3)
	frame := int64(height) * int64(width) * int64(channels)
	caps := s.Device().Caps()
	piece := pieceSize(caps, "Unpatchify", frames, 4*float64(frame), frame*x.DType.Size(), frame*y.DType.Size())
	for at := 0; at < frames; at += piece {
		count := int64(min(piece, frames-at))
		push := shaders.UnpatchifyPush{Frames: uint32(count), Height: uint32(height), Width: uint32(width), Channels: uint32(channels)}
		bind := make([]engine.Tensor, 2)
		bind[0], push.XBase = alignedView(caps, x, int64(at)*frame, count*frame)
		bind[1], push.YBase = alignedView(caps, y, int64(at)*frame, count*frame)
		s.Dispatch(engine.Call{
			Shader: shaders.Unpatchify, Push: push.Append(nil), Bind: bind,
			Spec:   shaders.UnpatchifySpec{XType: uint32(x.DType), YType: uint32(y.DType), Fractal: fractal}.Values(),
			Groups: folded(caps, (count*frame+elementsPerGroup-1)/elementsPerGroup),
			Cost:   4 * float64(count*frame), Label: fmt.Sprintf("unpatchify %dx%dx%dx%d", count, height, width, channels),
		})
	}
}
