package ops_test

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// openFragments opens a device whose kernels build matrices element by element: by its own matrices where it has such, else in fp32.
func openFragments(t *testing.T, limits engine.TestLimits) *engine.Device {
	t.Helper()
	limits.EmulateFragments = enginetest.Open(t).Caps().Fragments == engine.NoFragments
	return enginetest.OpenWith(t, engine.Options{Limits: limits})
}

// scratchFor holds so many rows of w and of x, of k bf16 elements.
func scratchFor(rows, k int) int64 { return int64(rows) * int64(k) * 2 }

// fragmentCase is a layer of bf16 operands with a large scratch.
func fragmentCase(m, n, k int, bias, y engine.DType) matmulCase {
	return matmulCase{m: m, n: n, k: k, types: []engine.DType{engine.BF16, engine.BF16, bias, y}, half: true, scratch: scratchFor(m+n+1000, k)}
}

// Sizes around the edges of fragments, of groups of four, of subgroups' shares and of tiles, and odd ones.
func TestMatmulByFragmentsAgreesWithFloat64(t *testing.T) {
	dev := openFragments(t, engine.TestLimits{})
	for i, s := range [][3]int{{9, 1, 128}, {97, 130, 256}, {145, 200, 640}, {385, 257, 128}} {
		c := fragmentCase(s[0], s[1], s[2], floatTypes[i%3], floatTypes[(i+1)/2%3])
		c.bias = i%2 == 0
		t.Run(fmt.Sprintf("%v of %s", s, typeNames(c.types)), func(t *testing.T) {
			b := newGemmBench(t, dev, uint64(i))
			before := dev.Compute().Counters().Dispatches
			b.near(c.run(b))
			if n := dev.Compute().Counters().Dispatches - before; n != 3 {
				t.Errorf("%d dispatches, want two that pack and one that multiplies", n)
			}
		})
	}
}

func TestMatmulByFragmentsEpilogues(t *testing.T) {
	dev := openFragments(t, engine.TestLimits{})
	for name, c := range map[string]struct {
		matmulCase
		y engine.DType
	}{
		"exact GELU":                      {matmulCase{n: 80, activation: ops.GELU, bias: true}, engine.BF16},
		"SiLU, an odd number of columns":  {matmulCase{n: 79, activation: ops.SiLU, bias: true}, engine.BF16},
		"gated residual":                  {matmulCase{n: 80, add: true, gate: true, bias: true}, engine.F32},
		"gated residual, odd columns":     {matmulCase{n: 81, add: true, gate: true, bias: true}, engine.F32},
		"plain residual in f16":           {matmulCase{n: 82, add: true}, engine.F16},
		"one matrix per head":             {matmulCase{n: 192, headDim: 64, bias: true}, engine.BF16},
		"one matrix per head of odd size": {matmulCase{n: 85, headDim: 5, bias: true}, engine.F16},
	} {
		full := fragmentCase(107, c.n, 128, engine.F32, c.y)
		full.activation, full.add, full.gate, full.headDim, full.bias = c.activation, c.add, c.gate, c.headDim, c.bias
		t.Run(name, func(t *testing.T) {
			b := newGemmBench(t, dev, 5)
			b.near(full.run(b))
		})
	}
}

// Every element is summed in the same order, whatever the scratch or the device cuts.
func TestMatmulByFragmentsGivesTheSameBitsHoweverItIsCut(t *testing.T) {
	whole := openFragments(t, engine.TestLimits{})
	cost := openFragments(t, engine.TestLimits{MaxDispatchCost: 2 * 384 * 200 * 128})
	bound := openFragments(t, engine.TestLimits{MaxStorageRange: 300 * 1024})
	for name, c := range map[string]matmulCase{
		"residual":   {n: 330, bias: true, add: true, gate: true},
		"head-major": {n: 512, headDim: 64, bias: true},
	} {
		full := fragmentCase(600, c.n, 128, engine.F32, engine.BF16)
		full.activation, full.add, full.gate, full.headDim, full.bias = c.activation, c.add, c.gate, c.headDim, c.bias
		want, _, _ := full.run(newGemmBench(t, whole, 3))
		for how, cut := range map[string]struct {
			dev     *engine.Device
			scratch int64
		}{
			"rows by the scratch":             {whole, scratchFor(512+400, 128)},
			"rows and columns by the scratch": {whole, scratchFor(128+384, 128)},
			"by cost":                         {cost, full.scratch},
			"by bindings":                     {bound, full.scratch},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				again := full
				again.scratch = cut.scratch
				before := cut.dev.Compute().Counters().Dispatches
				got, reference, tolerance := again.run(newGemmBench(t, cut.dev, 3))
				if n := cut.dev.Compute().Counters().Dispatches - before; n < 5 {
					t.Errorf("%d dispatches: the work was not cut", n)
				}
				newGemmBench(t, cut.dev, 0).near(got, reference, tolerance)
				newGemmBench(t, cut.dev, 0).sameBits(got, want)
			})
		}
	}
}

// A scratch changes nothing where the layer cannot be computed from it.
func TestMatmulDoesWithoutFragments(t *testing.T) {
	dev := openFragments(t, engine.TestLimits{})
	plain := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{NoBFloat16: true}})
	bf16 := fragmentCase(40, 24, 128, engine.F32, engine.F32)
	f16, few, ragged, short := bf16, bf16, bf16, bf16
	f16.types = []engine.DType{engine.F16, engine.BF16, engine.F32, engine.F32}
	few.m = 8
	ragged.k = 136
	short.scratch = scratchFor(128+384, 128) - 1
	for name, c := range map[string]struct {
		dev *engine.Device
		matmulCase
	}{
		"operands of another type": {dev, f16}, "few rows": {dev, few}, "K of no whole strips": {dev, ragged}, "a scratch too small": {dev, short},
		"a device without fragments": {plain, bf16},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.dev.Compute().Counters().Dispatches
			got, _, _ := c.run(newGemmBench(t, c.dev, 7))
			if n := c.dev.Compute().Counters().Dispatches - before; n != 1 {
				t.Errorf("%d dispatches, want one", n)
			}
			c.scratch = 0
			want, reference, tolerance := c.run(newGemmBench(t, c.dev, 7))
			newGemmBench(t, c.dev, 0).near(want, reference, tolerance)
			newGemmBench(t, c.dev, 0).sameBits(got, want)
		})
	}
}

func TestMatmulScratch(t *testing.T) {
	for _, c := range []struct {
		rows, cols, k int
		want          int64
	}{
		{1023, 4096, 4096, 0},                        // too few rows
		{47616, 4096, 4100, 0},                       // cannot be
		{1024, 100, 128, (1024 + 128) * 256},         // whole
		{47616, 4096, 4096, (4096 + 33792) * 8192},   // 264 MiB of x, in whole tiles
		{47616, 16384, 4096, (16384 + 33792) * 8192}, //
		{47616, 4096, 16384, (4096 + 8448) * 32768},  // more than the 8,192 rows of a piece of the feed-forward network
		{2000, 64, 128 << 20 >> 1, (64 + 384) << 27}, // never less than a few tiles
	} {
		if got := ops.MatmulScratch(c.rows, c.cols, c.k); got != c.want {
			t.Errorf("%d×%d×%d: %d bytes, want %d", c.rows, c.cols, c.k, got, c.want)
		}
	}
}
