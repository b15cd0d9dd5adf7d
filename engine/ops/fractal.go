package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// FractalArgs are the operands of FractalRows.
type FractalArgs struct {
	X, Y    engine.Tensor // [T·H·W, …], one type and shape, not overlapping; a row is a multiple of 4 bytes
	Grid    [3]int        // T, H, W in tokens; H and W multiples of 8
	Inverse bool          // X is in fractal order and Y gets raster order
}

// FractalRows records the reordering of tokens for NABLA (kandinsky-5, kandinsky/models/utils.py, fractal_flatten and
// fractal_unflatten): Y holds X's rows in the order that FractalOrder lists: frame by frame, 8x8 patch by patch (patches row by row), row by row of the patch.
// Rows are copied bit by bit. The work is cut between bands of 8 rows of tokens; one band must fit a binding.
// It panics on shapes that do not fit together.
func FractalRows(s *engine.Stream, a FractalArgs) {
	t, h, w := a.Grid[0], a.Grid[1], a.Grid[2]
	if len(a.X.Shape) < 1 || a.X.Dim(0) != t*h*w || a.X.Elems() == 0 || h%8 != 0 || w%8 != 0 ||
		fmt.Sprint(a.X.Shape) != fmt.Sprint(a.Y.Shape) || a.X.DType != a.Y.DType || a.X.Bytes()/int64(t*h*w)%4 != 0 {
		panic(fmt.Sprintf("ops: fractal order: x %v, y %v, grid %v", a.X, a.Y, a.Grid))
	}
	const threads = 128
	caps := s.Device().Caps()
	row := a.X.Bytes() / int64(t*h*w)
	unit := int64(4)
	if row%16 == 0 && vectors(a.X) && vectors(a.Y) {
		unit = 16
	}
	spec := shaders.FractalOrderSpec{Quads: unit == 16, Inverse: a.Inverse}.Values()
	band := int64(8*w) * row // bytes: a multiple of 256, as 64 tokens of 4 bytes are
	bands := t * h / 8
	step := int(min(int64(bands), caps.MaxStorageRange/band, int64(caps.MaxGroups[0])*threads*unit/band))
	if step == 0 {
		s.Fail(fmt.Errorf("ops: fractal order: 8 rows of tokens are %d bytes, more than one dispatch can bind or reach (%d bytes)", band, caps.MaxStorageRange))
		return
	}
	for b := 0; b < bands; b += step {
		n := min(step, bands-b)
		push := shaders.FractalOrderPush{Width: uint32(w), Units: uint32(row / unit), Total: uint32(int64(n) * band / unit)}
		s.Dispatch(engine.Call{
			Shader: shaders.FractalOrder, Spec: spec, Push: push.Append(nil),
			Bind:   []engine.Tensor{a.X.Rows(b*8*w, (b+n)*8*w), a.Y.Rows(b*8*w, (b+n)*8*w)},
			Groups: [3]uint32{(push.Total + threads - 1) / threads, 1, 1},
			Cost:   float64(push.Total), Label: "fractal order",
		})
	}
}
