package ops_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// gemmBench is what the tests of the matrix products share: a device, tensors with guard zones, seeded data.
type gemmBench struct {
	testing.TB
	dev   *engine.Device
	arena *engine.Arena
	rng   *rand.Rand
	outs  []guarded
}

// guarded is an output in the middle of an allocation of which no other byte may change.
type guarded struct {
	whole engine.Tensor
	inner engine.Tensor
}

const (
	guardBytes   = 256
	guardPattern = 0xa5c3a5c3
)

func newGemmBench(tb testing.TB, dev *engine.Device, seed uint64) *gemmBench {
	tb.Helper()
	b := &gemmBench{TB: tb, dev: dev, arena: dev.NewArena("test"), rng: rand.New(rand.NewPCG(seed, 1))}
	tb.Cleanup(b.arena.Release)
	return b
}

// values draws n numbers from a normal distribution, each rounded to what dt holds.
func (b *gemmBench) values(dt engine.DType, n int, deviation float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = roundTo(dt, b.rng.NormFloat64()*deviation)
	}
	return out
}

func roundTo(dt engine.DType, v float64) float64 {
	switch dt {
	case engine.BF16:
		return float64(numeric.RoundBF16(float32(v)))
	case engine.F16:
		return float64(numeric.RoundF16(float32(v)))
	}
	return float64(float32(v))
}

// upload returns a tensor that holds the values; none for none.
func (b *gemmBench) upload(dt engine.DType, values []float64, shape ...int) engine.Tensor {
	b.Helper()
	if values == nil {
		return engine.Tensor{}
	}
	t := b.arena.Alloc("input", dt, shape...)
	b.put(t, values)
	return t
}

func (b *gemmBench) put(t engine.Tensor, values []float64) {
	b.Helper()
	if err := b.arena.Err(); err != nil {
		b.Fatal(err)
	}
	f := make([]float32, len(values))
	for i, v := range values {
		f[i] = float32(v)
	}
	if err := b.dev.UploadF32(b.Context(), t, f); err != nil {
		b.Fatal(err)
	}
}

// output returns a tensor between guard zones.
func (b *gemmBench) output(dt engine.DType, shape ...int) engine.Tensor {
	b.Helper()
	n := 1
	for _, s := range shape {
		n *= s
	}
	guard := guardBytes / int(dt.Size())
	total := (n + 2*guard + 1) &^ 1 // whole words, for Fill
	whole := b.arena.Alloc("output", dt, total)
	if err := b.arena.Err(); err != nil {
		b.Fatal(err)
	}
	b.dev.Compute().Fill(whole, guardPattern)
	inner := whole.View(int64(guard), shape...)
	b.outs = append(b.outs, guarded{whole, inner})
	return inner
}

// finish waits for the device, checks all guard zones and returns the output's numbers.
func (b *gemmBench) finish(y engine.Tensor) []float64 {
	b.Helper()
	if err := b.dev.Compute().Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
	pattern := bytes.Repeat([]byte{0xc3, 0xa5}, guardBytes)
	for _, o := range b.outs {
		data, err := b.dev.Download(b.Context(), o.whole)
		if err != nil {
			b.Fatal(err)
		}
		after := guardBytes + int(o.inner.Bytes())
		if !bytes.Equal(data[:guardBytes], pattern[:guardBytes]) {
			b.Errorf("bytes before the output %v were written", o.inner)
		}
		if tail := data[after:]; !bytes.Equal(tail, pattern[after%2:after%2+len(tail)]) {
			b.Errorf("bytes after the output %v were written", o.inner)
		}
	}
	return b.read(y)
}

func (b *gemmBench) read(t engine.Tensor) []float64 {
	b.Helper()
	f, err := b.dev.DownloadF32(b.Context(), t)
	if err != nil {
		b.Fatal(err)
	}
	out := make([]float64, len(f))
	for i, v := range f {
		out[i] = float64(v)
	}
	return out
}

// near compares results with the reference, each within its own tolerance; NaN is never near.
func (b *gemmBench) near(got, want, tolerance []float64) {
	b.Helper()
	if len(got) != len(want) || len(got) == 0 {
		b.Fatalf("%d results, want %d", len(got), len(want))
	}
	wrong, worst, at := 0, 0.0, 0
	for i := range got {
		excess := math.Abs(got[i]-want[i]) / tolerance[i]
		if !(excess <= 1) {
			wrong++
		}
		if !(excess <= worst) {
			worst, at = excess, i
		}
	}
	if wrong > 0 {
		b.Errorf("%d of %d results are wrong; worst is %d: got %g, want %g ± %g", wrong, len(got), at, got[at], want[at], tolerance[at])
	}
}

// sameBits compares results that must not differ at all.
func (b *gemmBench) sameBits(got, want []float64) {
	b.Helper()
	for i := range want {
		if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
			b.Fatalf("element %d: got %v, want the same bits as %v", i, got[i], want[i])
		}
	}
}

// sumTolerance bounds the error of a sum of k products in fp32 whose magnitudes add up to size: every product and
// every addition, in whatever order, rounds by at most 2⁻²⁴ of a partial sum that is at most size.
func sumTolerance(k int, size float64) float64 { return float64(k+4) * size * 0x1p-24 }

// halfTolerance bounds it for products and partial sums of 8 in fp16: each operand is rounded (2⁻¹⁰ where the
// conversion truncates), each of 8 products and 8 additions rounds by 2⁻¹¹ of at most the partial sum's size, and what
// falls below fp16's normal range, 2⁻¹⁴, loses at most 2⁻²⁴ of the run's scale (at most twice its largest activation,
// peak) for each of these steps.
func halfTolerance(k int, size, peak, weight float64) float64 {
	return sumTolerance(k, size) + size*(2*0x1p-10+16*0x1p-11) + float64(k)*2*peak*0x1p-24*(2+weight)
}

// storeTolerance adds what rounding the result to its storage type costs: half a unit in the last place, and the
// smallest number for f16, whose subnormals end there.
func storeTolerance(dt engine.DType, v float64) float64 {
	switch dt {
	case engine.BF16:
		return math.Abs(v) * 0x1p-8
	case engine.F16:
		return math.Abs(v)*0x1p-11 + 0x1p-24
	}
	return math.Abs(v) * 0x1p-23
}

var floatTypes = []engine.DType{engine.F32, engine.BF16, engine.F16}

// anyTypes draws n storage types.
func (b *gemmBench) anyTypes(n int) []engine.DType {
	out := make([]engine.DType, n)
	for i := range out {
		out[i] = floatTypes[b.rng.IntN(len(floatTypes))]
	}
	return out
}

func typeNames(types []engine.DType) string { return fmt.Sprint(types) }

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}
