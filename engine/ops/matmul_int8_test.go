package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// bytesCase is a linear layer in 8-bit integers and what it works on.
type bytesCase struct {
	args    MatmulArgs
	x       engine.Tensor // as it was before it was rounded
	xs, ws  []float64     // before rounding
	guarded engine.Tensor
	old     []float64
	biases  []float64
	gates   []float64
}

func newBytesCase(t testing.TB, d *engine.Device, arena *engine.Arena, rng *rand.Rand, m, n, k int, xType, yType engine.DType) *bytesCase {
	t.Helper()
	c := &bytesCase{}
	c.x, c.xs = attentionInput(t, arena, d, rng, xType, 1, m, k)
	weights := make([]float32, n*k)
	for i := range weights {
		weights[i] = float32(rng.NormFloat64() / math.Sqrt(float64(k)))
		c.ws = append(c.ws, float64(weights[i]))
	}
	raw, scales := make([]byte, n*k), make([]float32, n)
	QuantizeWeights(raw, scales, weights)
	c.guarded, c.old = attentionInput(t, arena, d, rng, yType, 1, m*n+2*attentionGuard)
	var bias, gate engine.Tensor
	bias, c.biases = attentionInput(t, arena, d, rng, engine.F32, 1, n)
	gate, c.gates = attentionInput(t, arena, d, rng, engine.F32, 1, n)
	c.args = MatmulArgs{X: arena.Alloc("x", engine.I8, m, k), W: arena.Alloc("w", engine.I8, n, k), XScale: arena.Alloc("x scale", engine.F32, m),
		WScale: arena.Alloc("w scale", engine.F32, n), Bias: bias, Gate: gate, Y: c.guarded.View(attentionGuard, m, n)}
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	if err := d.Upload(t.Context(), c.args.W, raw); err != nil {
		t.Fatal(err)
	}
	if err := d.UploadF32(t.Context(), c.args.WScale, scales); err != nil {
		t.Fatal(err)
	}
	return c
}

