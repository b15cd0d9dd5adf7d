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

// matmulCase is a linear layer on random data.
type matmulCase struct {
	m, n, k    int
	types      []engine.DType // x, w, bias, y
	bias       bool
	activation ops.Activation
	add, gate  bool
	headDim    int
	half       bool
	// scale is the deviation of the activations, 1 where zero.
	scale float64
	// packed gives packed operands, on a device that has fragments.
	packed bool
}

// run computes the case on the device, and the reference with its tolerance.
func (c matmulCase) run(b *gemmBench) (got, want, tolerance []float64) {
	b.Helper()
	if c.scale == 0 {
		c.scale = 1
	}
	x := b.values(c.types[0], c.m*c.k, c.scale)
	w := b.values(c.types[1], c.n*c.k, 1)
	var bias, gate, old []float64
	if c.bias {
		bias = b.values(c.types[2], c.n, 1)
	}
	if c.gate {
		gate = b.values(engine.F32, c.n, 1)
	}
	shape := []int{c.m, c.n}
	if c.headDim > 0 {
		shape = []int{c.n / c.headDim, c.m, c.headDim}
	}
	y := b.output(c.types[3], shape...)
	if c.add {
		old = b.values(c.types[3], c.m*c.n, 1)
		b.put(y, old)
	}
	left, right := b.upload(c.types[0], x, c.m, c.k), b.upload(c.types[1], w, c.n, c.k)
	if c.packed {
		left, right = b.packed(left, ops.LeftFragments), b.packed(right, ops.RightFragments)
	}
	ops.Matmul(b.dev.Compute(), ops.MatmulArgs{
		Packed: c.packed, X: left, W: right, Bias: b.upload(c.types[2], bias, c.n), Y: y,
		Gate: b.upload(engine.F32, gate, c.n), Add: c.add, Activation: c.activation, HeadDim: c.headDim, Half: c.half,
	})
	got = b.finish(y)
	want, tolerance = c.reference(x, w, bias, gate, old)
	return got, want, tolerance
}

func (c matmulCase) reference(x, w, bias, gate, old []float64) (want, tolerance []float64) {
	want = ref.Matmul(x, w, bias, c.m, c.n, c.k)
	size := ref.Matmul(absolute(x), absolute(w), absolute(bias), c.m, c.n, c.k)
	peak, weight := maxAbs(x), maxAbs(w)
	tolerance = make([]float64, len(want))
	order := func(v []float64) []float64 {
		if c.headDim > 0 {
			return ref.HeadMajor(v, c.m, c.n/c.headDim, c.headDim)
		}
		return v
	}
	var wide []float64
	if gate != nil {
		for range c.m {
			wide = append(wide, gate...)
		}
		wide = order(wide)
	}
	want, size = order(want), order(size)
	for i, v := range want {
		tol := sumTolerance(c.k, size[i])
		switch {
		case c.packed:
			tol *= 2 // operands are exact, but matrices may cut sums off instead of rounding them
		case c.half && c.m > 8:
			tol = halfTolerance(c.k, size[i], peak, weight)
		}
		want[i] = activated(v, c.activation)
		// No activation is steeper than 1.13; exp and the polynomials add a few units in the last place.
		tol = 1.13*tol + 8*0x1p-23*math.Abs(want[i])
		if c.gate {
			want[i] *= wide[i]
			tol *= math.Abs(wide[i])
		}
		if c.add {
			want[i] += old[i]
			tol += 0x1p-23 * math.Abs(old[i])
		}
		tolerance[i] = tol + storeTolerance(c.types[3], want[i])
	}
	return want, tolerance
}

func activated(u float64, a ops.Activation) float64 {
	switch a {
	case ops.GELU:
		return ref.GELU(u)
	case ops.QuickGELU:
		return ref.QuickGELU(u)
	case ops.SiLU:
		return ref.SiLU(u)
	}
	return u
}

