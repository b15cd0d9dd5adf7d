package ops

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

func TestFractalRowsMatchesReference(t *testing.T) {
	whole := enginetest.Open(t)
	small := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 20 << 10}})
	for _, tt := range []struct {
		grid [3]int
		row  int // elements
		dt   engine.DType
	}{
		{[3]int{1, 8, 8}, 1, engine.F32},
		{[3]int{2, 16, 24}, 3, engine.U32},
		{[3]int{3, 24, 8}, 6, engine.BF16},
		{[3]int{3, 16, 16}, 24, engine.BF16}, // 48 bytes: moved 16 at a time
		{[3]int{2, 8, 32}, 4, engine.F32},
	} {
		for name, d := range map[string]*engine.Device{"whole": whole, "cut": small} {
			for _, inverse := range []bool{false, true} {
				t.Run(fmt.Sprintf("grid %v, rows of %d %v, %s, inverse %v", tt.grid, tt.row, tt.dt, name, inverse), func(t *testing.T) {
					arena := d.NewArena("fractal test")
					defer arena.Release()
					n := tt.grid[0] * tt.grid[1] * tt.grid[2]
					guard := 64 * tt.row
					x := arena.Alloc("x", tt.dt, n, tt.row)
					guarded := arena.Alloc("y", tt.dt, n+128, tt.row)
					if arena.Err() != nil {
						t.Fatal(arena.Err())
					}
					data := make([]byte, x.Bytes())
					size := len(data) / n
					for i := range data {
						data[i] = byte(i/size>>(i%size%3*7) + i%size) // tells rows and places in a row apart
					}
					zone := make([]byte, guarded.Bytes())
					for i := range zone {
						zone[i] = 0x5a
					}
					if err := d.Upload(t.Context(), x, data); err != nil {
						t.Fatal(err)
					}
					if err := d.Upload(t.Context(), guarded, zone); err != nil {
						t.Fatal(err)
					}
					FractalRows(d.Compute(), FractalArgs{X: x, Y: guarded.View(int64(guard), n, tt.row), Grid: tt.grid, Inverse: inverse})
					got, err := d.Download(t.Context(), guarded)
					if err != nil {
						t.Fatal(err)
					}
					for f, raster := range ref.FractalOrder(tt.grid[0], tt.grid[1], tt.grid[2]) {
						from, to := raster, f
						if inverse {
							from, to = f, raster
						}
						copy(zone[(64+to)*size:(65+to)*size], data[from*size:])
					}
					for i := range got {
						if got[i] != zone[i] {
							t.Fatalf("byte %d of row %d is %#x, want %#x", i%size, i/size-64, got[i], zone[i])
						}
					}
				})
			}
		}
	}
}
