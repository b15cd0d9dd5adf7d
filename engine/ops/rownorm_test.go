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

// rowNormCase is a layer or RMS norm on random data.
type rowNormCase struct {
	rows, dim         int
	centre            bool
	weight, bias, mod bool
	skip              int // elements before every tensor
	mean, deviation   float64
	inPlace           bool
	eps               float32
	f32               bool
}

func rowNormCases() []rowCase {
	var out []rowCase
	add := func(name string, c rowNormCase) {
		out = append(out, rowCase{fmt.Sprintf("%s of %d rows of %d", name, c.rows, c.dim), c.run})
	}
	for i, dim := range []int{1, 2, 3, 4, 7, 16, 31, 64, 80, 128, 257, 1000, 1792, 4096, 5120} {
		add("plain layer norm", rowNormCase{rows: 5, dim: dim, centre: true, eps: 1e-5})
		add("modulated layer norm", rowNormCase{rows: 1 + 3*i, dim: dim, centre: true, mod: true, eps: 1e-5})
		add("affine layer norm", rowNormCase{rows: 9, dim: dim, centre: true, weight: true, bias: true, eps: 1e-5, mean: 3})
		add("rms norm", rowNormCase{rows: 3, dim: dim, weight: true, eps: 1e-6})
		add("unaligned rms norm", rowNormCase{rows: 70, dim: dim, weight: true, eps: 1e-6, skip: 3})
	}
	add("layer norm with everything, unaligned", rowNormCase{rows: 6, dim: 96, centre: true, weight: true, bias: true, mod: true, eps: 1e-5, skip: 4})
	add("layer norm in place", rowNormCase{rows: 33, dim: 512, centre: true, mod: true, eps: 1e-5, inPlace: true, f32: true})
	add("layer norm of the longest rows", rowNormCase{rows: 3, dim: 16384, centre: true, mod: true, eps: 1e-5})
	add("layer norm far from zero", rowNormCase{rows: 4, dim: 4096, centre: true, eps: 1e-5, mean: 1000, f32: true})
	add("layer norm beyond fp16's range", rowNormCase{rows: 4, dim: 4096, centre: true, eps: 1e-5, deviation: 1e6, f32: true})
	add("rms norm of tiny values", rowNormCase{rows: 4, dim: 64, weight: true, eps: 1e-6, deviation: 1e-6, f32: true})
	return out
}

func (c rowNormCase) run(b *gemmBench) (got, want, tolerance []float64) {
	if c.deviation == 0 {
		c.deviation = 1
	}
	types := b.anyTypes(6)
	if c.f32 {
		types = make([]engine.DType, 6)
	}
	x := b.values(types[0], c.rows*c.dim, c.deviation)
	for i := range x {
		x[i] = roundTo(types[0], x[i]+c.mean)
	}
	vector := func(on bool, k int) []float64 {
		if !on {
			return nil
		}
		return b.values(types[k], c.dim, 1)
	}
	r := ref.RowNorm{Dim: c.dim, Eps: float64(c.eps), Centre: c.centre, Weight: vector(c.weight, 2), Bias: vector(c.bias, 3),
		Scale: vector(c.mod, 4), Shift: vector(c.mod, 5)}
	y := b.outputAt(types[1], c.skip, c.rows, c.dim)
	in := y
	if c.inPlace {
		b.put(y, x)
	} else {
		in = b.amid(types[0], c.skip, x, c.rows, c.dim)
	}
	side := func(k int, v []float64) engine.Tensor { return b.amid(types[k], c.skip, v, c.dim) }
	if c.centre {
		ops.LayerNorm(b.dev.Compute(), ops.LayerNormArgs{X: in, Y: y, Weight: side(2, r.Weight), Bias: side(3, r.Bias),
			Scale: side(4, r.Scale), Shift: side(5, r.Shift), Eps: c.eps})
	} else {
		ops.RMSNorm(b.dev.Compute(), ops.RMSNormArgs{X: in, Y: y, Weight: side(2, r.Weight), Eps: c.eps})
	}
	got = b.finish(y)
	want = r.Apply(x)
	return got, want, c.tolerance(types[1], r, x, want)
}

