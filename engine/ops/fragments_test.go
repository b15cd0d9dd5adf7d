package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// fragmentElement returns which row and column of a fragment of 16 × 16 is element e, below 8, of a lane (include/fragments.glsl).
func fragmentElement(order FragmentOrder, lane, e int) (row, col int) {
	r, t := lane/4, lane%4*2+e%2
	switch word := e / 2; order {
	case LeftFragments:
		return r + word%2*8, t + word/2*8
	case RightFragments:
		return r + word/2*8, t + word%2*8
	default:
		return t + word%2*8, r + word/2*8
	}
}

// packedReference is x, [heads, rows, cols], in fragments.
func packedReference(x []float64, heads, rows, cols, group int, order FragmentOrder) []float64 {
	var out []float64
	for head := range heads {
		for f := range packedRows(rows, group) / 16 * (cols / 16) {
			below, column, band := f%group, f/group%(cols/16), f/group/(cols/16)
			for i := range 256 {
				row, col := fragmentElement(order, i/8, i%8)
				row, col = row+(band*group+below)*16, col+column*16
				v := 0.0
				if row < rows {
					v = x[(head*rows+row)*cols+col]
				}
				out = append(out, v)
			}
		}
	}
	return out
}

func TestFragmentsArePackedInTheOrderOfTheirLanes(t *testing.T) {
	d := openFragments(t, engine.TestLimits{})
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		heads, rows, cols, group int
		inPlace                  bool
	}{{1, 64, 128, 4, false}, {2, 37, 256, 4, false}, {3, 37, 128, 1, false}, {2, 48, 128, 1, true}, {1, 130, 384, 4, false}} {
		for _, order := range []FragmentOrder{LeftFragments, RightFragments, ValueFragments} {
			t.Run(fmt.Sprintf("%+v order %d", c, order), func(t *testing.T) {
				arena := d.NewArena("pack")
				defer arena.Release()
				x, values := attentionInput(t, arena, d, rng, engine.BF16, 1, c.heads, c.rows, c.cols)
				want := packedReference(values, c.heads, c.rows, c.cols, c.group, order)
				out := x
				if !c.inPlace {
					out = arena.Alloc("packed", engine.BF16, len(want)+256)
					if err := arena.Err(); err != nil {
						t.Fatal(err)
					}
					d.Compute().Fill(out, 0x42424242)
				}
				packFragments(d.Compute(), x, out, c.heads, c.rows, c.cols, c.group, order)
				got := attentionDownload(t, d, out.Reshape(int(out.Elems())))
				if !slices.Equal(got[:len(want)], want) {
					t.Error("wrong order")
				}
				for _, v := range got[len(want):] {
					if v != got[len(got)-1] || v == 0 {
						t.Fatal("written beyond the packed matrix")
					}
				}
			})
		}
	}
}

// Tiles and bands decide only which subgroup computes what.
func TestFragmentsGiveTheSameBitsInEveryTileAndBand(t *testing.T) {
	d := openFragments(t, engine.TestLimits{})
	const m, n, k = 270, 210, 128
	arena := d.NewArena("tiles")
	defer arena.Release()
	rng := rand.New(rand.NewPCG(1, 2))
	x, _ := attentionInput(t, arena, d, rng, engine.BF16, 1, PackedRows(m), k) // any numbers are some matrix, packed
	w, _ := attentionInput(t, arena, d, rng, engine.BF16, 1, PackedRows(n), k)
	a := MatmulArgs{X: x.Rows(0, m), W: w.Rows(0, n), Y: arena.Alloc("y", engine.F32, m, n), Half: true, Packed: true}
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	layer := a.check()
	layer.plan(d.Caps())
	o := layer.operation(d.Caps())
	if o.Shape != "fragments bf16·bf16→f32 ≤384×210×128" || len(o.Ways) != len(fragmentTiles) || o.Default != o.Ways[0].Name {
		t.Errorf("offered for tuning: %+v", o)
	}
	var want []float64
	for _, way := range o.Ways {
		for _, band := range []int{0, 1, 2} {
			again := layer
			again.take(d.Caps(), way.Name)
			if name := again.fragments.tile.name(); name != way.Name {
				t.Fatalf("the layer takes %s, want %s", name, way.Name)
			}
			again.band = band
			d.Compute().Fill(a.Y, 0x7fc00000)
			again.record(d.Compute())
			got := attentionDownload(t, d, a.Y)
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s in bands of %d gives other bits than %s", way.Name, band, o.Default)
			}
		}
	}
	d.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Shader: o.Ways[1].Shader, Choice: o.Ways[1].Name})
	d.Compute().Fill(a.Y, 0x7fc00000)
	Matmul(d.Compute(), a)
	if !slices.Equal(attentionDownload(t, d, a.Y), want) {
		t.Error("the tuned layer gives other bits")
	}
}
