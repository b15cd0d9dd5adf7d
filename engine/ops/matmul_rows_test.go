package ops_test

import (
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// A head-major result may be written piece by piece: each leaves the rows of the others alone.
func TestMatmulWritesRowsOfHeads(t *testing.T) {
	const m, n, k, dim = 200, 96, 64, 32
	d := enginetest.Open(t)
	arena := d.NewArena("test")
	defer arena.Release()
	x, w := arena.Alloc("x", engine.BF16, m, k), arena.Alloc("w", engine.BF16, n, k)
	whole, pieces := arena.Alloc("whole", engine.BF16, n/dim, m, dim), arena.Alloc("pieces", engine.BF16, n/dim, m, dim)
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	for _, tensor := range []engine.Tensor{x, w} {
		values := make([]float32, tensor.Elems())
		for i := range values {
			values[i] = float32(i%23)/23 - 0.5
		}
		if err := d.UploadF32(t.Context(), tensor, values); err != nil {
			t.Fatal(err)
		}
	}
	s := d.Compute()
	ops.Matmul(s, ops.MatmulArgs{X: x, W: w, Y: whole, HeadDim: dim})
	for from := 0; from < m; from += 64 {
		to := min(from+64, m)
		ops.Matmul(s, ops.MatmulArgs{X: x.Rows(from, to), W: w, Y: pieces, Row: from, HeadDim: dim})
	}
	want, err := d.DownloadF32(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.DownloadF32(t.Context(), pieces)
	if err != nil || slices.Max(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("pieces differ from the whole, %v", err)
	}
}
