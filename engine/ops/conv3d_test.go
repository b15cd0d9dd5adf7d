package ops_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// convCase is a convolution on random data.
type convCase struct {
	size             [3]int // T, H, W
	in, out          int
	kernel           [3]int
	stride, upsample [3]int
	types            []engine.DType // x, w, bias, residual, y
	bias, residual   bool
	inPlace          bool // the residual is what y holds
	half             bool
	matrix           bool    // by cooperative matrices, half too
	scale            float64 // deviation of x, 1 where zero
}

func (c convCase) String() string {
	return fmt.Sprintf("%v of %d to %d channels, kernel %v, stride %v, upsample %v, %s", c.size, c.in, c.out, c.kernel, c.stride, c.upsample, typeNames(c.types))
}

func (c convCase) run(b *gemmBench) (got, want, tolerance []float64) {
	b.Helper()
	if c.scale == 0 {
		c.scale = 1
	}
	conv := ref.Conv3D{Size: c.size, In: c.in, Out: c.out, Kernel: c.kernel, Stride: c.stride, Upsample: c.upsample}
	k := c.in * c.kernel[0] * c.kernel[1] * c.kernel[2]
	x := b.values(c.types[0], c.size[0]*c.size[1]*c.size[2]*c.in, c.scale)
	w := b.values(c.types[1], c.out*k, 1)
	var bias, residual []float64
	if c.bias {
		bias = b.values(c.types[2], c.out, 1)
	}
	size := conv.OutSize()
	shape := []int{size[0], size[1], size[2], c.out}
	y := b.output(c.types[4], shape...)
	args := ops.Conv3DArgs{
		X: b.upload(c.types[0], x, c.size[0], c.size[1], c.size[2], c.in), Y: y, Stride: c.stride, Upsample: c.upsample, Half: c.half,
		W:    b.upload(c.types[1], w, c.out, c.kernel[0], c.kernel[1], c.kernel[2], c.in),
		Bias: b.upload(c.types[2], bias, c.out),
	}
	switch {
	case c.inPlace:
		residual = b.values(c.types[4], size[0]*size[1]*size[2]*c.out, 1)
		b.put(y, residual)
		args.Residual = y
	case c.residual:
		residual = b.values(c.types[3], size[0]*size[1]*size[2]*c.out, 1)
		args.Residual = b.upload(c.types[3], residual, shape...)
	}
	if c.matrix {
		args.Half = true
		if c.upsample != [3]int{} {
			args.W = b.folded(w, c)
		}
	}
	if got := args.OutSize(); got != size {
		b.Fatalf("OutSize %v, want %v", got, size)
	}
	ops.Conv3D(b.dev.Compute(), args)
	got = b.finish(y)

	want = conv.Apply(x, w, bias)
	sizes := conv.Apply(absolute(x), absolute(w), absolute(bias))
	tolerance = make([]float64, len(want))
	peak, weight := maxAbs(x), maxAbs(w)
	for i := range want {
		tolerance[i] = sumTolerance(k, sizes[i])
		switch {
		case c.matrix:
			tolerance[i] = matrixTolerance(k, sizes[i], peak, weight)
		case c.half:
			tolerance[i] = halfTolerance(k, sizes[i], peak, weight)
		}
		if residual != nil {
			want[i] += residual[i]
			tolerance[i] += 0x1p-23 * math.Abs(residual[i])
		}
		tolerance[i] += storeTolerance(c.types[4], want[i])
	}
	return got, want, tolerance
}

var (
	k3 = [3]int{3, 3, 3}
	k1 = [3]int{1, 1, 1}
)

