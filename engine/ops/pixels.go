package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Pixels records bytes = trunc((clamp(x, −1, 1) + 1)·127.5), in fp32, in the order of x's elements: channels-last
// [T, H, W, 3] becomes packed RGB. bytes is u8 and holds x's elements rounded up to a multiple of 4 (those past the end
// become 0); it starts at a multiple of 4 bytes. NaN becomes 0 (kandinsky-5, kandinsky/generation_utils.py, generate_sample).
func Pixels(s *engine.Stream, bytes, x engine.Tensor) {
	if s.Err() != nil {
		return
	}
	words := (x.Elems() + 3) / 4
	if !floats(x) || bytes.IsZero() || bytes.DType != engine.U8 || bytes.Bytes() != 4*words || (bytes.Mem.Offset+bytes.Offset)%4 != 0 {
		panic(fmt.Sprintf("ops.Pixels: %v must be u8 with %v's elements rounded up to a multiple of 4", bytes, x))
	}
	if words == 0 {
		return
	}
	caps := s.Device().Caps()
	const unit = 64 // words; keeps x's pieces whole
	units := int((words + unit - 1) / unit)
	piece := int64(pieceSize(caps, "Pixels", units, 16*unit, 4*unit*x.DType.Size()))
	for at := int64(0); at < words; at += piece * unit {
		count := min(piece*unit, words-at)
		elems := min(4*count, x.Elems()-4*at)
		push := shaders.PixelsPush{Count: uint32(elems)}
		bind := make([]engine.Tensor, 2)
		bind[0], push.XBase = alignedView(caps, x, 4*at, elems)
		var base uint32
		bind[1], base = alignedView(caps, bytes, 4*at, 4*count)
		push.YBase = base / 4
		s.Dispatch(engine.Call{
			Shader: shaders.Pixels, Spec: shaders.PixelsSpec{XType: uint32(x.DType)}.Values(), Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, (count+elementsPerGroup-1)/elementsPerGroup),
			Cost:   4 * float64(elems), Label: fmt.Sprintf("pixels %d", elems),
		})
	}
}
