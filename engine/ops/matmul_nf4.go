package ops

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// nf4TableBytes is the shared memory of the code points (include/nf4.glsl). Tiles are chosen as if all kernels had them, so
// that a layer has the same tile whether its weights are held in 4 bits or 16.
const nf4TableBytes = 64

// weights returns the rows and columns of w, false where it is no matrix.
func (a MatmulArgs) weights() (n, k int, ok bool) {
	switch {
	case a.W.IsZero():
		return 0, 0, false
	case a.NF4 != nil:
		return a.NF4.Rows, a.NF4.Cols, a.W.DType == engine.U8 && a.W.Elems() == a.NF4.Bytes() && a.NF4.Elements() <= math.MaxUint32
	}
	if !a.W.DType.IsFloat() && !a.bytes() || len(a.W.Shape) != 2 {
		return 0, 0, false
	}
	return a.W.Dim(0), a.W.Dim(1), true
}

// columnsOfW returns how many columns a binding of w holds. A 4-bit matrix is always bound whole.
func (m *matmul) columnsOfW(caps engine.Caps) int {
	if m.NF4 == nil {
		return fits(caps, int64(m.k)*m.W.DType.Size(), m.cols)
	}
	if m.NF4.Bytes() > caps.MaxStorageRange {
		panic(fmt.Sprintf("ops.Matmul: %v has %d bytes, a binding may have %d", *m.NF4, m.NF4.Bytes(), caps.MaxStorageRange))
	}
	return m.cols
}

// part returns what a dispatch of some columns binds of w, and says in push where they are in it.
func (m *matmul) part(push *shaders.MatmulPush, col, cols int) engine.Tensor {
	if m.NF4 == nil {
		return m.W.Rows(col, col+cols)
	}
	push.WFirst = uint32(col) * uint32(m.k)
	push.WScales, push.WCodes = uint32(m.NF4.ScaleWord()), uint32(m.NF4.CodeWord())
	return m.W
}

// variant picks the shader that reads w as it is held.
func (m *matmul) variant(float, quantized string) string {
	if m.NF4 != nil {
		return quantized
	}
	return float
}

// plainShader is the kernel without matrices for many rows.
func (m *matmul) plainShader() string {
	if m.Half {
		return m.variant(shaders.MatmulHalf, shaders.MatmulHalfNf4)
	}
	return m.variant(shaders.Matmul, shaders.MatmulNf4)
}

// wType is the shaders' W_TYPE, which those for 4 bits do not have.
func (m *matmul) wType() uint32 {
	if m.NF4 != nil {
		return 0
	}
	return uint32(m.W.DType)
}

func (m *matmul) plainScales() bool { return m.NF4 != nil && m.NF4.Plain }

// weightName is how w is held, in tuning.
func (m *matmul) weightName() string {
	if m.NF4 != nil {
		return "nf4"
	}
	return m.W.DType.String()
}