func absolute(v []float64) []float64 {
	if v == nil {
		return nil
	}
	out := make([]float64, len(v))
	for i := range v {
		out[i] = math.Abs(v[i])
	}
	return out
}

func maxAbs(v []float64) float64 {
	m := 0.0
	for _, x := range v {
		m = max(m, math.Abs(x))
	}
	return m
}

// Sizes around every edge: of a run of 8, of a tile, of the matrix-vector kernel, of the narrow tiles, odd ones.
var matmulSizes = [][3]int{
	{1, 1, 1}, {1, 36, 64}, {2, 7, 5}, {3, 130, 520}, {5, 5, 1031}, {7, 64, 8}, {8, 12, 96},
	{9, 3, 7}, {17, 16, 24}, {130, 15, 33}, {33, 24, 40}, {129, 32, 17}, {64, 64, 64}, {65, 63, 72}, {128, 130, 31},
	{100, 200, 300},
}

func TestMatmulAgreesWithFloat64OnEverySizeAndStorageType(t *testing.T) {
	dev := enginetest.Open(t)
	for i, s := range matmulSizes {
		for round := range 2 {
			seed := uint64(2*i + round)
			b := newGemmBench(t, dev, seed)
			c := matmulCase{m: s[0], n: s[1], k: s[2], types: b.anyTypes(4), bias: round == 1}
			if round == 0 {
				c.types = []engine.DType{floatTypes[i%3], floatTypes[i%3], engine.F32, floatTypes[i%3]}
			}
			t.Run(fmt.Sprintf("%dx%dx%d of %s, seed %d", c.m, c.n, c.k, typeNames(c.types), seed), func(t *testing.T) {
				b := newGemmBench(t, dev, seed)
				b.near(c.run(b))
			})
		}
	}
}

func TestMatmulUsesTheLargeTileForLargeResults(t *testing.T) {
	dev := enginetest.Open(t)
	for _, half := range halfChoices(dev) {
		t.Run(fmt.Sprintf("half %v", half), func(t *testing.T) {
			b := newGemmBench(t, dev, 11)
			c := matmulCase{m: 1541, n: 1364, k: 40, types: []engine.DType{engine.BF16, engine.BF16, engine.BF16, engine.BF16}, bias: true, half: half}
			b.near(c.run(b))
		})
	}
}

func halfChoices(dev *engine.Device) []bool {
	if dev.Caps().HasFloat16 {
		return []bool{false, true}
	}
	return []bool{false}
}

func TestMatmulEpilogues(t *testing.T) {
	dev := enginetest.Open(t)
	f32 := []engine.DType{engine.F32, engine.F32, engine.F32, engine.F32}
	bf16 := []engine.DType{engine.BF16, engine.BF16, engine.BF16, engine.BF16}
	cases := map[string]matmulCase{
		"exact GELU":                        {activation: ops.GELU, types: f32, bias: true},
		"quick GELU":                        {activation: ops.QuickGELU, types: f32},
		"SiLU":                              {activation: ops.SiLU, types: bf16, bias: true},
		"gated residual in f32":             {add: true, gate: true, types: f32, bias: true},
		"gated residual in bf16":            {add: true, gate: true, types: bf16},
		"plain residual":                    {add: true, types: f32},
		"one matrix per head":               {headDim: 8, types: bf16, bias: true},
		"one matrix per head of odd size":   {headDim: 5, types: bf16},
		"GELU, one matrix per head":         {headDim: 20, types: f32, activation: ops.GELU},
		"gated residual, a matrix per head": {headDim: 4, types: f32, add: true, gate: true},
	}
	for name, c := range cases {
		for _, size := range [][3]int{{6, 40, 48}, {70, 80, 33}} {
			for _, half := range halfChoices(dev) {
				c.m, c.n, c.k, c.half = size[0], size[1], size[2], half
				t.Run(fmt.Sprintf("%s %v half %v", name, size, half), func(t *testing.T) {
					b := newGemmBench(t, dev, 5)
					b.near(c.run(b))
				})
			}
		}
	}
}

