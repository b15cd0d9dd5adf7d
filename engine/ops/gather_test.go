package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

func gatherCases() []rowCase {
	var out []rowCase
	for _, c := range []struct{ size, dim, n, skip int }{{1, 1, 1, 0}, {50, 64, 77, 0}, {300, 129, 40, 0}, {1000, 96, 385, 4}, {40, 12, 9, 1}} {
		out = append(out, rowCase{fmt.Sprintf("%d of %d rows of %d", c.n, c.size, c.dim), func(b *gemmBench) (got, want, tolerance []float64) {
			types := b.anyTypes(2)
			table := b.values(types[0], c.size*c.dim, 1)
			ids := make([]uint32, c.n)
			for i := range ids {
				ids[i] = uint32(b.rng.IntN(c.size))
			}
			ids[0], ids[c.n-1] = 0, uint32(c.size-1)
			y := b.outputAt(types[1], c.skip, c.n, c.dim)
			ops.Gather(b.dev.Compute(), y, b.amid(types[0], c.skip, table, c.size, c.dim), b.ids(ids))
			for _, id := range ids {
				want = append(want, table[int(id)*c.dim:(int(id)+1)*c.dim]...)
			}
			return b.finish(y), want, exact(types[1], want)
		}})
	}
	return out
}

func (b *gemmBench) ids(ids []uint32) engine.Tensor {
	b.Helper()
	t := b.arena.Alloc("ids", engine.U32, len(ids))
	if err := b.arena.Err(); err != nil {
		b.Fatal(err)
	}
	if err := b.dev.UploadU32(b.Context(), t, ids); err != nil {
		b.Fatal(err)
	}
	return t
}

func TestGatherMatchesReference(t *testing.T) { checkRowCases(t, gatherCases()) }

func TestGatherMarksRowsThatDoNotExist(t *testing.T) {
	dev := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 4096}})
	b := newGemmBench(t, dev, 1)
	table := b.upload(engine.F32, b.values(engine.F32, 100*64, 1), 100, 64) // 25600 bytes: bound in pieces
	ids := []uint32{99, 100, 3, 0xffffffff, 50}
	y := b.output(engine.F32, len(ids), 64)
	ops.Gather(dev.Compute(), y, table, b.ids(ids))
	for i, v := range b.finish(y) {
		if math.IsNaN(v) != (ids[i/64] >= 100) {
			t.Fatalf("row %d (id %d) holds %v", i/64, ids[i/64], v)
		}
	}
}

func TestGatherPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	table, y := b.arena.Alloc("table", engine.F32, 5, 8), b.arena.Alloc("y", engine.F32, 3, 8)
	mustPanic(t, "float ids", func() { ops.Gather(dev.Compute(), y, table, table) })
	mustPanic(t, "too few ids", func() { ops.Gather(dev.Compute(), y, table, b.ids([]uint32{1, 2})) })
}