// tolerance follows the roundings: a lane adds up dim/128 terms (dim/4 in short rows) and a tree of 7 levels the lanes,
// so mean and mean square are off by at most that many halves of a last place, of the mean of |x| and of themselves. The
// deviation scales the former. What comes after the normalisation is a handful of roundings of its terms.
func (c rowNormCase) tolerance(dt engine.DType, r ref.RowNorm, x, want []float64) []float64 {
	out := make([]float64, len(want))
	steps := float64(max(c.dim/128, min(c.dim, 8))+10) * 0x1p-24
	for at := 0; at < len(x); at += c.dim {
		row := x[at : at+c.dim]
		mean, squares := 0.0, 0.0
		if c.centre {
			mean, squares = ref.Moments(row)
		} else {
			for _, v := range row {
				squares += v * v
			}
		}
		size := 0.0
		for _, v := range row {
			size += math.Abs(v) / float64(c.dim)
		}
		deviation := math.Sqrt(squares/float64(c.dim) + float64(c.eps))
		for i, v := range row {
			e := steps * (math.Abs(v-mean)/deviation + 1)
			if c.centre {
				e += steps * (size + math.Abs(v)) / deviation
			}
			terms := math.Abs(v-mean) / deviation
			if r.Weight != nil {
				e, terms = e*math.Abs(r.Weight[i]), terms*math.Abs(r.Weight[i])
			}
			if r.Bias != nil {
				terms += math.Abs(r.Bias[i])
			}
			if r.Scale != nil {
				e, terms = e*(1+math.Abs(r.Scale[i])), terms*(1+math.Abs(r.Scale[i]))+math.Abs(r.Shift[i])
			}
			out[at+i] = e + 8*0x1p-24*terms + storeTolerance(dt, want[at+i])
		}
	}
	return out
}

func TestRowNormMatchesReference(t *testing.T) { checkRowCases(t, rowNormCases()) }

func TestRowNormOfNaNStaysInItsRow(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x := b.values(engine.F32, 3*100, 1)
	x[150] = math.NaN()
	y := b.output(engine.BF16, 3, 100)
	ops.LayerNorm(dev.Compute(), ops.LayerNormArgs{X: b.upload(engine.F32, x, 3, 100), Y: y, Eps: 1e-5})
	for i, v := range b.finish(y) {
		if math.IsNaN(v) != (i/100 == 1) {
			t.Fatalf("element %d of row %d is %v", i%100, i/100, v)
		}
	}
}

func TestRowNormPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x := b.upload(engine.F32, make([]float64, 24), 4, 6)
	short := b.upload(engine.F32, make([]float64, 5), 5)
	long := b.upload(engine.F32, make([]float64, 16400), 16400)
	ids := b.arena.Alloc("ids", engine.U32, 4, 6)
	mustPanic(t, "a weight of the wrong length", func() { ops.RMSNorm(dev.Compute(), ops.RMSNormArgs{X: x, Y: x, Weight: short}) })
	mustPanic(t, "a scale without a shift", func() { ops.LayerNorm(dev.Compute(), ops.LayerNormArgs{X: x, Y: x, Scale: short}) })
	mustPanic(t, "a row that is too long", func() { ops.RMSNorm(dev.Compute(), ops.RMSNormArgs{X: long, Y: long}) })
	mustPanic(t, "an output of integers", func() { ops.RMSNorm(dev.Compute(), ops.RMSNormArgs{X: x, Y: ids}) })
	mustPanic(t, "no input", func() { ops.RMSNorm(dev.Compute(), ops.RMSNormArgs{Y: x}) })
}

func BenchmarkLayerNorm(b *testing.B) {
	dev := enginetest.Open(b)
	g := newGemmBench(b, dev, 1)
	const rows, dim = 2048, 4096
	x := g.upload(engine.BF16, g.values(engine.BF16, rows*dim, 1), rows, dim)
	v := g.upload(engine.F32, g.values(engine.F32, dim, 1), dim)
	y := g.output(engine.BF16, rows, dim)
	benchBandwidth(b, dev, x.Bytes()+y.Bytes(), func(s *engine.Stream) {
		ops.LayerNorm(s, ops.LayerNormArgs{X: x, Y: y, Scale: v, Shift: v, Eps: 1e-5})
	})
}

// benchBandwidth runs a memory-bound op and reports the rate at which it moves so many bytes.
func benchBandwidth(b *testing.B, dev *engine.Device, bytes int64, op func(s *engine.Stream)) {
	b.Helper()
	op(dev.Compute())
	if err := dev.Compute().Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(bytes)
	b.ResetTimer()
	for range b.N {
		op(dev.Compute())
	}
	if err := dev.Compute().Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
}