func TestMatmulGivesTheSameBitsHoweverItIsCut(t *testing.T) {
	whole := enginetest.Open(t)
	cut := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxDispatchCost: 2 * 128 * 200 * 64}})
	bound := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 176 * 1024}})
	cases := map[string]matmulCase{
		"row-major":   {m: 300, n: 330, k: 72, bias: true},
		"residual":    {m: 300, n: 330, k: 72, bias: true, add: true, gate: true},
		"head-major":  {m: 300, n: 512, k: 72, headDim: 64},
		"few columns": {m: 6000, n: 12, k: 30},
		"few rows":    {m: 6, n: 1400, k: 264, bias: true, activation: ops.GELU},
		"eight heads": {m: 8, n: 1536, k: 136, headDim: 96, bias: true},
	}
	for name, c := range cases {
		for _, half := range halfChoices(whole) {
			t.Run(fmt.Sprintf("%s half %v", name, half), func(t *testing.T) {
				c.half = half
				c.types = []engine.DType{engine.BF16, engine.BF16, engine.F32, engine.F32}
				want, _, _ := c.run(newGemmBench(t, whole, 3))
				for _, dev := range []*engine.Device{cut, bound} {
					before := dev.Compute().Counters().Dispatches
					got, reference, tolerance := c.run(newGemmBench(t, dev, 3))
					if n := dev.Compute().Counters().Dispatches - before; n < 2 {
						t.Errorf("%d dispatches: the work was not cut", n)
					}
					newGemmBench(t, dev, 0).near(got, reference, tolerance)
					newGemmBench(t, dev, 0).sameBits(got, want)
				}
			})
		}
	}
}

// unitMatmul applies an activation to numbers, by a layer whose only weight is 1.
func unitMatmul(t *testing.T, dev *engine.Device, values []float64, a ops.Activation) []float64 {
	t.Helper()
	b := newGemmBench(t, dev, 0)
	y := b.output(engine.F32, len(values), 1)
	ops.Matmul(dev.Compute(), ops.MatmulArgs{X: b.upload(engine.F32, values, len(values), 1),
		W: b.upload(engine.F32, []float64{1}, 1, 1), Y: y, Activation: a})
	return b.finish(y)
}

func TestActivationsAreAccurateToTheLastBits(t *testing.T) {
	dev := enginetest.Open(t)
	var values []float64
	for u := -12.0; u <= 12; u += 1.0 / 64 {
		values = append(values, u, roundTo(engine.F32, u*math.Pi/1000))
	}
	for _, a := range []ops.Activation{ops.GELU, ops.QuickGELU, ops.SiLU} {
		got := unitMatmul(t, dev, values, a)
		for i, u := range values {
			want := activated(u, a)
			// 4 units in the last place of the result or of |u|/16, whichever is larger: in the lower tail of GELU, where it
			// is below u/16, erf's own polynomial ends, and exp may err by 3 + 2|u| units (Vulkan, precision of exp).
			tol := max(math.Abs(want), math.Abs(u)/16) * 0x1p-21
			if !(math.Abs(got[i]-want) <= tol) {
				t.Errorf("activation %d of %g: got %g, want %g ± %g", a, u, got[i], want, tol)
			}
		}
	}
}

func TestActivationsKeepInfinityAndNaN(t *testing.T) {
	dev := enginetest.Open(t)
	inf := math.Inf(1)
	values := []float64{inf, math.NaN(), 0, 3e38, -3e38, 1e-40, 1, 2, 3}
	for _, a := range []ops.Activation{ops.GELU, ops.QuickGELU, ops.SiLU} {
		got := unitMatmul(t, dev, values, a)
		if got[0] != inf || !math.IsNaN(got[1]) || got[2] != 0 || got[3] != float64(float32(3e38)) || !(got[4] == 0) {
			t.Errorf("activation %d of %v: %v", a, values, got)
		}
	}
}

