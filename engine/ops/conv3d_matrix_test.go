package ops_test

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// folded uploads weights [O, kt, kh, kw, C] with the case's upsampling folded into them.
func (b *gemmBench) folded(w []float64, c convCase) engine.Tensor {
	b.Helper()
	taps := c.kernel[0] * c.kernel[1] * c.kernel[2]
	torch := make([]float32, len(w))
	for o := range c.out {
		for i := range c.in {
			for tap := range taps {
				torch[(o*c.in+i)*taps+tap] = float32(w[(o*taps+tap)*c.in+i])
			}
		}
	}
	t := b.arena.Alloc("folded weights", engine.F16, ops.FoldedShape(c.out, c.in, c.kernel, c.upsample)...)
	if err := b.arena.Err(); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, t.Bytes())
	ops.FoldConvWeights(data, torch, c.out, c.in, c.kernel, c.upsample)
	if err := b.dev.Upload(b.Context(), t, data); err != nil {
		b.Fatal(err)
	}
	return t
}

// matrixTolerance bounds the error of products in fp16 summed in fp32: activations rounded to fp16 (2⁻¹⁰ where the
// conversion truncates) or, far below the largest, peak, to 2⁻²⁵ of it; weights, or sums of them, rounded by 2⁻¹¹, or by
// 2⁻²⁵ below fp16's normal range. Matrix units may truncate where they add.
func matrixTolerance(k int, size, peak, weight float64) float64 {
	return 2*sumTolerance(k, size) + size*(0x1p-10+0x1p-11) + float64(k)*peak*0x1p-24*(1+weight)
}

func openConvMatrices(t *testing.T, o engine.Options) *engine.Device {
	t.Helper()
	d := enginetest.OpenWith(t, o)
	if c := d.Caps(); c.Tier < engine.TierMatrix || c.Matrix.F16 == (engine.MatrixShape{}) {
		t.Skipf("the device runs tier %v: %s", c.Tier, d.Summary.TierWhy)
	}
	return d
}

var convMatrixCases = []convCase{
	{size: [3]int{1, 1, 1}, in: 16, out: 1, kernel: k3},
	{size: [3]int{3, 6, 5}, in: 16, out: 3, kernel: k3, bias: true},
	{size: [3]int{2, 9, 35}, in: 32, out: 20, kernel: k3, residual: true},
	{size: [3]int{2, 7, 6}, in: 48, out: 40, kernel: k1, bias: true},
	{size: [3]int{3, 5, 6}, in: 16, out: 33, kernel: k1, inPlace: true},
	{size: [3]int{1, 8, 9}, in: 16, out: 70, kernel: k3, stride: [3]int{1, 2, 2}, bias: true},
	{size: [3]int{5, 9, 8}, in: 16, out: 16, kernel: k3, stride: [3]int{2, 2, 2}},
	{size: [3]int{4, 7, 7}, in: 16, out: 5, kernel: k3, stride: [3]int{2, 1, 2}, residual: true, bias: true},
	{size: [3]int{3, 4, 5}, in: 16, out: 24, kernel: k3, upsample: [3]int{1, 2, 2}},
	{size: [3]int{4, 4, 5}, in: 32, out: 24, kernel: k3, upsample: [3]int{2, 2, 2}, bias: true},
	{size: [3]int{1, 3, 17}, in: 16, out: 8, kernel: k3, upsample: [3]int{2, 2, 2}, residual: true},
	{size: [3]int{2, 3, 4}, in: 16, out: 7, kernel: k3, upsample: [3]int{2, 1, 2}, inPlace: true},
	{size: [3]int{2, 5, 4}, in: 16, out: 9, kernel: k3, upsample: [3]int{1, 2, 1}, bias: true},
	{size: [3]int{3, 5, 5}, in: 16, out: 6, kernel: [3]int{2, 2, 2}},
	{size: [3]int{3, 5, 5}, in: 16, out: 6, kernel: [3]int{1, 3, 2}, bias: true},
	{size: [3]int{3, 4, 3}, in: 16, out: 8, kernel: [3]int{3, 1, 1}},
	{size: [3]int{2, 13, 11}, in: 64, out: 128, kernel: k3, bias: true},
}

func TestConv3DByMatricesAgreesWithFloat64(t *testing.T) {
	dev := openConvMatrices(t, engine.Options{})
	for i, c := range convMatrixCases {
		seed := uint64(i)
		c.matrix = true
		c.types = newGemmBench(t, dev, seed).anyTypes(5)
		if i%3 > 0 {
			c.types[0] = engine.F16
		}
		t.Run(fmt.Sprintf("%v, seed %d", c, seed), func(t *testing.T) {
			b := newGemmBench(t, dev, seed)
			b.near(c.run(b))
		})
	}
}

func TestConv3DByMatricesNeitherOverflowsNorVanishes(t *testing.T) {
	dev := openConvMatrices(t, engine.Options{})
	for _, dt := range []engine.DType{engine.BF16, engine.F32} {
		for _, scale := range []float64{1e-20, 1e20} {
			t.Run(fmt.Sprintf("%v around %g", dt, scale), func(t *testing.T) {
				b := newGemmBench(t, dev, 8)
				types := []engine.DType{dt, engine.F16, engine.F32, engine.F32, dt}
				b.near(convCase{size: [3]int{2, 6, 7}, in: 48, out: 24, kernel: k3, types: types, matrix: true, scale: scale}.run(b))
			})
		}
	}
}

