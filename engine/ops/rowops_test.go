package ops_test

import (
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// This file holds what the tests of the memory-bound ops share: a list of cases per op, each of which can be run on any
// device, so that one test compares them with the reference and another their bits under every way of cutting.

// rowCase is one op on seeded data.
type rowCase struct {
	name string
	// run uploads the inputs, records the op and returns its result, what it should be and how far it may be off.
	run func(b *gemmBench) (got, want, tolerance []float64)
}

// rowFamily is the cases of one op and the smallest binding that it can be cut to.
type rowFamily struct {
	name    string
	binding int64
	cases   []rowCase
}

func rowFamilies() []rowFamily {
	const rows = 72 << 10
	return []rowFamily{{"row norms", rows, rowNormCases()}, {"rope", rows, ropeCases()}, {"elementwise", rows, elementwiseCases()},
		{"copies", rows, copyCases()}, {"patches", rows, patchCases()}, {"group norm", 600 << 10, groupNormCases()},
		{"frame norm", rows, frameNormCases()}, {"gather", rows, gatherCases()}, {"pixels", rows, pixelCases()},
		{"softmax", 200 << 10, softmaxCases()}}
}

// thin keeps about n cases, spread over all: most of their time is compiling a pipeline for every choice of types.
func (f *rowFamily) thin(n int) {
	var kept []rowCase
	for i := 0; i < len(f.cases); i += len(f.cases)/n | 1 { // odd, because the lists repeat in even periods
		kept = append(kept, f.cases[i])
	}
	f.cases = kept
}

func checkRowCases(t *testing.T, cases []rowCase) {
	t.Helper()
	dev := enginetest.Open(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newGemmBench(t, dev, uint64(i))
			b.near(c.run(b))
		})
	}
}

func TestRowOpsAreTheSameForEveryCut(t *testing.T) {
	for _, f := range rowFamilies() {
		t.Run(f.name, func(t *testing.T) {
			f.thin(40)
			dev := enginetest.Open(t)
			whole := make([][]float64, len(f.cases))
			for i, c := range f.cases {
				whole[i], _, _ = c.run(newGemmBench(t, dev, uint64(i)))
			}
			for name, limits := range map[string]engine.TestLimits{"by cost": {MaxDispatchCost: 60000}, "by binding": {MaxStorageRange: f.binding}} {
				t.Run(name, func(t *testing.T) {
					limited := enginetest.OpenWith(t, engine.Options{Limits: limits})
					for i, c := range f.cases {
						t.Run(c.name, func(t *testing.T) {
							b := newGemmBench(t, limited, uint64(i))
							got, _, _ := c.run(b)
							b.sameBits(got, whole[i])
						})
					}
					if n, m := limited.Compute().Counters().Dispatches, dev.Compute().Counters().Dispatches; n <= m {
						t.Errorf("%d dispatches, %d without limits: nothing was cut", n, m)
					}
				})
			}
		})
	}
}

// amid uploads values as a tensor that starts skip elements into an allocation, with NaN before and after it, so that
// an element read from outside shows in the result.
func (b *gemmBench) amid(dt engine.DType, skip int, values []float64, shape ...int) engine.Tensor {
	b.Helper()
	if values == nil {
		return engine.Tensor{}
	}
	padded := make([]float64, skip+len(values)+8)
	for i := range padded {
		padded[i] = math.NaN()
	}
	copy(padded[skip:], values)
	return b.upload(dt, padded, len(padded)).View(int64(skip), shape...)
}

// outputAt is output for a tensor that starts skip elements after an aligned address.
func (b *gemmBench) outputAt(dt engine.DType, skip int, shape ...int) engine.Tensor {
	b.Helper()
	n := 1
	for _, s := range shape {
		n *= s
	}
	whole := b.output(dt, n+skip)
	return whole.View(int64(skip), shape...)
}

// exact is a tolerance of nothing but the storing of values that are computed without rounding.
func exact(dt engine.DType, want []float64) []float64 {
	out := make([]float64, len(want))
	for i, v := range want {
		out[i] = 1e-300
		if dt != engine.F32 {
			out[i] += storeTolerance(dt, v)
		}
	}
	return out
}

func (b *gemmBench) anyType() engine.DType { return floatTypes[b.rng.IntN(len(floatTypes))] }
