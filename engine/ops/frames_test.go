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

// scatter uploads frames of a video into allocations of their own.
func (b *gemmBench) scatter(dt engine.DType, values []float64, frames int, shape ...int) []engine.Tensor {
	b.Helper()
	size := len(values) / frames
	out := make([]engine.Tensor, frames)
	for t := range frames {
		b.arena.Alloc("gap", dt, 77+3*t)
		out[t] = b.upload(dt, values[t*size:(t+1)*size], shape...)
	}
	return out
}

func TestConv3DFrameGivesTheBitsOfConv3D(t *testing.T) {
	whole := enginetest.Open(t)
	bound := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 9 << 10}})
	cases := []convCase{
		{size: [3]int{4, 9, 11}, in: 8, out: 20, kernel: k3, bias: true},
		{size: [3]int{2, 7, 6}, in: 24, out: 40, kernel: k1},
		{size: [3]int{5, 9, 8}, in: 6, out: 16, kernel: k3, stride: [3]int{2, 2, 2}},
		{size: [3]int{3, 4, 5}, in: 8, out: 20, kernel: k3, upsample: [3]int{2, 2, 2}, residual: true},
	}
	for i, c := range cases {
		for _, half := range halfChoices(whole) {
			t.Run(fmt.Sprintf("%v, half %v", c, half), func(t *testing.T) {
				for _, dev := range []*engine.Device{whole, bound} {
					b := newGemmBench(t, dev, uint64(i))
					x := b.values(engine.F16, c.size[0]*c.size[1]*c.size[2]*c.in, 1)
					w := b.upload(engine.F16, b.values(engine.F16, c.out*c.in*c.kernel[0]*c.kernel[1]*c.kernel[2], 1), c.out, c.kernel[0], c.kernel[1], c.kernel[2], c.in)
					args := ops.Conv3DArgs{X: b.upload(engine.F16, x, c.size[0], c.size[1], c.size[2], c.in), W: w, Stride: c.stride, Upsample: c.upsample, Half: half}
					if c.bias {
						args.Bias = b.upload(engine.F32, b.values(engine.F32, c.out, 1), c.out)
					}
					size := args.OutSize()
					elems := size[0] * size[1] * size[2] * c.out
					args.Y = b.output(engine.F32, size[0], size[1], size[2], c.out)
					y := b.output(engine.F32, size[0], size[1], size[2], c.out)
					if c.residual {
						held := b.values(engine.F32, elems, 1)
						b.put(y, held)
						args.Residual = b.upload(engine.F32, held, size[0], size[1], size[2], c.out)
					}
					ops.Conv3D(dev.Compute(), args)
					want := b.finish(args.Y)

					frames := b.scatter(engine.F16, x, c.size[0], c.size[1], c.size[2], c.in)
					step, factor := max(c.stride[0], 1), max(c.upsample[0], 1)
					for f := range size[0] {
						frame := ops.Conv3DFrameArgs{W: w, Bias: args.Bias, Y: y.Rows(f, f+1).Reshape(size[1], size[2], c.out), Half: half,
							Stride: [2]int{c.stride[1], c.stride[2]}, Upsample: [2]int{c.upsample[1], c.upsample[2]}}
						for tap := range c.kernel[0] {
							at := max(f*step+tap-(c.kernel[0]-1), 0)
							frame.X[tap] = frames[(at+factor-1)/factor]
						}
						if c.residual {
							frame.Residual = frame.Y
						}
						ops.Conv3DFrame(dev.Compute(), frame)
					}
					b.sameBits(b.finish(y), want)
				}
			})
		}
	}
}

func TestGroupNormOfFramesApartIsThatOfTheVideo(t *testing.T) {
	dev := enginetest.Open(t)
	for _, places := range []int{1, 256, 300} {
		t.Run(fmt.Sprintf("5 frames of %d places", places), func(t *testing.T) {
			const frames, channels, groups = 5, 24, 6
			b := newGemmBench(t, dev, uint64(places))
			x := b.values(engine.F16, frames*places*channels, 3)
			weight, bias := b.values(engine.F32, channels, 1), b.values(engine.F32, channels, 1)
			args := ops.GroupNormArgs{X: b.upload(engine.F16, x, frames, places, channels), Y: b.output(engine.F32, frames, places, channels),
				Weight: b.upload(engine.F32, weight, channels), Bias: b.upload(engine.F32, bias, channels), Groups: groups, Eps: 1e-6, SiLU: true}
			ops.GroupNorm(dev.Compute(), args)
			whole := b.finish(args.Y)

			stats := ops.GroupStatsArgs{Frames: b.scatter(engine.F16, x, frames, places, channels), Groups: groups, Eps: 1e-6,
				Moments: b.arena.Alloc("moments", engine.F32, ops.GroupStatsMoments(frames, places, groups)), Stats: b.output(engine.F32, groups, 4)}
			ops.GroupStats(dev.Compute(), stats)
			y := b.output(engine.F32, frames, places, channels)
			for f, frame := range stats.Frames {
				args.X, args.Y = frame, y.Rows(f, f+1)
				ops.GroupApply(dev.Compute(), args, stats.Stats)
			}
			got := b.finish(y)
			if places%256 == 0 { // then both cut the places alike
				b.sameBits(got, whole)
			}
			want := ref.GroupNorm(x, weight, bias, channels, groups, 1e-6, true)
			var tolerance []float64
			for i, v := range want {
				tolerance = append(tolerance, 4e-6*(math.Abs(v)+math.Abs(weight[i%channels])+math.Abs(bias[i%channels])))
			}
			b.near(got, want, tolerance)
		})
	}
	t.Run("misuse panics", func(t *testing.T) {
		b := newGemmBench(t, dev, 1)
		x, short := b.arena.Alloc("x", engine.F32, 5, 12), b.arena.Alloc("short", engine.F32, 4)
		s := dev.Compute()
		mustPanic(t, "no frames", func() { ops.GroupStats(s, ops.GroupStatsArgs{Groups: 1, Moments: short, Stats: short}) })
		mustPanic(t, "too little scratch", func() {
			ops.GroupStats(s, ops.GroupStatsArgs{Frames: []engine.Tensor{x, x}, Groups: 1, Moments: short, Stats: short})
		})
		mustPanic(t, "frames that differ in type", func() {
			w := b.arena.Alloc("w", engine.F32, 3, 3, 3, 3, 12)
			other := b.arena.Alloc("other", engine.F16, 4, 4, 12)
			first := b.arena.Alloc("first", engine.F32, 4, 4, 12)
			ops.Conv3DFrame(s, ops.Conv3DFrameArgs{X: [3]engine.Tensor{first, other, first}, W: w, Y: b.arena.Alloc("y", engine.F32, 4, 4, 3)})
		})
		mustPanic(t, "statistics of other groups", func() {
			v := b.arena.Alloc("v", engine.F32, 12)
			ops.GroupApply(s, ops.GroupNormArgs{X: x, Y: x, Weight: v, Bias: v, Groups: 2}, short)
		})
	})
}
