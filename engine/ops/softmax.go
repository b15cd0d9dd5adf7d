package ops

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// SoftmaxArgs are the operands of Softmax. Both tensors are f32, bf16 or f16, each for itself.
type SoftmaxArgs struct {
	X     engine.Tensor // [..., D]: all leading axes together are rows
	Y     engine.Tensor // like X; may be X itself
	Scale float32       // of x, 1 where zero
	Gain  float32       // what each row of y adds up to, 1 where zero: brings small shares into fp16's range
}

// Softmax records y = gain · exp(scale·x) / Σ exp(scale·x), row by row, in fp32 with one rounding at the end.
func Softmax(s *engine.Stream, a SoftmaxArgs) {
	if s.Err() != nil {
		return
	}
	if !floats(a.X, a.Y) || len(a.X.Shape) == 0 || a.X.Elems() == 0 || a.Y.Elems() != a.X.Elems() || a.Y.Dim(-1) != a.X.Dim(-1) {
		panic(fmt.Sprintf("ops.Softmax: x %v and y %v must be float tensors of one shape, not empty", a.X, a.Y))
	}
	one := func(v float32) float32 {
		if v == 0 {
			return 1
		}
		return v
	}
	caps := s.Device().Caps()
	dim := a.X.Dim(-1)
	rows := int(a.X.Elems() / int64(dim))
	spec := shaders.SoftmaxSpec{XType: uint32(a.X.DType), YType: uint32(a.Y.DType), Vec: dim%4 == 0 && quadAligned(a.X, a.Y)}.Values()
	cost := 8 * float64(dim)
	piece := pieceSize(caps, "Softmax", rows, cost, int64(dim)*a.X.DType.Size(), int64(dim)*a.Y.DType.Size())
	for at := 0; at < rows; at += piece {
		count := min(piece, rows-at)
		push := shaders.SoftmaxPush{Rows: uint32(count), Dim: uint32(dim), Scale: one(a.Scale) * math.Log2E, Gain: one(a.Gain)}
		bind := make([]engine.Tensor, 2)
		bind[0], push.XBase = alignedView(caps, a.X, int64(at)*int64(dim), int64(count)*int64(dim))
		bind[1], push.YBase = alignedView(caps, a.Y, int64(at)*int64(dim), int64(count)*int64(dim))
		s.Dispatch(engine.Call{Shader: shaders.Softmax, Spec: spec, Push: push.Append(nil), Bind: bind, Groups: folded(caps, int64(count)),
			Cost: cost * float64(count), Label: fmt.Sprintf("softmax %dx%d", count, dim)})
	}
}
