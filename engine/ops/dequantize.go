package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// DequantizeRun is how many columns of a row share a scale.
const DequantizeRun = 128

// Dequantize records y[r, c] = q[r, c]·scales[r, c/128] for a matrix y [rows, columns] of f32, bf16 or f16 whose columns are a
// multiple of 128: codes is u32 [rows, columns/4], four signed bytes a word, the first in the lowest bits; scales is f32
// [rows, columns/128]. The product is rounded to fp32 and once more on the store. Work is cut over rows.
func Dequantize(s *engine.Stream, y, codes, scales engine.Tensor) {
	if s.Err() != nil {
		return
	}
	if !floats(y, scales) || codes.IsZero() || codes.DType != engine.U32 || scales.DType != engine.F32 || len(y.Shape) != 2 || y.Dim(1)%DequantizeRun != 0 ||
		codes.Elems()*4 != y.Elems() || scales.Elems()*DequantizeRun != y.Elems() || !quadAligned(y) {
		panic(fmt.Sprintf("ops.Dequantize: y %v wants columns in multiples of %d, u32 codes %v for four elements each, and f32 scales %v for %d each",
			y, DequantizeRun, codes, scales, DequantizeRun))
	}
	caps := s.Device().Caps()
	rows, row := y.Dim(0), int64(y.Dim(1))
	cost := 2 * float64(row)
	piece := pieceSize(caps, "Dequantize", rows, cost, row*y.DType.Size(), row, row/DequantizeRun*4)
	for at := 0; at < rows; at += piece {
		first, count := int64(at)*row, int64(min(piece, rows-at))*row
		push := shaders.DequantizePush{Count: uint32(count)}
		bind := make([]engine.Tensor, 3)
		bind[0], push.CodesBase = alignedView(caps, codes, first/4, count/4)
		bind[1], push.ScalesBase = alignedView(caps, scales, first/DequantizeRun, count/DequantizeRun)
		bind[2], push.YBase = alignedView(caps, y, first, count)
		s.Dispatch(engine.Call{
			Shader: shaders.Dequantize, Spec: shaders.DequantizeSpec{YType: uint32(y.DType)}.Values(), Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, (count/4+elementsPerGroup-1)/elementsPerGroup),
			Cost:   cost / float64(row) * float64(count), Label: fmt.Sprintf("dequantize %dx%d", count/row, row),
		})
	}
}
