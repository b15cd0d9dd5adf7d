package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// unpackedLeft returns the first rows of what lies packed as left operand.
func unpackedLeft(packed []float64, rows, cols int) []float64 {
	at := make([]float64, len(packed))
	for i := range at {
		at[i] = float64(i) // packing numbers tells where each goes
	}
	out := make([]float64, rows*cols)
	for to, from := range packedReference(at, 1, len(packed)/cols, cols, fragmentGroup, LeftFragments) {
		if int(from) < len(out) {
			out[int(from)] = packed[to]
		}
	}
	return out
}

// packedLayer is a linear layer with its operands in both orders.
type packedLayer struct {
	d                *engine.Device
	arena            *engine.Arena
	rows, cols, k    int
	x, w, px, pw     engine.Tensor
	bias, y, ypacked engine.Tensor
}

func newPackedLayer(t *testing.T, d *engine.Device, rows, cols, k int) *packedLayer {
	t.Helper()
	l := &packedLayer{d: d, arena: d.NewArena("layer"), rows: rows, cols: cols, k: k}
	t.Cleanup(l.arena.Release)
	rng := rand.New(rand.NewPCG(3, 1))
	l.x, _ = attentionInput(t, l.arena, d, rng, engine.BF16, 1, rows, k)
	l.w, _ = attentionInput(t, l.arena, d, rng, engine.BF16, 1, cols, k)
	l.bias, _ = attentionInput(t, l.arena, d, rng, engine.F32, 1, cols)
	l.px = l.arena.Alloc("packed x", engine.BF16, PackedRows(rows), k).Rows(0, rows)
	l.pw = l.arena.Alloc("packed w", engine.BF16, PackedRows(cols), k).Rows(0, cols)
	l.y = l.arena.Alloc("y", engine.BF16, rows, cols)
	l.ypacked = l.arena.Alloc("packed y", engine.BF16, PackedRows(rows), cols)
	if err := l.arena.Err(); err != nil {
		t.Fatal(err)
	}
	Pack(d.Compute(), l.px, l.x, LeftFragments)
	Pack(d.Compute(), l.pw, l.w, RightFragments)
	return l
}

// Results have the same bits whether weights were packed in place or not, whatever the device cuts, in any number of rows and packed themselves.
func TestPackedOperandsAndResultsAreTheSameBits(t *testing.T) {
	const rows, cols, k = 470, 256, 128
	whole := openFragments(t, engine.TestLimits{})
	var want []float64
	for _, c := range []struct {
		name    string
		d       *engine.Device
		scratch int // rows of it
	}{
		{"whole", whole, 256},
		{"cut by cost", openFragments(t, engine.TestLimits{MaxDispatchCost: 2 * 384 * 200 * 128}), 128},
		{"cut by bindings", openFragments(t, engine.TestLimits{MaxStorageRange: 200 << 10}), 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newPackedLayer(t, c.d, rows, cols, k)
			s := c.d.Compute()
			a := MatmulArgs{X: l.px, W: l.pw, Bias: l.bias, Y: l.y, Half: true, Activation: GELU, Packed: true}
			if want == nil {
				Matmul(s, a)
				want = attentionDownload(t, c.d, l.y)
			}
			got := func(a MatmulArgs) []float64 {
				s.Fill(l.y, 0x7fc07fc0)
				before := s.Counters().Dispatches
				Matmul(s, a)
				if n := s.Counters().Dispatches - before; (n == 1) != (c.d == whole) {
					t.Errorf("%d dispatches", n)
				}
				return attentionDownload(t, c.d, a.Y)
			}
			if !slices.Equal(got(a), want) {
				t.Error("packed operands give other bits")
			}
			PackInPlace(s, l.w, l.x.View(0, c.scratch, k), RightFragments) // x is packed by now
			a.W = l.w
			if !slices.Equal(got(a), want) {
				t.Error("weights packed in place give other bits")
			}
			a.Y, a.PackY = l.ypacked.Rows(0, rows), true
			s.Fill(l.ypacked, 0x7fc07fc0)
			Matmul(s, a)
			if !slices.Equal(unpackedLeft(attentionDownload(t, c.d, l.ypacked), rows, cols), want) {
				t.Error("a packed result has other bits")
			}
		})
	}
	l := newPackedLayer(t, whole, 3, cols, k)
	few := MatmulArgs{X: l.px, W: l.pw, Bias: l.bias, Y: l.y, Half: true, Activation: GELU, Packed: true}
	few.X = newPackedLayer(t, whole, rows, cols, k).px.Rows(0, 3)
	few.W, few.Bias = newPackedLayer(t, whole, rows, cols, k).pw, newPackedLayer(t, whole, rows, cols, k).bias
	Matmul(whole.Compute(), few)
	if !slices.Equal(attentionDownload(t, whole, l.y), want[:3*cols]) {
		t.Error("few rows are computed otherwise than many")
	}
}

func TestLayerNormWritesPackedOperands(t *testing.T) {
	for name, d := range map[string]*engine.Device{"whole": openFragments(t, engine.TestLimits{}), "cut": openFragments(t, engine.TestLimits{MaxStorageRange: 34 << 10, MaxDispatchCost: 12 * 256 * 70})} {
		for _, c := range []struct {
			rows, dim int
			x         engine.DType
			affine    bool
		}{{37, 128, engine.F32, false}, {150, 256, engine.BF16, true}, {1, 4096, engine.F32, false}} {
			if name == "cut" && c.dim > 256 {
				continue
			}
			t.Run(fmt.Sprintf("%s %+v", name, c), func(t *testing.T) {
				arena := d.NewArena("norm")
				defer arena.Release()
				rng := rand.New(rand.NewPCG(4, 1))
				vector := func() engine.Tensor {
					v, _ := attentionInput(t, arena, d, rng, engine.F32, 1, c.dim)
					return v
				}
				x, _ := attentionInput(t, arena, d, rng, c.x, 3, c.rows, c.dim)
				y, packed := arena.Alloc("y", engine.BF16, c.rows, c.dim), arena.Alloc("packed", engine.BF16, PackedRows(c.rows), c.dim)
				if err := arena.Err(); err != nil {
					t.Fatal(err)
				}
				a := LayerNormArgs{X: x, Y: y, Scale: vector(), Shift: vector(), Eps: 1e-5}
				if c.affine {
					a.Weight, a.Bias = vector(), vector()
				}
				LayerNorm(d.Compute(), a)
				d.Compute().Fill(packed, 0x7fc07fc0)
				a.Y, a.PackY = packed.Rows(0, c.rows), true
				before := d.Compute().Counters().Dispatches
				LayerNorm(d.Compute(), a)
				if n := d.Compute().Counters().Dispatches - before; (n > 1) != (name == "cut" && c.rows > 64) {
					t.Errorf("%d dispatches", n)
				}
				if got := unpackedLeft(attentionDownload(t, d, packed), c.rows, c.dim); !slices.Equal(got, attentionDownload(t, d, y)) {
					t.Error("numbers differ from those of rows")
				}
			})
		}
	}
}
