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

// PackedRows returns how many rows a matrix of so many takes in memory when it is packed for linear layers: whole groups of fragments. What
// lies behind its own rows is never used.
func PackedRows(rows int) int { return packedRows(rows, fragmentGroup) }

// Pack records out = x, bf16 [rows, cols], as an operand of Matmul with packed ones, whose columns are a multiple of 128: LeftFragments for X,
// RightFragments for W. out is like x, with memory of PackedRows rows, and must not overlap it. The work is cut by rows.
func Pack(s *engine.Stream, out, x engine.Tensor, order FragmentOrder) {
	rows, cols := x.Dim(0), x.Dim(1)
	step := packStep(s.Device().Caps(), cols)
	for from := 0; from < rows; from += step {
		to := min(from+step, rows)
		packFragments(s, x.Rows(from, to), packedView(out.Rows(from, to)), 1, to-from, cols, fragmentGroup, order)
	}
}

// PackInPlace is Pack of x, of a multiple of 64 rows, into its own memory: as many rows at a time as fit scratch, bf16 of at least 64 rows.
func PackInPlace(s *engine.Stream, x, scratch engine.Tensor, order FragmentOrder) {
	rows, cols := x.Dim(0), x.Dim(1)
	step := min(packStep(s.Device().Caps(), cols), int(scratch.Elems()/int64(cols))/packUnit*packUnit)
	if rows%packUnit != 0 || step < packUnit || scratch.DType != engine.BF16 {
		panic(fmt.Sprintf("ops.PackInPlace: x %v by way of %v", x, scratch))
	}
	for from := 0; from < rows; from += step {
		part := x.Rows(from, min(from+step, rows))
		packed := scratch.View(0, part.Shape...)
		packFragments(s, part, packed, 1, part.Dim(0), cols, fragmentGroup, order)
		s.Copy(part, packed)
	}
}

// fragmentGroup is how many fragments of a packed operand that lie below each other follow each other, GROUP of include/packed.glsl; packUnit is their
// rows, of which cuts of packed operands are a multiple.
const (
	fragmentGroup = 4
	packUnit      = fragmentEdge * fragmentGroup
)

// packStep is how many rows of so many columns are packed by one dispatch.
func packStep(caps engine.Caps, cols int) int {
	most := min(bindRoom(caps)/(int64(cols)*engine.BF16.Size()), int64(caps.MaxDispatchCost/float64(cols)))
	return max(packUnit, int(most)/packUnit*packUnit)
}

// packedView is t, of some rows of a packed matrix, with the memory that they take.
func packedView(t engine.Tensor) engine.Tensor {
	out := t
	out.Shape = []int{PackedRows(t.Dim(0)), t.Dim(1)}
	if out.Offset+out.Bytes() > out.Mem.Size {
		panic(fmt.Sprintf("ops: %v is packed, and has no memory for %d rows", t, out.Dim(0)))
	}
	return out
}

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