// signedBytes downloads bytes with their scales as numbers.
func signedBytes(t testing.TB, d *engine.Device, x, scale engine.Tensor) (q, scales []float64) {
	t.Helper()
	raw, err := d.Download(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range raw {
		q = append(q, float64(int8(b)))
	}
	return q, attentionDownload(t, d, scale)
}

// hadamard is H of quantize.comp for rows of k channels, computed from its definition: (-1) to the number of bits that two
// channels' numbers in a block have in common.
func hadamard(row []float64) []float64 {
	block := 1 << (3 * quantizeStages(len(row)))
	out := make([]float64, len(row))
	for i := range row {
		p := i % block
		to := p%8*(block/8) + p/8 // the last digit to the front
		for j := range block {
			sign := 1.0
			for bits := to & j; bits != 0; bits &= bits - 1 {
				sign = -sign
			}
			out[i] += sign * row[i-p+j] / math.Sqrt(float64(block))
		}
	}
	return out
}

// Bytes times scale are the turned row, off by half a step and by what fp32 rounds: 3 stages of 3 additions, 9 ulp of the
// largest.
func TestQuantizeRoundsTurnedRows(t *testing.T) {
	d := enginetest.Open(t)
	for n, k := range []int{64, 448, 512, 1536, 1792} {
		for _, dt := range []engine.DType{engine.F32, engine.BF16, engine.F16} {
			t.Run(fmt.Sprintf("%d channels of %v", k, dt), func(t *testing.T) {
				arena := d.NewArena("quantize")
				defer arena.Release()
				const rows = 5
				rng := rand.New(rand.NewPCG(31, uint64(n)))
				x, xs := attentionInput(t, arena, d, rng, dt, 3, rows, k)
				copy(xs[2*k:3*k], make([]float64, k)) // a row of zeros
				xs[3*k+7] = 600                       // an outlier
				f := make([]float32, len(xs))
				for i, v := range xs {
					f[i] = float32(v)
				}
				if err := d.UploadF32(t.Context(), x, f); err != nil {
					t.Fatal(err)
				}
				y, scale := arena.Alloc("y", engine.I8, rows, k), arena.Alloc("scale", engine.F32, rows)
				Quantize(d.Compute(), QuantizeArgs{X: x, Y: y, Scale: scale})
				q, scales := signedBytes(t, d, y, scale)
				raw, host := make([]byte, len(f)), make([]float32, rows)
				QuantizeWeights(raw, host, f)
				for row := range rows {
					want := hadamard(xs[row*k:][:k])
					top := 0.0
					for _, v := range want {
						top = max(top, math.Abs(v))
					}
					if math.Abs(scales[row]-top/127) > 1e-5*top || math.Abs(float64(host[row])-top/127) > 1e-5*top {
						t.Fatalf("row %d: scale %g, on the host %g, want %g", row, scales[row], host[row], top/127)
					}
					for i, w := range want {
						if got := q[row*k+i] * scales[row]; !(math.Abs(got-w) <= 0.5*scales[row]+1e-5*top) {
							t.Fatalf("row %d, channel %d: %g, want %g", row, i, got, w)
						}
						if got := float64(int8(raw[row*k+i])) * float64(host[row]); !(math.Abs(got-w) <= 0.5*scales[row]+1e-5*top) {
							t.Fatalf("row %d, channel %d on the host: %g, want %g", row, i, got, w)
						}
					}
				}
			})
		}
	}
}

func TestARowThatIsNotFiniteGetsAScaleThatIsNone(t *testing.T) {
	d := enginetest.Open(t)
	arena := d.NewArena("quantize")
	defer arena.Release()
	f := make([]float32, 4*64)
	f[3], f[64+9], f[130], f[200] = float32(math.NaN()), float32(math.Inf(1)), 3e38, 1
	f[131] = 3e38
	x, y, scale := arena.Alloc("x", engine.F32, 4, 64), arena.Alloc("y", engine.I8, 4, 64), arena.Alloc("scale", engine.F32, 4)
	if err := d.UploadF32(t.Context(), x, f); err != nil {
		t.Fatal(err)
	}
	Quantize(d.Compute(), QuantizeArgs{X: x, Y: y, Scale: scale})
	got := attentionDownload(t, d, scale)
	if !math.IsNaN(got[0]) || !math.IsNaN(got[1]) || !math.IsNaN(got[2]) || !(got[3] > 0) {
		t.Errorf("scales %v", got)
	}
}

// The result of each kernel is that of the rounded operands: sums are exact, so it errs by the scaling (3 roundings), by
// bias and gate, and by the rounding of y. And it is near that of the operands before rounding: a step is 1/127 of a
// row's largest magnitude, about 3.5 deviations of what H leaves; its rounding error is 3.5/127/√12 of a deviation, 0.8 %,
// once for x and once for w; 2 % leave room for rows whose largest is larger.
func TestMatmulOfBytes(t *testing.T) {
	d := enginetest.Open(t)
	tests := []struct {
		m, n, k   int
		y         engine.DType
		head      int
		add, gate bool
		act       Activation
	}{
		{m: 7, n: 33, k: 192, y: engine.BF16, act: GELU},
		{m: 65, n: 96, k: 512, y: engine.BF16, head: 32},
		{m: 130, n: 72, k: 448, y: engine.F32, add: true, gate: true},
	}
	for n, tt := range tests {
		arena := d.NewArena("matmul of bytes")
		defer arena.Release()
		rng := rand.New(rand.NewPCG(33, uint64(n)))
		c := newBytesCase(t, d, arena, rng, tt.m, tt.n, tt.k, engine.BF16, tt.y)
		c.args.Add, c.args.Activation, c.args.HeadDim = tt.add, tt.act, tt.head
		if !tt.gate {
			c.args.Gate = engine.Tensor{}
		}
		if tt.head > 0 {
			c.args.Y = c.args.Y.Reshape(tt.n/tt.head, tt.m, tt.head)
		}
		Quantize(d.Compute(), QuantizeArgs{X: c.x, Y: c.args.X, Scale: c.args.XScale})
		var bits [][]float64
		for _, by := range []string{"as the device does", "without matrices"} {
			t.Run(fmt.Sprintf("%d×%d×%d to %v, head %d, add %v, activation %d, %s", tt.m, tt.n, tt.k, tt.y, tt.head, tt.add, tt.act, by), func(t *testing.T) {
				f := make([]float32, len(c.old))
				for i, v := range c.old {
					f[i] = float32(v)
				}
				if err := d.UploadF32(t.Context(), c.guarded, f); err != nil {
					t.Fatal(err)
				}
				m := c.args.check()
				m.plan(d.Caps())
				if has := d.Caps().Tier >= engine.TierMatrix && d.Caps().Matrix.I8 != (engine.MatrixShape{}); has != (m.matrix != nil) {
					t.Errorf("by matrices: %v, the device has some: %v", m.matrix != nil, has)
				}
				if by == "without matrices" {
					m.planMatrix(d.Caps(), nil)
				}
				m.record(d.Compute())
				bits = append(bits, c.check(t, d))
			})
		}
		if len(bits) == 2 && !slices.Equal(bits[0], bits[1]) {
			t.Errorf("case %d: the kernels give different bits", n)
		}
	}
}

// check compares with float64 and returns what there is.
func (c *bytesCase) check(t *testing.T, d *engine.Device) []float64 {
	t.Helper()
	q, qs := signedBytes(t, d, c.args.X, c.args.XScale)
	w, wsc := signedBytes(t, d, c.args.W, c.args.WScale)
	m, n := len(qs), len(wsc)
	k := len(q) / m
	exact := ref.Matmul(q, w, nil, m, n, k)
	near := ref.Matmul(c.xs, c.ws, nil, m, n, k)
	got := attentionDownload(t, d, c.guarded)
	round := map[engine.DType]float64{engine.F32: 0x1p-23, engine.BF16: 0x1p-8, engine.F16: 0x1p-11}[c.args.Y.DType]
	var diff, norm float64
	for i, v := range got {
		at := i - attentionGuard
		if at < 0 || at >= m*n {
			if v != c.old[i] {
				t.Fatalf("element %d outside of the result became %g", at, v)
			}
			continue
		}
		row, col := at/n, at%n
		if h := c.args.HeadDim; h > 0 {
			row, col = at/h%m, at/(h*m)*h+at%h
		}
		sum := exact[row*n+col] * qs[row] * wsc[col]
		want := sum + c.biases[col]
		big := math.Abs(sum) + math.Abs(c.biases[col])
		if c.args.Activation == GELU {
			want = ref.GELU(want)
		}
		if c.args.Add {
			gate := 1.0
			if !c.args.Gate.IsZero() {
				gate = c.gates[col]
			}
			want = c.old[i] + gate*want
			big = big*math.Abs(gate) + math.Abs(c.old[i])
		}
		if tol := 6*0x1p-24*big + round*math.Abs(want) + 2e-6; !(math.Abs(v-want) <= tol) {
			t.Fatalf("row %d, column %d: %g, want %g ± %.2g", row, col, v, want, tol)
		}
		diff += (sum - near[row*n+col]) * (sum - near[row*n+col])
		norm += near[row*n+col] * near[row*n+col]
	}
	if e := math.Sqrt(diff / norm); !(e <= 0.02) {
		t.Errorf("rounding changed the products by %.3g of themselves", e)
	} else {
		t.Logf("rounding to bytes changed the products by %.2g of themselves", e)
	}
	return got
}

func TestMatmulOfBytesIsTheSameForEveryCut(t *testing.T) {
	whole := enginetest.Open(t)
	small := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxDispatchCost: 2e6, MaxStorageRange: 160 << 10}})
	run := func(d *engine.Device) []float64 {
		arena := d.NewArena("matmul of bytes")
		defer arena.Release()
		c := newBytesCase(t, d, arena, rand.New(rand.NewPCG(35, 1)), 300, 256, 64, engine.BF16, engine.F32)
		c.args.Gate = engine.Tensor{}
		c.args.HeadDim, c.args.Y = 128, c.args.Y.Reshape(2, 300, 128)
		before := d.Compute().Counters().Dispatches
		Quantize(d.Compute(), QuantizeArgs{X: c.x, Y: c.args.X, Scale: c.args.XScale})
		Matmul(d.Compute(), c.args)
		if n := d.Compute().Counters().Dispatches - before; d == small && n < 5 {
			t.Errorf("%d dispatches: nothing was cut", n)
		}
		return attentionDownload(t, d, c.guarded)
	}
	if !slices.Equal(run(whole), run(small)) {
		t.Error("cuts changed the result")
	}
}

