package ops

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// measureFragmentTiles measures linear layers from packed operands in every tile, and the packing of either.
func measureFragmentTiles(b *testing.B, d *engine.Device, rows int) {
	if d.Caps().Fragments == engine.NoFragments {
		return
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, shape := range matrixShapes(rows) {
		k, n := shape[0], shape[1]
		arena := d.NewArena("fragment tiles")
		x, w := arena.Alloc("x", engine.BF16, rows, k), arena.Alloc("w", engine.BF16, n, k)
		packed := arena.Alloc("packed x", engine.BF16, PackedRows(rows), k).Rows(0, rows)
		a := MatmulArgs{X: packed, W: w, Bias: arena.Alloc("bias", engine.F32, n), Y: arena.Alloc("y", engine.BF16, rows, n), Half: true, Packed: true}
		if err := arena.Err(); err != nil {
			b.Fatal(err)
		}
		noise(b, d, x, rng, 1)
		noise(b, d, w, rng, 0.02)
		d.Compute().Fill(a.Bias, 0)
		bytes := func(m, s float64) string {
			return fmt.Sprintf("%.3f ms, %.0f GB/s", s*1e3, m*float64(k)*float64(engine.BF16.Size())/s/1e9)
		}
		s := seconds(b, d, func() { Pack(d.Compute(), packed, x, LeftFragments) })
		fmt.Printf("packing of %d rows of %d: %s\n", rows, k, bytes(2*float64(rows), s))
		s = seconds(b, d, func() { PackInPlace(d.Compute(), w, x, RightFragments) })
		fmt.Printf("packing of %d rows of %d in place: %s\n", n, k, bytes(4*float64(n), s))
		m := a.check()
		m.plan(d.Caps())
		for _, t := range fragmentTiles {
			again := m
			again.take(d.Caps(), t.name())
			s := seconds(b, d, func() { again.record(d.Compute()) })
			fmt.Printf("matmul from fragments %dx(%d→%d) %s: %.2f ms, %.1f TFLOP/s\n", rows, k, n, t.name(), s*1e3,
				2*float64(rows)*float64(k)*float64(n)/s/1e12)
		}
		arena.Release()
		if err := d.Settle(); err != nil {
			b.Fatal(err)
		}
	}
}
