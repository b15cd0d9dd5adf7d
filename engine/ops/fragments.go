package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// FragmentOrder is what a packed matrix is to a product; the numbers are those of pack_fragments.comp.
type FragmentOrder uint32

// Orders of fragments.
const (
	LeftFragments  FragmentOrder = iota // left operand
	RightFragments                      // right operand, transposed: rows of the matrix are columns of the operand
	ValueFragments                      // right operand as it is
)

// fragmentEdge is the number of rows and columns of a fragment; packStrip is the columns of a workgroup of pack_fragments.comp.
const (
	fragmentEdge = 16
	packStrip    = 128
)

// fragmentShader is that of a kernel's two variants which the device runs, "" where it has no fragments.
func fragmentShader(caps engine.Caps, matrices, emulated string) string {
	switch caps.Fragments {
	case engine.MatrixFragments:
		return matrices
	case engine.EmulatedFragments:
		return emulated
	}
	return ""
}

// packedRows returns the rows that a matrix of so many has when fragments are packed in groups of so many.
func packedRows(rows, group int) int { return ceilDiv(rows, fragmentEdge*group) * fragmentEdge * group }

// packFragments records out = x, bf16 [heads, rows, cols], in the order of include/fragments.glsl: [heads, packedRows, cols] elements of
// out. out may be x where group is 1, cols 128 and rows a multiple of 16.
func packFragments(s *engine.Stream, x, out engine.Tensor, heads, rows, cols, group int, order FragmentOrder) {
	caps := s.Device().Caps()
	outRows := packedRows(rows, group)
	if x.DType != engine.BF16 || out.DType != engine.BF16 || cols%packStrip != 0 || x.Elems() != int64(heads)*int64(rows)*int64(cols) ||
		out.Elems() < int64(heads)*int64(outRows)*int64(cols) || !vectors(x) || !vectors(out) {
		panic(fmt.Sprintf("ops: pack fragments: x %v, out %v, %d heads of %d rows of %d, groups of %d", x, out, heads, rows, cols, group))
	}
	groups := folded(caps, int64(outRows/fragmentEdge))
	groups[2] = uint32(heads * (cols / packStrip))
	s.Dispatch(engine.Call{
		Shader: shaders.PackFragments,
		Spec:   shaders.PackFragmentsSpec{Cols: uint32(cols), Group: uint32(group), Order: uint32(order)}.Values(),
		Push:   shaders.PackFragmentsPush{Rows: uint32(rows), OutRows: uint32(outRows)}.Append(nil),
		Bind:   []engine.Tensor{x, out}, Groups: groups, Cost: float64(x.Elems()),
		Label: fmt.Sprintf("pack fragments %dx%dx%d", heads, rows, cols),
	})
}