var convCases = []convCase{
	{size: [3]int{1, 1, 1}, in: 1, out: 1, kernel: k3},
	{size: [3]int{2, 5, 7}, in: 3, out: 12, kernel: k3, bias: true},
	{size: [3]int{3, 6, 5}, in: 16, out: 3, kernel: k3, bias: true},
	{size: [3]int{4, 9, 11}, in: 8, out: 20, kernel: k3, residual: true},
	{size: [3]int{2, 7, 6}, in: 24, out: 40, kernel: k1, bias: true},
	{size: [3]int{3, 5, 6}, in: 5, out: 33, kernel: k1, inPlace: true},
	{size: [3]int{1, 8, 9}, in: 8, out: 70, kernel: k3, stride: [3]int{1, 2, 2}, bias: true},
	{size: [3]int{5, 9, 8}, in: 8, out: 16, kernel: k3, stride: [3]int{2, 2, 2}},
	{size: [3]int{4, 7, 7}, in: 6, out: 5, kernel: k3, stride: [3]int{2, 1, 2}, residual: true, bias: true},
	{size: [3]int{3, 4, 5}, in: 8, out: 24, kernel: k3, upsample: [3]int{1, 2, 2}},
	{size: [3]int{3, 4, 5}, in: 8, out: 24, kernel: k3, upsample: [3]int{2, 2, 2}, bias: true},
	{size: [3]int{2, 3, 4}, in: 3, out: 7, kernel: k3, upsample: [3]int{2, 1, 2}, stride: [3]int{1, 2, 1}, inPlace: true},
	{size: [3]int{3, 5, 5}, in: 4, out: 6, kernel: [3]int{2, 2, 2}},
	{size: [3]int{3, 5, 5}, in: 8, out: 6, kernel: [3]int{1, 3, 2}, bias: true},
	{size: [3]int{3, 4, 3}, in: 8, out: 8, kernel: [3]int{3, 1, 1}},
	{size: [3]int{2, 13, 11}, in: 64, out: 128, kernel: k3, bias: true},
}

func TestConv3DAgreesWithFloat64OnEveryKernelStrideAndStorageType(t *testing.T) {
	dev := enginetest.Open(t)
	for i, c := range convCases {
		for round, half := range halfChoices(dev) {
			seed := uint64(2*i + round)
			c.half = half
			c.types = newGemmBench(t, dev, seed).anyTypes(5)
			t.Run(fmt.Sprintf("%v, half %v, seed %d", c, half, seed), func(t *testing.T) {
				b := newGemmBench(t, dev, seed)
				b.near(c.run(b))
			})
		}
	}
}