func TestMatmulOfBytesRefusesWhatDoesNotFit(t *testing.T) {
	d := enginetest.Open(t)
	for name, spoil := range map[string]func(*MatmulArgs){
		"no scale of x":       func(a *MatmulArgs) { a.XScale = engine.Tensor{} },
		"scale of too few":    func(a *MatmulArgs) { a.WScale = a.WScale.View(0, 4) },
		"w in floats":         func(a *MatmulArgs) { a.W = a.Y.View(0, 8, 64) },
		"k no multiple of 64": func(a *MatmulArgs) { a.X, a.W = a.X.View(0, 2, 32), a.W.View(0, 8, 32) },
	} {
		t.Run(name, func(t *testing.T) {
			arena := d.NewArena("matmul of bytes")
			defer arena.Release()
			c := newBytesCase(t, d, arena, rand.New(rand.NewPCG(36, 1)), 64, 8, 64, engine.F32, engine.F32)
			spoil(&c.args)
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			Matmul(d.Compute(), c.args)
		})
	}
}

// BenchmarkQuantizeWeights is what rounding costs the host when a block is read.
func BenchmarkQuantizeWeights(b *testing.B) {
	const rows, k = 1024, 4096
	rng := rand.New(rand.NewPCG(41, 1))
	weights, dst, scales := make([]float32, rows*k), make([]byte, rows*k), make([]float32, rows)
	for i := range weights {
		weights[i] = float32(rng.NormFloat64())
	}
	b.SetBytes(2 * rows * k) // of bf16
	for b.Loop() {
		QuantizeWeights(dst, scales, weights)
	}
}

