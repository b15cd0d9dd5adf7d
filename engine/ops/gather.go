package ops

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Gather records y[n] = table[ids[n]] for rows of D elements: table [V, D] and y [N, D] are f32, bf16 or f16, each for
// itself, ids is u32 [N]. A row whose id is V or more becomes NaN, so that a bad id does not go unnoticed; callers that
// take ids from outside check them first. y must not overlap table. The work is cut over y's rows, and over the table's
// where it is larger than a binding may be.
func Gather(s *engine.Stream, y, table, ids engine.Tensor) {
	if s.Err() != nil {
		return
	}
	if !floats(y, table) || ids.IsZero() || ids.DType != engine.U32 || len(table.Shape) != 2 || table.Elems() == 0 ||
		y.Dim(-1) != table.Dim(1) || y.Elems() != ids.Elems()*int64(table.Dim(1)) {
		panic(fmt.Sprintf("ops.Gather: y %v must be [N, D] for table %v [V, D] and ids %v [N] of u32", y, table, ids))
	}
	caps := s.Device().Caps()
	rows, dim, size := int(ids.Elems()), table.Dim(1), table.Dim(0)
	vec := dim%4 == 0 && quadAligned(y, table)
	g := gather{y: y, table: table, ids: ids, vec: vec, caps: caps}
	cost := 4 * float64(dim)
	rowPiece := pieceSize(caps, "Gather", rows, cost, int64(dim)*y.DType.Size(), 4)
	tablePiece := pieceSize(caps, "Gather", size, 0, int64(dim)*table.DType.Size())
	for at := 0; at < rows; at += rowPiece {
		for first := 0; first < size; first += tablePiece {
			s.Dispatch(g.call(at, min(rowPiece, rows-at), first, min(tablePiece, size-first)))
		}
	}
}

type gather struct {
	y, table, ids engine.Tensor
	vec           bool
	caps          engine.Caps
}

// call looks up rows of y from `at` on in the piece of the table that starts at row first.
func (g gather) call(at, rows, first, tableRows int) engine.Call {
	dim := int64(g.table.Dim(1))
	push := shaders.GatherPush{Rows: uint32(rows), Dim: uint32(dim), FirstId: uint32(first), TableRows: uint32(tableRows), Missing: float32(math.NaN())}
	if first+tableRows == g.table.Dim(0) {
		push.Last = 1
	}
	bind := make([]engine.Tensor, 3)
	bind[0], push.TableBase = alignedView(g.caps, g.table, int64(first)*dim, int64(tableRows)*dim)
	bind[1], push.IdsBase = alignedView(g.caps, g.ids, int64(at), int64(rows))
	bind[2], push.YBase = alignedView(g.caps, g.y, int64(at)*dim, int64(rows)*dim)
	invocations := int64(rows) * dim
	if g.vec {
		invocations /= 4
	}
	return engine.Call{
		Shader: shaders.Gather, Push: push.Append(nil), Bind: bind,
		Spec:   shaders.GatherSpec{TableType: uint32(g.table.DType), YType: uint32(g.y.DType), Vec: g.vec}.Values(),
		Groups: folded(g.caps, (invocations+elementsPerGroup-1)/elementsPerGroup),
		Cost:   4 * float64(rows) * float64(dim), Label: fmt.Sprintf("gather %dx%d", rows, dim),
	}
}
