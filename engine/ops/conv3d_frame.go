package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Conv3DFrameArgs are the operands of one frame of a 3-D convolution whose input frames lie anywhere.
type Conv3DFrameArgs struct {
	X        [3]engine.Tensor // [H, W, C] each, of one type: the frame that every tap in time reads, as many as W has; they may be the same
	W        engine.Tensor    // as in Conv3DArgs; where a doubling in time is folded into it, X repeats one of its three frames
	Bias     engine.Tensor    // [O], optional
	Y        engine.Tensor    // [H', W', O]
	Residual engine.Tensor    // shaped like Y, added to the result; it may be Y itself. Optional
	Stride   [2]int           // rows and columns, 1 or 2; 1 where zero
	Upsample [2]int           // rows and columns are repeated so often, 1 or 2; 1 where zero
	Half     bool             // as in Conv3DArgs
}

// Conv3DFrame records one output frame of Conv3D, for a caller that holds a video frame by frame: only as many input
// frames as the kernel is long must exist at a time. Which frame each tap reads (replication of the first, strides and
// repetition in time) is the caller's choice. The bits are those of Conv3D. It panics when shapes or types do not fit
// each other.
func Conv3DFrame(s *engine.Stream, a Conv3DFrameArgs) {
	frame := func(t engine.Tensor) engine.Tensor {
		if t.IsZero() {
			return t
		}
		return t.Reshape(append([]int{1}, t.Shape...)...)
	}
	inTime := 1
	if len(a.W.Shape) == 7 {
		inTime = a.W.Dim(0)
	}
	full := Conv3DArgs{X: frame(a.X[0]), W: a.W, Bias: a.Bias, Y: frame(a.Y), Residual: frame(a.Residual),
		Stride: [3]int{1, a.Stride[0], a.Stride[1]}, Upsample: [3]int{inTime, a.Upsample[0], a.Upsample[1]}, Half: a.Half}.withDefaults()
	full.check()
	for tap := range full.kernel()[0] {
		if x := a.X[tap]; x.IsZero() || x.DType != a.X[0].DType || fmt.Sprint(x.Shape) != fmt.Sprint(a.X[0].Shape) {
			panic(fmt.Sprintf("ops.Conv3DFrame: the frame of tap %d is %v, of the first %v", tap, x, a.X[0]))
		}
	}
	full.record(s, a.X)
}