func TestConv3DByMatricesGivesTheSameBitsHoweverItIsCut(t *testing.T) {
	whole := openConvMatrices(t, engine.Options{})
	rows := openConvMatrices(t, engine.Options{Limits: engine.TestLimits{MaxDispatchCost: 600e3}})
	bound := openConvMatrices(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 14 << 10}})
	cases := map[string]convCase{
		"stride 1":      {size: [3]int{2, 17, 40}, in: 16, out: 8, kernel: k3, bias: true},
		"downsampling":  {size: [3]int{3, 20, 38}, in: 16, out: 8, kernel: k3, stride: [3]int{2, 2, 2}, inPlace: true},
		"upsampling":    {size: [3]int{2, 13, 40}, in: 16, out: 8, kernel: k3, upsample: [3]int{2, 2, 2}},
		"up in space":   {size: [3]int{2, 13, 40}, in: 16, out: 4, kernel: k3, upsample: [3]int{1, 2, 2}, bias: true},
		"pointwise":     {size: [3]int{2, 60, 40}, in: 16, out: 12, kernel: k1},
		"even kernel":   {size: [3]int{2, 25, 30}, in: 16, out: 8, kernel: [3]int{2, 2, 2}},
		"tall and thin": {size: [3]int{2, 610, 1}, in: 16, out: 8, kernel: k3},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.matrix = true
			c.types = []engine.DType{engine.F16, engine.F16, engine.F32, engine.F32, engine.F32}
			want, _, _ := c.run(newGemmBench(t, whole, 3))
			for _, dev := range []*engine.Device{rows, bound} {
				before := dev.Compute().Counters().Dispatches
				got, reference, tolerance := c.run(newGemmBench(t, dev, 3))
				frames := ref.Conv3D{Size: c.size, In: c.in, Out: c.out, Kernel: c.kernel, Stride: c.stride, Upsample: c.upsample}.OutSize()[0]
				if n := dev.Compute().Counters().Dispatches - before; n <= int64(frames) {
					t.Errorf("%d dispatches for %d frames: the frames were not cut", n, frames)
				}
				newGemmBench(t, dev, 0).near(got, reference, tolerance)
				newGemmBench(t, dev, 0).sameBits(got, want)
			}
		})
	}
}

func TestConvByMatricesIsForWhatMatricesCanCompute(t *testing.T) {
	caps := openConvMatrices(t, engine.Options{}).Caps()
	for channels, want := range map[int]bool{3: false, 4: false, 16: true, 48: true, 512: true} {
		if got := ops.ConvByMatrices(caps, channels); got != want {
			t.Errorf("%d channels: %v", channels, got)
		}
	}
	caps.Tier = engine.TierFP16
	if ops.ConvByMatrices(caps, 16) {
		t.Error("tier fp16 computes by matrices")
	}
	if ops.ConvByMatrices(engine.Caps{Tier: engine.TierMatrix}, 16) {
		t.Error("a device without fp16 matrices computes by them")
	}
}

func TestFoldedWeightsAreSumsOfTaps(t *testing.T) {
	src := make([]float32, 2*27) // two input channels, one output channel
	for i := range src {
		src[i] = float32(i)
	}
	tap := func(c, t, h, w int) float32 { return src[c*27+(t*3+h)*3+w] }
	shape := ops.FoldedShape(1, 2, k3, [3]int{2, 1, 2})
	if want := []int{2, 2, 1, 2, 3, 2, 2}; fmt.Sprint(shape) != fmt.Sprint(want) {
		t.Fatalf("shape %v, want %v", shape, want)
	}
	data := make([]byte, 2*2*2*2*3*2*2)
	ops.FoldConvWeights(data, src, 1, 2, k3, [3]int{2, 1, 2})
	got := make([]float32, len(data)/2)
	numeric.F32sFromF16(got, data)
	at := func(fold, phase, t, h, w, c int) float32 { return got[((((fold*2+phase)*2+t)*3+h)*2+w)*2+c] }
	for _, c := range []struct{ got, want float32 }{
		{at(0, 0, 0, 1, 0, 1), tap(1, 0, 1, 0) + tap(1, 1, 1, 0)},                                     // (a, a, b), column i − 1
		{at(0, 0, 1, 2, 1, 0), tap(0, 2, 2, 1) + tap(0, 2, 2, 2)},                                     // b, column i twice
		{at(1, 0, 1, 0, 0, 0), tap(0, 1, 0, 0) + tap(0, 2, 0, 0)},                                     // (a, b, b)
		{at(1, 1, 1, 0, 0, 0), tap(0, 1, 0, 0) + tap(0, 2, 0, 0) + tap(0, 1, 0, 1) + tap(0, 2, 0, 1)}, // odd column: i twice
		{at(1, 1, 0, 2, 1, 1), tap(1, 0, 2, 2)},                                                       // column i + 1
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}
