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

func pixelCases() []rowCase {
	var out []rowCase
	for _, shape := range [][]int{{1}, {1, 1, 1, 3}, {2, 8, 16, 3}, {3, 5, 7, 3}, {2, 64, 96, 3}} {
		out = append(out, rowCase{fmt.Sprintf("pixels of %v", shape), func(b *gemmBench) (got, want, tolerance []float64) {
			dt := b.anyType()
			n := 1
			for _, s := range shape {
				n *= s
			}
			x := b.values(dt, n, 0.7)
			bytes := b.output(engine.U8, (n+3)&^3)
			ops.Pixels(b.dev.Compute(), bytes, b.amid(dt, 5, x, shape...))
			want = make([]float64, (n+3)&^3)
			for i, v := range ref.Pixels(x) {
				want[i] = float64(v)
			}
			return b.bytes(bytes), want, exact(engine.F32, want)
		}})
	}
	for _, c := range []struct {
		rows, channels int
		noise          bool
	}{{1, 1, true}, {96, 16, true}, {96, 16, false}, {37, 5, true}} {
		out = append(out, rowCase{fmt.Sprintf("posterior of %d rows of %d channels, noise %v", c.rows, c.channels, c.noise), func(b *gemmBench) (got, want, tolerance []float64) {
			types := b.anyTypes(3)
			moments := b.values(types[0], 2*c.rows*c.channels, 3)
			if c.rows > 1 {
				moments[c.channels], moments[c.channels+1] = roundTo(types[0], -1000), 25 // both are clamped
			}
			noise := make([]float64, c.rows*c.channels)
			a := ops.PosteriorArgs{Moments: b.amid(types[0], 1, moments, c.rows, 2*c.channels), Y: b.outputAt(types[2], 3, c.rows, c.channels), Scale: 0.476986}
			if c.noise {
				noise = b.values(types[1], len(noise), 1)
				a.Noise = b.amid(types[1], 2, noise, c.rows, c.channels)
			}
			ops.Posterior(b.dev.Compute(), a)
			want = ref.Posterior(moments, noise, c.channels, float64(float32(0.476986)))
			size := ref.Posterior(absolute(moments), absolute(noise), c.channels, 1)
			for i, v := range want {
				// exp(x) may err by 3 + 2|x| units in the last place (Vulkan's precision table), |x| <= 15.
				tolerance = append(tolerance, 33*0x1p-23*size[i]+storeTolerance(types[2], v))
			}
			return b.finish(a.Y), want, tolerance
		}})
	}
	return out
}

// bytes finishes and returns the bytes of a u8 tensor.
func (b *gemmBench) bytes(t engine.Tensor) []float64 {
	b.Helper()
	whole := b.arena.Alloc("nothing", engine.F32, 1)
	b.finish(whole)
	data, err := b.dev.Download(b.Context(), t)
	if err != nil {
		b.Fatal(err)
	}
	out := make([]float64, len(data))
	for i, v := range data {
		out[i] = float64(v)
	}
	return out
}

func TestPixelsAndPosteriorMatchReference(t *testing.T) { checkRowCases(t, pixelCases()) }

func TestPixelsOfSpecialValues(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	in := []float64{-1, 1, 0, -2, 1e30, math.Inf(-1), math.NaN(), 0.9999}
	want := []float64{0, 255, 127, 0, 255, 0, 0, 254}
	y := b.output(engine.U8, len(in))
	ops.Pixels(dev.Compute(), y, b.upload(engine.F32, in, len(in)))
	b.sameBits(b.bytes(y), want)
}

func TestPixelsPanicOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x, bytes := b.arena.Alloc("x", engine.F32, 10), b.arena.Alloc("y", engine.U8, 10)
	mustPanic(t, "bytes that are no whole words", func() { ops.Pixels(dev.Compute(), bytes, x) })
	mustPanic(t, "moments that are not twice as many", func() { ops.Posterior(dev.Compute(), ops.PosteriorArgs{Moments: x, Y: x}) })
}
