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

// elementwiseOp is one function of elementwise.go with its reference; size bounds the terms that are rounded.
type elementwiseOp struct {
	name   string
	inputs int
	record func(s *engine.Stream, y, a, b, c engine.Tensor)
	value  func(a, b, c float64) (v, size float64)
}

func elementwiseOps() []elementwiseOp {
	list := []elementwiseOp{
		{"affine", 1, func(s *engine.Stream, y, a, _, _ engine.Tensor) { ops.Affine(s, y, a, 1.5, -0.25) },
			func(a, _, _ float64) (float64, float64) { return 1.5*a - 0.25, math.Abs(a)*1.5 + 0.25 }},
		{"cast", 1, func(s *engine.Stream, y, a, _, _ engine.Tensor) { ops.Cast(s, y, a) },
			func(a, _, _ float64) (float64, float64) { return a, 0 }},
		{"add", 2, func(s *engine.Stream, y, a, b, _ engine.Tensor) { ops.Add(s, y, a, b) },
			func(a, b, _ float64) (float64, float64) { return a + b, math.Abs(a) + math.Abs(b) }},
		{"difference", 2, func(s *engine.Stream, y, a, b, _ engine.Tensor) { ops.Axpby(s, y, 1, a, -1, b) },
			func(a, b, _ float64) (float64, float64) { return a - b, math.Abs(a) + math.Abs(b) }},
		{"mul", 2, func(s *engine.Stream, y, a, b, _ engine.Tensor) { ops.Mul(s, y, 0.5, a, b) },
			func(a, b, _ float64) (float64, float64) { return 0.5 * a * b, math.Abs(a * b) }},
		{"gated add", 3, func(s *engine.Stream, y, a, b, c engine.Tensor) { ops.GatedAdd(s, y, a, b, c) },
			func(a, b, c float64) (float64, float64) { return a + b*c, math.Abs(a) + math.Abs(b*c) }},
	}
	for k, g := range []func(float64) float64{ref.GELU, ref.QuickGELU, ref.SiLU} {
		f := ops.GELU + ops.Activation(k)
		// erf and exp err by a few units in the last place of numbers no larger than 1.
		list = append(list, elementwiseOp{fmt.Sprintf("activation %d", f), 1,
			func(s *engine.Stream, y, a, _, _ engine.Tensor) { ops.Activate(s, y, a, f) },
			func(a, _, _ float64) (float64, float64) { return g(a), 4 * math.Abs(a) }})
	}
	list = append(list, elementwiseOp{"SwiGLU", 2, func(s *engine.Stream, y, a, b, _ engine.Tensor) { ops.ActivateMul(s, y, a, b, ops.SiLU) },
		func(a, b, _ float64) (float64, float64) { return ref.SiLU(a) * b, 4 * math.Abs(a*b) }})
	return list
}

func elementwiseCases() []rowCase {
	var out []rowCase
	for _, op := range elementwiseOps() {
		for _, shape := range [][]int{{1}, {7}, {64}, {1000}, {5, 13}, {33, 128}, {2, 3, 5, 7}, {30000}} {
			for _, skip := range []int{0, 3} {
				out = append(out, rowCase{fmt.Sprintf("%s of %v, %d elements in", op.name, shape, skip), func(b *gemmBench) (got, want, tolerance []float64) {
					return op.run(b, skip, 0, shape...)
				}})
			}
		}
		for rowInputs := 1; rowInputs < op.inputs; rowInputs++ {
			for _, shape := range [][]int{{5, 13}, {33, 128}, {1, 64}, {3, 2, 20}} {
				out = append(out, rowCase{fmt.Sprintf("%s of %v with rows for inputs from %d on", op.name, shape, op.inputs-rowInputs), func(b *gemmBench) (got, want, tolerance []float64) {
					return op.run(b, 0, rowInputs, shape...)
				}})
			}
		}
	}
	for _, guided := range []bool{false, true} {
		out = append(out, rowCase{fmt.Sprintf("Euler step, guidance %v", guided), func(b *gemmBench) (got, want, tolerance []float64) {
			return runEuler(b, guided)
		}})
	}
	return out
}

// run gives the last rowInputs inputs only one row.
func (op elementwiseOp) run(b *gemmBench, skip, rowInputs int, shape ...int) (got, want, tolerance []float64) {
	n := 1
	for _, s := range shape {
		n *= s
	}
	row := shape[len(shape)-1]
	var in [3][]float64
	var t [3]engine.Tensor
	for k := range op.inputs {
		dt := b.anyType()
		if k >= op.inputs-rowInputs {
			in[k] = b.values(dt, row, 3)
			t[k] = b.amid(dt, skip, in[k], row)
		} else {
			in[k] = b.values(dt, n, 3)
			t[k] = b.amid(dt, skip, in[k], shape...)
		}
	}
	dt := b.anyType()
	y := b.outputAt(dt, skip, shape...)
	op.record(b.dev.Compute(), y, t[0], t[1], t[2])
	at := func(k, i int) float64 {
		if in[k] == nil {
			return 0
		}
		return in[k][i%len(in[k])]
	}
	for i := range n {
		v, size := op.value(at(0, i), at(1, i), at(2, i))
		want = append(want, v)
		tolerance = append(tolerance, 4*0x1p-24*size+storeTolerance(dt, v)+1e-37)
	}
	return b.finish(y), want, tolerance
}