func TestConv3DGivesTheSameBitsHoweverItIsCut(t *testing.T) {
	whole := enginetest.Open(t)
	rows := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxDispatchCost: 30e3}})
	// Smaller than two frames of the input, so that each tap has a binding of its own, and than one of the output.
	bound := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 9 << 10}})
	cases := map[string]convCase{
		"stride 1":      {size: [3]int{4, 17, 19}, in: 8, out: 8, kernel: k3, bias: true},
		"odd channels":  {size: [3]int{3, 29, 16}, in: 3, out: 5, kernel: k3, residual: true},
		"downsampling":  {size: [3]int{5, 20, 18}, in: 8, out: 8, kernel: k3, stride: [3]int{2, 2, 2}, inPlace: true},
		"upsampling":    {size: [3]int{3, 13, 20}, in: 8, out: 8, kernel: k3, upsample: [3]int{2, 2, 2}},
		"up in space":   {size: [3]int{2, 13, 20}, in: 16, out: 4, kernel: k3, upsample: [3]int{1, 2, 2}, bias: true},
		"pointwise":     {size: [3]int{2, 30, 12}, in: 8, out: 12, kernel: k1},
		"even kernel":   {size: [3]int{3, 25, 12}, in: 8, out: 8, kernel: [3]int{2, 2, 2}},
		"tall and thin": {size: [3]int{3, 310, 1}, in: 8, out: 8, kernel: k3},
	}
	for name, c := range cases {
		for _, half := range halfChoices(whole) {
			t.Run(fmt.Sprintf("%s, half %v", name, half), func(t *testing.T) {
				c.half = half
				c.types = []engine.DType{engine.F32, engine.F32, engine.F32, engine.F32, engine.F32}
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
}

func TestConv3DHalfNeitherOverflowsNorVanishes(t *testing.T) {
	dev := enginetest.Open(t)
	if !dev.Caps().HasFloat16 {
		t.Fatal("this device has no fp16 arithmetic: run on one that has")
	}
	bf16 := []engine.DType{engine.BF16, engine.BF16, engine.BF16, engine.BF16, engine.BF16}
	for _, scale := range []float64{1e-20, 1e20} {
		t.Run(fmt.Sprintf("activations around %g", scale), func(t *testing.T) {
			b := newGemmBench(t, dev, 8)
			b.near(convCase{size: [3]int{2, 6, 7}, in: 16, out: 24, kernel: k3, types: bf16, half: true, scale: scale}.run(b))
		})
	}
}

func TestConv3DPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	arena := dev.NewArena("misuse")
	defer arena.Release()
	f := func(shape ...int) engine.Tensor { return arena.Alloc("tensor", engine.F32, shape...) }
	x, w := f(2, 4, 4, 8), f(8, 3, 3, 3, 8)
	cases := map[string]ops.Conv3DArgs{
		"no weights":                   {X: x, Y: f(2, 4, 4, 8)},
		"channels that differ":         {X: x, W: f(8, 3, 3, 3, 4), Y: f(2, 4, 4, 8)},
		"an output of wrong size":      {X: x, W: w, Y: f(2, 4, 3, 8)},
		"a stride of 3":                {X: x, W: w, Y: f(1, 2, 2, 8), Stride: [3]int{3, 3, 3}},
		"a kernel of 5":                {X: x, W: f(8, 1, 5, 5, 8), Y: f(2, 4, 4, 8)},
		"a bias of wrong size":         {X: x, W: w, Y: f(2, 4, 4, 8), Bias: f(7)},
		"a residual of another shape":  {X: x, W: w, Y: f(2, 4, 4, 8), Residual: f(2, 4, 8, 4)},
		"an upsampling factor of four": {X: x, W: w, Y: f(2, 16, 16, 8), Upsample: [3]int{1, 4, 4}},
	}
	for name, args := range cases {
		mustPanic(t, name, func() { ops.Conv3D(dev.Compute(), args) })
	}
}

func TestPackConvWeightsMovesInputChannelsLast(t *testing.T) {
	const out, in, taps = 2, 3, 12
	kernel := [3]int{3, 2, 2}
	src := make([]byte, 0, 2*out*in*taps)
	want := make([]byte, 2*out*in*taps)
	for o := range byte(out) {
		for i := range byte(in) {
			for tap := range byte(taps) {
				src = append(src, o<<4|i, tap)
				at := 2 * ((int(o)*taps+int(tap))*in + int(i))
				want[at], want[at+1] = o<<4|i, tap
			}
		}
	}
	got := make([]byte, len(src))
	ops.PackConvWeights(got, src, 2, out, in, kernel)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	mustPanic(t, "a short destination", func() { ops.PackConvWeights(got[1:], src, 2, out, in, kernel) })
}

func BenchmarkConv3D(b *testing.B) {
	dev := enginetest.Open(b)
	cases := []convCase{{size: [3]int{5, 32, 32}, in: 64, out: 64, kernel: k3}}
	if dev.Summary.Physical.Info.Kind == "discrete gpu" {
		cases = []convCase{
			{size: [3]int{5, 64, 96}, in: 512, out: 512, kernel: k3},
			{size: [3]int{9, 256, 384}, in: 256, out: 256, kernel: k3},
			{size: [3]int{4, 512, 768}, in: 128, out: 128, kernel: k3},
			{size: [3]int{4, 512, 768}, in: 128, out: 3, kernel: k3},
			{size: [3]int{4, 256, 384}, in: 256, out: 256, kernel: k3, upsample: [3]int{2, 2, 2}},
		}
	}
	for _, c := range cases {
		for _, half := range halfChoices(dev) {
			for _, dt := range []engine.DType{engine.F32, engine.BF16} {
				b.Run(fmt.Sprintf("%v %d to %d/%v/half=%v", c.size, c.in, c.out, dt, half), func(b *testing.B) {
					c.half = half
					benchmarkConv3D(b, dev, c, dt)
				})
			}
		}
	}
}

func benchmarkConv3D(b *testing.B, dev *engine.Device, c convCase, dt engine.DType) {
	g := newGemmBench(b, dev, 1)
	args := ops.Conv3DArgs{X: g.arena.Alloc("x", dt, c.size[0], c.size[1], c.size[2], c.in), Stride: c.stride, Upsample: c.upsample,
		W: g.arena.Alloc("w", dt, c.out, c.kernel[0], c.kernel[1], c.kernel[2], c.in), Half: c.half}
	size := args.OutSize()
	args.Y = g.arena.Alloc("y", dt, size[0], size[1], size[2], c.out)
	if err := g.arena.Err(); err != nil {
		b.Fatal(err)
	}
	s := dev.Compute()
	s.Fill(args.X, 0x3c003c00)
	s.Fill(args.W, 0x3c003c00)
	ops.Conv3D(s, args)
	if err := s.Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ops.Conv3D(s, args)
		if err := s.Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	flops := 2 * float64(args.Y.Elems()) * float64(args.W.Elems()/int64(c.out)) * float64(b.N)
	b.ReportMetric(flops/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