func TestMatmulHalfNeitherOverflowsNorVanishes(t *testing.T) {
	dev := enginetest.Open(t)
	if !dev.Caps().HasFloat16 {
		t.Fatal("this device has no fp16 arithmetic: run on one that has")
	}
	bf16 := []engine.DType{engine.BF16, engine.BF16, engine.BF16, engine.BF16}
	for _, scale := range []float64{1e-30, 1e-20, 1e-6, 1, 1e6, 1e20, 1e35} {
		t.Run(fmt.Sprintf("activations around %g", scale), func(t *testing.T) {
			b := newGemmBench(t, dev, 8)
			b.near(matmulCase{m: 40, n: 70, k: 80, types: bf16, half: true, scale: scale}.run(b))
		})
	}
}

func TestMatmulHalfIsWellWithinTheErrorOfBF16(t *testing.T) {
	dev := enginetest.Open(t)
	if !dev.Caps().HasFloat16 {
		t.Fatal("this device has no fp16 arithmetic: run on one that has")
	}
	b := newGemmBench(t, dev, 9)
	got, want, _ := matmulCase{m: 64, n: 64, k: 1024, half: true,
		types: []engine.DType{engine.BF16, engine.BF16, engine.F32, engine.F32}}.run(b)
	var err, size float64
	for i := range got {
		err += (got[i] - want[i]) * (got[i] - want[i])
		size += want[i] * want[i]
	}
	// Rounding an fp16 number errs by 0.2·2⁻¹⁰ of it (root mean square). In a run of 8 products that are rounded, and as
	// many sums, which grow as √j, that makes √(8 + 36) / √8 times as much of the run's sum: 2⁻¹¹. Rounding the result to
	// bf16 costs 0.2·2⁻⁸, twice that. Matrices round nothing here, bf16 operands being exact in fp16 and bf16 alike, but their
	// sums in fp32: were each of 1024 additions truncated, by 2⁻²⁴ of the sum on average, that would make 2⁻¹⁴.
	limit := 1.1 * 0x1p-11
	if dev.Caps().Tier >= engine.TierMatrix {
		limit = 0x1p-14
	}
	if rms := math.Sqrt(err / size); !(rms < limit) {
		t.Errorf("relative error %g, want at most %g", rms, limit)
	} else {
		t.Logf("relative error %.3g = 2^%.1f", rms, math.Log2(rms))
	}
}

func TestMatmulLetsInfinityAndNaNThrough(t *testing.T) {
	dev := enginetest.Open(t)
	for _, m := range []int{4, 16} {
		for _, half := range halfChoices(dev) {
			t.Run(fmt.Sprintf("%d rows, half %v", m, half), func(t *testing.T) {
				b := newGemmBench(t, dev, 1)
				k, n := 32, 8
				x := b.values(engine.BF16, m*k, 1)
				x[1*k+3], x[2*k+9] = math.Inf(1), math.NaN()
				w := absolute(b.values(engine.BF16, n*k, 1))
				y := b.output(engine.BF16, m, n)
				ops.Matmul(dev.Compute(), ops.MatmulArgs{X: b.upload(engine.BF16, x, m, k), W: b.upload(engine.BF16, w, n, k), Y: y, Half: half})
				for i, v := range b.finish(y) {
					switch row := i / n; {
					case row == 1 && !math.IsInf(v, 1), row == 2 && !math.IsNaN(v), row != 1 && row != 2 && (math.IsInf(v, 0) || math.IsNaN(v)):
						t.Errorf("row %d column %d is %v", row, i%n, v)
					}
				}
			})
		}
	}
}

