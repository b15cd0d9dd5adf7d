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
