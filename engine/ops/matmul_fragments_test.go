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

// packed returns a bf16 matrix packed.
func (b *gemmBench) packed(x engine.Tensor, order ops.FragmentOrder) engine.Tensor {
	b.Helper()
	out := b.output(engine.BF16, ops.PackedRows(x.Dim(0)), x.Dim(1)).Rows(0, x.Dim(0))
	ops.Pack(b.dev.Compute(), out, x, order)
	return out
}

// fragmentCase is a layer of packed operands.
func fragmentCase(m, n, k int, bias, y engine.DType) matmulCase {
	return matmulCase{m: m, n: n, k: k, types: []engine.DType{engine.BF16, engine.BF16, bias, y}, half: true, packed: true}
}

// Sizes around the edges of fragments, of groups of four, of subgroups' shares and of tiles, and odd ones.
func TestMatmulByFragmentsAgreesWithFloat64(t *testing.T) {
	dev := openFragments(t, engine.TestLimits{})
	for i, s := range [][3]int{{3, 1, 128}, {97, 130, 256}, {145, 200, 640}, {385, 257, 128}} {
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

// Every element is summed in the same order, whatever the device cuts.
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
		for how, dev := range map[string]*engine.Device{"by cost": cost, "by bindings": bound} {
			t.Run(name+", "+how, func(t *testing.T) {
				before := dev.Compute().Counters().Dispatches
				got, reference, tolerance := full.run(newGemmBench(t, dev, 3))
				if n := dev.Compute().Counters().Dispatches - before; n < 4 {
					t.Errorf("%d dispatches: the work was not cut", n)
				}
				newGemmBench(t, dev, 0).near(got, reference, tolerance)
				newGemmBench(t, dev, 0).sameBits(got, want)
			})
		}
	}
}

func TestMatmulPanicsOnPackedOperandsThatItCannotTake(t *testing.T) {
	dev := openFragments(t, engine.TestLimits{})
	plain := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{NoBFloat16: true}})
	arena := dev.NewArena("misuse")
	defer arena.Release()
	f := func(dt engine.DType, shape ...int) engine.Tensor { return arena.Alloc("tensor", dt, shape...) }
	bf16 := func(rows, cols int) engine.Tensor { return f(engine.BF16, rows, cols) }
	for name, a := range map[string]ops.MatmulArgs{
		"operands of another type":   {X: f(engine.F16, 64, 128), W: bf16(64, 128), Y: bf16(64, 64)},
		"K of no whole strips":       {X: bf16(64, 136), W: bf16(64, 136), Y: bf16(64, 64)},
		"a packed y of odd columns":  {X: bf16(64, 128), W: bf16(64, 128), Y: bf16(64, 64), PackY: true},
		"a packed y that is a sum":   {X: bf16(64, 128), W: bf16(128, 128), Y: bf16(64, 128), PackY: true, Add: true},
		"a packed y in f32":          {X: bf16(64, 128), W: bf16(128, 128), Y: f(engine.F32, 64, 128), PackY: true},
		"no memory for whole groups": {X: bf16(60, 128), W: bf16(64, 128), Y: bf16(60, 64)},
	} {
		a.Half, a.Packed = true, true
		mustPanic(t, name, func() { ops.Matmul(dev.Compute(), a) })
	}
	mustPanic(t, "a device without fragments", func() {
		ops.Matmul(plain.Compute(), ops.MatmulArgs{X: bf16(64, 128), W: bf16(64, 128), Y: bf16(64, 64), Half: true, Packed: true})
	})
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
}