func runEuler(b *gemmBench, guided bool) (got, want, tolerance []float64) {
	const n = 3 * 4 * 6 * 16
	dt := b.anyType()
	x := b.output(dt, 3, 4, 6, 16)
	latents := b.values(dt, n, 1)
	b.put(x, latents)
	cond, uncond := b.values(engine.BF16, n, 1), b.values(engine.F32, n, 1)
	a := ops.EulerArgs{Latents: x, Cond: b.upload(engine.BF16, cond, 3, 4, 6, 16), Guidance: 5, Delta: -0.02}
	if guided {
		a.Uncond = b.upload(engine.F32, uncond, 3, 4, 6, 16)
	}
	ops.EulerStep(b.dev.Compute(), a)
	delta := float64(float32(-0.02))
	for i, l := range latents {
		v := cond[i]
		if guided {
			v = uncond[i] + 5*(cond[i]-uncond[i])
		}
		want = append(want, l+delta*v)
		tolerance = append(tolerance, 8*0x1p-24*(math.Abs(l)+math.Abs(delta)*(6*math.Abs(uncond[i])+5*math.Abs(cond[i])))+storeTolerance(dt, want[i]))
	}
	return b.finish(x), want, tolerance
}

func TestElementwiseMatchesReference(t *testing.T) { checkRowCases(t, elementwiseCases()) }

func TestElementwiseCoversMoreThanOneAxisOfWorkgroups(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	n := 128*int(min(dev.Caps().MaxGroups[0], 70000)) + 77777 // odd, so one element per invocation
	x := b.arena.Alloc("x", engine.BF16, n)
	y := b.output(engine.BF16, n)
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(i % 251)
	}
	if err := dev.UploadF32(t.Context(), x, values); err != nil {
		t.Fatal(err)
	}
	ops.Affine(dev.Compute(), y, x, 1, 1)
	for i, v := range b.finish(y) {
		if v != float64(i%251+1) {
			t.Fatalf("element %d is %v, want %d", i, v, i%251+1)
		}
	}
}

func TestActivationsAtTheirEnds(t *testing.T) {
	dev := enginetest.Open(t)
	inf := math.Inf(1)
	for name, c := range map[string]struct {
		f    ops.Activation
		in   []float64
		want []float64
	}{
		"GELU":      {ops.GELU, []float64{inf, 1e30, -100, 0, math.NaN()}, []float64{inf, roundTo(engine.F32, 1e30), 0, 0, math.NaN()}},
		"QuickGELU": {ops.QuickGELU, []float64{inf, 1e30, -100, 0, math.NaN()}, []float64{inf, roundTo(engine.F32, 1e30), 0, 0, math.NaN()}},
		"SiLU":      {ops.SiLU, []float64{inf, 1e30, -1000, 0, math.NaN()}, []float64{inf, roundTo(engine.F32, 1e30), 0, 0, math.NaN()}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newGemmBench(t, dev, 1)
			y := b.output(engine.F32, len(c.in))
			ops.Activate(dev.Compute(), y, b.upload(engine.F32, c.in, len(c.in)), c.f)
			for i, v := range b.finish(y) {
				if !(math.Abs(v-c.want[i]) < 1e-30) && v != c.want[i] && !(math.IsNaN(v) && math.IsNaN(c.want[i])) {
					t.Errorf("f(%v) = %v, want %v", c.in[i], v, c.want[i])
				}
			}
		})
	}
}

func TestCastRoundsAndKeepsNaNAndInfinity(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	in := []float64{1e38, -1e38, 65519.9, 65520, math.Inf(1), math.NaN(), 1 + 0x1p-8, 1 + 3*0x1p-8, 1 + 0x1p-11, 0x1p-24, 0x1p-25, 0}
	for _, dt := range floatTypes {
		y := b.output(dt, len(in))
		ops.Cast(dev.Compute(), y, b.upload(engine.F32, in, len(in)))
		for i, v := range b.finish(y) {
			want := roundTo(dt, in[i])
			if v != want && !(math.IsNaN(v) && math.IsNaN(want)) {
				t.Errorf("%v as %v is %v, want %v", in[i], dt, v, want)
			}
		}
	}
}

func TestElementwisePanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x, small := b.arena.Alloc("x", engine.F32, 4, 6), b.arena.Alloc("x", engine.F32, 4)
	s := dev.Compute()
	mustPanic(t, "another size", func() { ops.Cast(s, x, small) })
	mustPanic(t, "a second input that is a column", func() { ops.Add(s, x, x, small) })
	mustPanic(t, "a missing input", func() { ops.Add(s, x, x, engine.Tensor{}) })
	mustPanic(t, "integers", func() { ops.Cast(s, b.arena.Alloc("ids", engine.U32, 4, 6), x) })
}

func BenchmarkSwiGLU(b *testing.B) {
	dev := enginetest.Open(b)
	g := newGemmBench(b, dev, 1)
	const n = 8 << 20
	x, y := g.arena.Alloc("gate", engine.BF16, n), g.arena.Alloc("up", engine.BF16, n)
	dev.Compute().Fill(x, 0x3f803f80)
	dev.Compute().Fill(y, 0x3f803f80)
	benchBandwidth(b, dev, 3*x.Bytes(), func(s *engine.Stream) { ops.ActivateMul(s, y, x, y, ops.SiLU) })
}
