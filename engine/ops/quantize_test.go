package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

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