func TestMatmulReadsOperandsOfAnyAlignment(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 4)
	const m, n, k = 12, 20, 16
	x, w := b.values(engine.F32, m*k, 1), b.values(engine.F32, n*k, 1)
	long := b.values(engine.F32, 3*n, 1)
	all := b.upload(engine.F32, long, 3*n)
	y := b.output(engine.F32, m, n)
	old := b.values(engine.F32, m*n, 1)
	b.put(y, old)
	ops.Matmul(dev.Compute(), ops.MatmulArgs{X: b.upload(engine.F32, x, m, k), W: b.upload(engine.F32, w, n, k), Y: y,
		Bias: all.View(n-3, n), Gate: all.View(2*n-1, n), Add: true})
	c := matmulCase{m: m, n: n, k: k, types: make([]engine.DType, 4), add: true, gate: true}
	want, tolerance := c.reference(x, w, long[n-3:2*n-3], long[2*n-1:3*n-1], old)
	b.near(b.finish(y), want, tolerance)
}

func TestMatmulPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	arena := dev.NewArena("misuse")
	defer arena.Release()
	f := func(shape ...int) engine.Tensor { return arena.Alloc("tensor", engine.F32, shape...) }
	cases := map[string]ops.MatmulArgs{
		"no weights":               {X: f(4, 8), Y: f(4, 6)},
		"inner sizes that differ":  {X: f(4, 8), W: f(6, 7), Y: f(4, 6)},
		"an output of wrong size":  {X: f(4, 8), W: f(6, 8), Y: f(4, 5)},
		"a bias of wrong size":     {X: f(4, 8), W: f(6, 8), Y: f(4, 6), Bias: f(5)},
		"a gate without residual":  {X: f(4, 8), W: f(6, 8), Y: f(4, 6), Gate: f(6)},
		"heads that do not divide": {X: f(4, 8), W: f(6, 8), Y: f(1, 4, 4), HeadDim: 4},
		"heads in row-major":       {X: f(4, 8), W: f(6, 8), Y: f(4, 6), HeadDim: 3},
		"activation and residual":  {X: f(4, 8), W: f(6, 8), Y: f(4, 6), Add: true, Activation: ops.GELU},
		"integers":                 {X: arena.Alloc("x", engine.U32, 4, 8), W: f(6, 8), Y: f(4, 6)},
	}
	for name, args := range cases {
		mustPanic(t, name, func() { ops.Matmul(dev.Compute(), args) })
	}
}

func BenchmarkMatmul(b *testing.B) {
	dev := enginetest.Open(b)
	sizes := [][3]int{{512, 512, 512}, {1, 4096, 4096}}
	if dev.Summary.Physical.Info.Kind == "discrete gpu" {
		sizes = [][3]int{{4096, 4096, 4096}, {4096, 16384, 4096}, {4096, 4096, 16384}, {256, 4096, 4096}, {1, 36864, 4096}}
	}
	for _, size := range sizes {
		for _, half := range halfChoices(dev) {
			for _, dt := range []engine.DType{engine.F32, engine.BF16} {
				b.Run(fmt.Sprintf("%dx%dx%d/%v/half=%v", size[0], size[1], size[2], dt, half), func(b *testing.B) {
					benchmarkMatmul(b, dev, size, dt, half)
				})
			}
		}
	}
}

func benchmarkMatmul(b *testing.B, dev *engine.Device, size [3]int, dt engine.DType, half bool) {
	g := newGemmBench(b, dev, 1)
	m, n, k := size[0], size[1], size[2]
	x, w := g.arena.Alloc("x", dt, m, k), g.arena.Alloc("w", dt, n, k)
	y := g.arena.Alloc("y", dt, m, n)
	if err := g.arena.Err(); err != nil {
		b.Fatal(err)
	}
	s := dev.Compute()
	s.Fill(x, 0x3c003c00)
	s.Fill(w, 0x3c003c00)
	args := ops.MatmulArgs{X: x, W: w, Y: y, Half: half}
	ops.Matmul(s, args)
	if err := s.Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ops.Matmul(s, args)
		if err := s.Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	flops := 2 * float64(m) * float64(n) * float64(k) * float64(b.N)
	b.ReportMetric(flops/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
