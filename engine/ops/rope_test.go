package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// ropeTest is a rotation, a normalisation or both on random heads.
type ropeTest struct {
	heads, tokens, dim  int
	norm, rotate, split bool
	fused               bool // x is a slice of [tokens, width], y is head-major
	inPlace             bool
	eps                 float32
}

func ropeCases() []rowCase {
	var out []rowCase
	add := func(name string, c ropeTest) {
		out = append(out, rowCase{fmt.Sprintf("%s of %d heads, %d tokens, %d elements", name, c.heads, c.tokens, c.dim), c.run})
	}
	const eps = 0x1p-23
	for _, dim := range []int{16, 64, 80, 96, 128} {
		add("norm and rotation of neighbours", ropeTest{heads: 3, tokens: 37, dim: dim, norm: true, rotate: true, eps: eps})
		add("norm alone", ropeTest{heads: 2, tokens: 19, dim: dim, norm: true, eps: eps})
		add("rotation of halves", ropeTest{heads: 5, tokens: 21, dim: dim, rotate: true, split: true})
		add("rotation out of a fused projection", ropeTest{heads: 4, tokens: 30, dim: dim, rotate: true, split: true, fused: true})
	}
	add("norm and rotation in place", ropeTest{heads: 4, tokens: 100, dim: 128, norm: true, rotate: true, eps: eps, inPlace: true})
	add("rotation of halves in place", ropeTest{heads: 2, tokens: 50, dim: 80, rotate: true, split: true, inPlace: true})
	add("norm and rotation of halves", ropeTest{heads: 2, tokens: 50, dim: 128, norm: true, rotate: true, split: true, eps: 1e-6})
	add("a row of four", ropeTest{heads: 1, tokens: 1, dim: 4, norm: true, rotate: true, eps: eps})
	add("long rows", ropeTest{heads: 1, tokens: 9, dim: 512, norm: true, rotate: true, eps: eps})
	return out
}

func (c ropeTest) run(b *gemmBench) (got, want, tolerance []float64) {
	types := b.anyTypes(3)
	if c.inPlace {
		types[1] = types[0]
	}
	x := b.values(types[0], c.heads*c.tokens*c.dim, 2)
	table := ops.RopeTable{Tokens: c.tokens, Pairs: c.dim / 2}
	angles := make([]float64, c.tokens*c.dim/2)
	for i := range angles {
		angles[i] = b.rng.Float64() * 100
		table.CosSin = append(table.CosSin, float32(math.Cos(angles[i])), float32(math.Sin(angles[i])))
	}
	a := ops.RopeArgs{Split: c.split, Eps: c.eps}
	y := b.output(types[1], c.heads, c.tokens, c.dim)
	a.Y = ops.HeadMajor(y)
	want = x
	switch {
	case c.inPlace:
		b.put(y, x)
		a.X, a.Y = a.Y, ops.HeadView{}
	case c.fused:
		first, width := 8, c.heads*c.dim+12
		wide := make([]float64, c.tokens*width)
		for t := range c.tokens {
			for h := range c.heads {
				copy(wide[t*width+first+h*c.dim:], x[(h*c.tokens+t)*c.dim:][:c.dim])
			}
		}
		a.X = ops.TokenMajor(b.upload(types[0], wide, c.tokens, width), first, c.heads, c.dim)
	default:
		a.X = ops.HeadMajor(b.amid(types[0], 4, x, c.heads, c.tokens, c.dim))
	}
	if c.norm {
		gain := b.values(types[2], c.dim, 1)
		a.Gain = b.upload(types[2], gain, c.dim)
		want = ref.RowNorm{Dim: c.dim, Eps: float64(c.eps), Weight: gain}.Apply(want)
	}
	pair := absolute(want)
	if c.rotate {
		var err error
		if a.Table, err = table.Upload(b.Context(), b.dev, b.arena, "rope"); err != nil {
			b.Fatal(err)
		}
		quarter := make([]float64, len(angles)) // by 45 degrees, to bound |a| + |b|
		for i := range quarter {
			quarter[i] = -math.Pi / 4
		}
		pair = ref.Rope(absolute(want), quarter, c.heads, c.tokens, c.dim, c.split)
		for i, v := range ref.Rope(absolute(want), absolute(quarter), c.heads, c.tokens, c.dim, c.split) {
			pair[i] = math.Max(math.Abs(pair[i]), math.Abs(v)) * math.Sqrt2
		}
		want = ref.Rope(want, angles, c.heads, c.tokens, c.dim, c.split)
	}
	ops.Rope(b.dev.Compute(), a)
	// A square sum of at most 512/16 terms and 5 levels per lane, then a dozen roundings of the two products' sizes, one
	// of them that of cos and sin to float32.
	tolerance = make([]float64, len(want))
	for i, v := range want {
		tolerance[i] = 48*0x1p-24*pair[i] + storeTolerance(types[1], v)
	}
	return b.finish(y), want, tolerance
}

func TestRopeMatchesReference(t *testing.T) { checkRowCases(t, ropeCases()) }

func TestRopePanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	tensor := func(shape ...int) engine.Tensor { return b.arena.Alloc("x", engine.F32, shape...) }
	x := ops.HeadMajor(tensor(2, 10, 64))
	call := func(a ops.RopeArgs) func() { return func() { ops.Rope(dev.Compute(), a) } }
	mustPanic(t, "neither table nor gain", call(ops.RopeArgs{X: x}))
	mustPanic(t, "a table of too few tokens", call(ops.RopeArgs{X: x, Table: tensor(9, 32, 2)}))
	mustPanic(t, "a gain of the wrong length", call(ops.RopeArgs{X: x, Gain: tensor(63)}))
	mustPanic(t, "rows of 6", call(ops.RopeArgs{X: ops.HeadMajor(tensor(1, 1, 6)), Gain: tensor(6)}))
	mustPanic(t, "split rows of 12", call(ops.RopeArgs{X: ops.HeadMajor(tensor(1, 1, 12)), Gain: tensor(12), Split: true}))
	mustPanic(t, "another number of heads", call(ops.RopeArgs{X: x, Y: ops.HeadMajor(tensor(1, 10, 64)), Gain: tensor(64)}))
	mustPanic(t, "columns that are not there", func() { ops.TokenMajor(tensor(4, 64), 32, 1, 64) })
}

func BenchmarkRope(b *testing.B) {
	dev := enginetest.Open(b)
	g := newGemmBench(b, dev, 1)
	const heads, tokens, dim = 32, 1024, 128
	x := g.upload(engine.BF16, g.values(engine.BF16, heads*tokens*dim, 1), heads, tokens, dim)
	gain := g.upload(engine.F32, g.values(engine.F32, dim, 1), dim)
	table, err := ops.VisualRopeTable([3]int{1, 32, 32}, [3]int{32, 48, 48}, [3]float32{1, 2, 2}).Upload(b.Context(), dev, g.arena, "rope")
	if err != nil {
		b.Fatal(err)
	}
	benchBandwidth(b, dev, 2*x.Bytes(), func(s *engine.Stream) {
		ops.Rope(s, ops.RopeArgs{X: ops.HeadMajor(x), Table: table, Gain: gain, Eps: 0x1p-23})
	})
}