func BenchmarkQuantize(b *testing.B) {
	d := enginetest.Open(b)
	rows, k := 47616, 4096
	if d.Summary.Physical.Info.Kind == "cpu" {
		rows = 512
	}
	arena := d.NewArena("quantize benchmark")
	defer arena.Release()
	x, y, scale := arena.Alloc("x", engine.BF16, rows, k), arena.Alloc("y", engine.I8, rows, k), arena.Alloc("scale", engine.F32, rows)
	if err := arena.Err(); err != nil {
		b.Fatal(err)
	}
	noise(b, d, x, rand.New(rand.NewPCG(42, 1)), 1)
	b.SetBytes(int64(3 * rows * k))
	for b.Loop() {
		Quantize(d.Compute(), QuantizeArgs{X: x, Y: y, Scale: scale})
		if err := d.Compute().Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// A channel a hundred times as large as the others, which the weights nearly ignore, as trained networks have them: rounding
// the row as it is would lose a quarter of the result. Turned, its 100 are 4.4 in each of 512 channels, so the largest is about 8, a
// step 0.063 and the error 2 %; 4 % leave room for the other blocks' chance.
func TestTurningSpreadsOutliers(t *testing.T) {
	const n, k = 40, 1024
	rng := rand.New(rand.NewPCG(37, 1))
	x, w := make([]float32, k), make([]float32, n*k)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i := range w {
		w[i] = float32(rng.NormFloat64())
	}
	x[700] = 100
	for row := range n {
		w[row*k+700] *= 0.01
	}
	products := func(round func(v []float32, rows int) []float64) []float64 {
		return ref.Matmul(round(x, 1), round(w, n), nil, 1, n, k)
	}
	turned := products(func(v []float32, rows int) []float64 {
		q, scales := make([]byte, len(v)), make([]float32, rows)
		QuantizeWeights(q, scales, v)
		out := make([]float64, len(v))
		for i, b := range q {
			out[i] = float64(int8(b)) * float64(scales[i/k])
		}
		return out
	})
	exact := products(func(v []float32, rows int) []float64 { return widened(v) })
	plain := products(func(v []float32, rows int) []float64 {
		out := widened(v)
		for row := range rows {
			top := 0.0
			for _, a := range out[row*k : row*k+k] {
				top = max(top, math.Abs(a))
			}
			for i := range k {
				out[row*k+i] = math.Round(out[row*k+i]/top*127) * top / 127
			}
		}
		return out
	})
	if good, bad := relative(turned, exact), relative(plain, exact); !(good < 0.04 && bad > 0.1) {
		t.Errorf("turned, rounding errs by %.3g, as they are by %.3g", good, bad)
	}
}

func widened(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// relative is the relative L2 distance.
func relative(got, want []float64) float64 {
	var diff, norm float64
	for i, w := range want {
		diff += (got[i] - w) * (got[i] - w)
		norm += w * w
	}
	return math.Sqrt(diff / norm)
}

// Tiles of bytes take twice as many along k as those of 16 bits, in the same shared memory, and layers of bytes are tuned.
func TestTilesOfBytesOnALargeDevice(t *testing.T) {
	caps := engine.Caps{Tier: engine.TierMatrix, SubgroupSize: 32, MaxSharedBytes: 48 << 10, MaxInvocations: 1024, MaxStorageRange: 1 << 30,
		MaxGroups: [3]uint32{65535, 65535, 65535}, MaxDispatchCost: 1e15}
	caps.Matrix.F16, caps.Matrix.I8 = engine.MatrixShape{M: 16, N: 16, K: 16}, engine.MatrixShape{M: 16, N: 16, K: 32}
	of := func(dt engine.DType, shape ...int) engine.Tensor { return engine.Tensor{DType: dt, Shape: shape} }
	m := matmul{MatmulArgs: MatmulArgs{X: of(engine.I8, 47616, 4096), W: of(engine.I8, 4096, 4096), Y: of(engine.BF16, 47616, 4096)},
		rows: 47616, cols: 4096, k: 4096, head: 4096}
	m.plan(caps)
	if m.matrix == nil || m.matrix.tile.name() != "192x128x128/48x64" {
		t.Fatalf("takes %+v", m.matrix)
	}
	if o := m.operation(caps); len(o.Ways) != len(matrixTiles) || o.Ways[0].Name != o.Default || o.Ways[0].Shader != m.matrix.shader {
		t.Errorf("offers %+v", o)
	}
	again := m
	if again.take(caps, "64x64x128/32x32"); again.matrix.tile.m != 64 || again.matrix.shape != caps.Matrix.I8 {
		t.Errorf("takes %+v, not the tile that was chosen", again.matrix)
	}
	caps.Matrix.I8 = engine.MatrixShape{}
	if m.plan(caps); m.matrix != nil || len(m.operation(caps).Ways) != 0 {
		t.Errorf("without such matrices it takes %+v and offers %+v", m.matrix, m.operation(caps).Ways)
	}
}
