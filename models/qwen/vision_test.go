package qwen

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// TestWindowsDoNotSeeEachOther holds because rotary attention depends on differences of positions only: without full
// attention a window gives the same rows alone as in its picture. The grid of 3×5 cells has incomplete windows at the
// right and bottom.
func TestWindowsDoNotSeeEachOther(t *testing.T) {
	g := openGolden(t)
	g.config.Vision.FullAttBlockIndexes = nil
	d := enginetest.OpenPlain(t)
	m := g.open(t, d, Options{Precision: load.Float32})
	size := 4 * patchElements(g.config.Vision) // of a cell
	rng := rand.New(rand.NewPCG(1, 2))
	whole := Image{Rows: 6, Cols: 10, Patches: make([]float32, 15*size)}
	for k := range whole.Patches {
		whole.Patches[k] = float32(rng.NormFloat64())
	}
	x, err := m.ImageEmbeds(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	all := take(t, d, x)
	width := g.config.Vision.OutHiddenSize
	for top := 0; top < 3; top += 2 {
		for left := 0; left < 5; left += 2 {
			rows, cols := min(2, 3-top), min(2, 5-left)
			t.Run(fmt.Sprintf("window of %d×%d cells at (%d, %d)", rows, cols, top, left), func(t *testing.T) {
				part := Image{Rows: 2 * rows, Cols: 2 * cols}
				var want []float32
				for r := top; r < top+rows; r++ {
					for c := left; c < left+cols; c++ {
						cell := r*5 + c
						part.Patches = append(part.Patches, whole.Patches[cell*size:(cell+1)*size]...)
						want = append(want, all[cell*width:(cell+1)*width]...)
					}
				}
				x, err := m.ImageEmbeds(t.Context(), part)
				if err != nil {
					t.Fatal(err)
				}
				within(t, "rows", take(t, d, x), want, 1e-5)
			})
		}
	}
}

func TestFeedForwardCutOverTokensChangesNoBit(t *testing.T) {
	config, reader := largeLayers()
	config.Text.IntermediateSize = 256
	d := enginetest.OpenPlain(t)
	m, err := New(t.Context(), d, reader, config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := load.Resident(t.Context(), d, reader, m.blocks.Layout, "layer")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free(d)
	const tokens, width = 300, 512
	rng := rand.New(rand.NewPCG(3, 4))
	input := make([]float32, tokens*width)
	for k := range input {
		input[k] = float32(rng.NormFloat64())
	}
	a := d.NewArena("test")
	defer a.Release()
	var results [][]float32
	for _, chunk := range []int{tokens, 128} {
		h, x := a.Alloc("h", engine.BF16, tokens, width), a.Alloc("x", engine.F32, tokens, width)
		gate, up := a.Alloc("gate", engine.BF16, chunk, 256), a.Alloc("up", engine.BF16, chunk, 256)
		if err := a.Err(); err != nil {
			t.Fatal(err)
		}
		for _, to := range []engine.Tensor{h, x} {
			if err := d.UploadF32(t.Context(), to, input); err != nil {
				t.Fatal(err)
			}
		}
		feedForward(d.Compute(), p, h, x, gate, up, m.half)
		got, err := d.DownloadF32(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, got)
	}
	if !slices.Equal(results[0], results[1]) {
		t.Error("results differ")
	}
	if slices.Equal(results[0], input) {
		t.Error("nothing was added")
	}
}
