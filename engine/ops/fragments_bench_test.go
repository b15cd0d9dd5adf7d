package ops

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// measureFragmentTiles measures linear layers from packed operands in every tile, the packing included, and packing alone.
func measureFragmentTiles(b *testing.B, d *engine.Device, rows int) {
	if d.Caps().Fragments == engine.NoFragments {
		return
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, shape := range matrixShapes(rows) {
		k, n := shape[0], shape[1]
		arena := d.NewArena("fragment tiles")
		x, w := arena.Alloc("x", engine.BF16, rows, k), arena.Alloc("w", engine.BF16, n, k)
		a := MatmulArgs{X: x, W: w, Bias: arena.Alloc("bias", engine.F32, n), Y: arena.Alloc("y", engine.BF16, rows, n), Half: true,
			Scratch: arena.Alloc("scratch", engine.U8, int(max(1, MatmulScratch(rows, n, k))))}
		if err := arena.Err(); err != nil {
			b.Fatal(err)
		}
		noise(b, d, x, rng, 1)
		noise(b, d, w, rng, 0.02)
		d.Compute().Fill(a.Bias, 0)
		m := a.check()
		m.plan(d.Caps())
		if m.fragments != nil {
			packing := seconds(b, d, func() {
				m.packColumns(d.Compute(), 0, min(n, m.colStep))
				for row := 0; row < rows; row += m.rowStep {
					m.packRows(d.Compute(), row, min(m.rowStep, rows-row))
				}
			})
			fmt.Printf("packing of %dx(%d→%d): %.2f ms\n", rows, k, n, packing*1e3)
			for _, t := range fragmentTiles {
				again := m
				again.take(d.Caps(), t.name())
				s := seconds(b, d, func() { again.record(d.Compute()) })
				fmt.Printf("matmul from fragments %dx(%d→%d) %s: %.2f ms with packing, %.1f TFLOP/s\n", rows, k, n, t.name(), s*1e3,
					2*float64(rows)*float64(k)*float64(n)/s/1e12)
			}
		}
		arena.Release()
		if err := d.Settle(); err != nil {
			b.Fatal(err)
		}
	}
}
