package ops_test

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// strides of a contiguous tensor of four axes.
func strides(shape [4]int) (out [4]int) {
	n := 1
	for k := 3; k >= 0; k-- {
		out[k] = n
		n *= shape[k]
	}
	return out
}

func count(shape [4]int) int { return shape[0] * shape[1] * shape[2] * shape[3] }

func copyCases() []rowCase {
	var out []rowCase
	for _, c := range []struct{ dst, dstAt, src, srcAt, size [4]int }{
		{[4]int{2, 6, 9, 16}, [4]int{0, 1, 2, 4}, [4]int{3, 5, 7, 8}, [4]int{1, 0, 1, 0}, [4]int{2, 5, 6, 8}},
		{[4]int{1, 1, 9, 33}, [4]int{0, 0, 0, 16}, [4]int{1, 1, 9, 16}, [4]int{}, [4]int{1, 1, 9, 16}},
		{[4]int{4, 8, 8, 3}, [4]int{2, 1, 3, 0}, [4]int{2, 5, 5, 3}, [4]int{}, [4]int{2, 5, 5, 3}},
		{[4]int{3, 40, 40, 12}, [4]int{0, 0, 8, 4}, [4]int{3, 40, 16, 8}, [4]int{}, [4]int{3, 40, 16, 8}},
	} {
		out = append(out, rowCase{fmt.Sprintf("region of %v", c.size), func(b *gemmBench) (got, want, tolerance []float64) {
			return runRegion(b, c.dst, c.dstAt, c.src, c.srcAt, c.size)
		}})
	}
	for _, c := range [][2][]int{{{5, 3, 4, 7}, {1, 2, 3, 0}}, {{3, 8, 6, 16}, {3, 0, 1, 2}}, {{40, 60, 8, 4}, {1, 0, 2, 3}}, {{2, 3, 4, 5}, {3, 2, 1, 0}},
		{{33, 65}, {1, 0}}, {{6, 10, 12}, {1, 0, 2}}} {
		out = append(out, rowCase{fmt.Sprintf("axes %v of %v", c[1], c[0]), func(b *gemmBench) (got, want, tolerance []float64) {
			return runPermute(b, c[0], c[1])
		}})
	}
	for _, c := range []struct {
		next, prev   [4]int
		axis, extent int
	}{
		{[4]int{17, 6, 8, 3}, [4]int{17, 6, 8, 3}, 0, 8},
		{[4]int{2, 20, 8, 3}, [4]int{2, 33, 8, 3}, 1, 16},
		{[4]int{2, 5, 40, 4}, [4]int{2, 5, 24, 4}, 2, 32},
		{[4]int{3, 4, 5, 12}, [4]int{3, 4, 5, 12}, 3, 8},
		{[4]int{16, 20, 24, 8}, [4]int{16, 20, 24, 8}, 0, 8},
	} {
		out = append(out, rowCase{fmt.Sprintf("blend of %v with %v over %d along %d", c.next, c.prev, c.extent, c.axis), func(b *gemmBench) (got, want, tolerance []float64) {
			return runBlend(b, c.next, c.prev, c.axis, c.extent)
		}})
	}
	return out
}

func runRegion(b *gemmBench, dst, dstAt, src, srcAt, size [4]int) (got, want, tolerance []float64) {
	dt, st := b.anyType(), b.anyType()
	values, old := b.values(st, count(src), 1), b.values(dt, count(dst), 1)
	y := b.output(dt, dst[:]...)
	b.put(y, old)
	ops.CopyRegion(b.dev.Compute(), y, dstAt[:], b.amid(st, 4, values, src[:]...), srcAt[:], size[:])
	to, from := ref.Box{Data: old, Stride: strides(dst)}, ref.Box{Data: values, Stride: strides(src)}
	for k := range 4 {
		to.Offset += dstAt[k] * to.Stride[k]
		from.Offset += srcAt[k] * from.Stride[k]
	}
	ref.CopyBox(to, from, size, 0, 0)
	return b.finish(y), old, exact(dt, old)
}

func runPermute(b *gemmBench, shape, axes []int) (got, want, tolerance []float64) {
	st := b.anyType()
	n := 1
	var size, from [4]int
	for k := range 4 {
		size[k] = 1
	}
	copy(size[4-len(shape):], shape)
	outShape := make([]int, len(axes))
	for k, axis := range axes {
		outShape[k] = shape[axis]
		n *= shape[axis]
	}
	values := b.values(st, n, 1)
	y := b.output(engine.F32, outShape...)
	ops.PermuteAxes(b.dev.Compute(), y, b.upload(st, values, shape...), axes...)
	var outSize [4]int
	in := strides(size)
	for k := range 4 {
		outSize[k] = 1
		if at := k - 4 + len(axes); at >= 0 {
			outSize[k] = outShape[at]
			from[k] = in[axes[at]+4-len(axes)]
		}
	}
	want = make([]float64, n)
	ref.CopyBox(ref.Box{Data: want, Stride: strides(outSize)}, ref.Box{Data: values, Stride: from}, outSize, 0, 0)
	return b.finish(y), want, exact(engine.F32, want)
}

func runBlend(b *gemmBench, next, prev [4]int, axis, extent int) (got, want, tolerance []float64) {
	dt, st := b.anyType(), b.anyType()
	want = b.values(dt, count(next), 1)
	before := b.values(st, count(prev), 1)
	y := b.output(dt, next[:]...)
	b.put(y, want)
	ops.Blend(b.dev.Compute(), y, b.upload(st, before, prev[:]...), axis, extent)
	extent = min(extent, next[axis], prev[axis])
	size := next
	size[axis] = extent
	from := ref.Box{Data: before, Stride: strides(prev)}
	from.Offset = (prev[axis] - extent) * from.Stride[axis]
	ref.CopyBox(ref.Box{Data: want, Stride: strides(next)}, from, size, axis, extent)
	for _, v := range want {
		tolerance = append(tolerance, 4*4*0x1p-24+storeTolerance(dt, v))
	}
	return b.finish(y), want, tolerance
}

func TestCopyBoxMatchesReference(t *testing.T) { checkRowCases(t, copyCases()) }

func TestBlendLeavesTheRestAlone(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x := b.values(engine.F32, 10*8, 1)
	next := b.output(engine.F32, 10, 8)
	b.put(next, x)
	ops.Blend(dev.Compute(), next, b.upload(engine.F32, b.values(engine.F32, 3*8, 1), 3, 8), 0, 5)
	got := b.finish(next)
	b.sameBits(got[3*8:], x[3*8:]) // the extent is clipped to 3
	if got[8] == x[8] {
		t.Error("row 1 was not blended")
	}
}

func TestCopyPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x, y := b.arena.Alloc("x", engine.F32, 4, 6), b.arena.Alloc("y", engine.F32, 6, 5)
	s := dev.Compute()
	mustPanic(t, "a region outside", func() { ops.CopyRegion(s, x, []int{1, 1}, y, []int{0, 0}, []int{4, 5}) })
	mustPanic(t, "axes that do not fit", func() { ops.PermuteAxes(s, y, x, 1, 0) })
	mustPanic(t, "an axis named twice", func() { ops.PermuteAxes(s, x, x, 0, 0) })
	mustPanic(t, "tiles of different widths", func() { ops.Blend(s, x, y, 0, 2) })
	mustPanic(t, "a box beyond its tensor", func() {
		ops.CopyBox(s, ops.CopyBoxArgs{Dst: ops.Box{Tensor: x, Stride: [4]int64{0, 0, 0, 1}}, Src: ops.Box{Tensor: y, Stride: [4]int64{0, 0, 0, 1}}, Size: [4]int{1, 1, 1, 25}})
	})
}

func BenchmarkPermuteToChannelsLast(b *testing.B) {
	dev := enginetest.Open(b)
	g := newGemmBench(b, dev, 1)
	x, y := g.arena.Alloc("x", engine.F32, 3, 8, 256, 256), g.arena.Alloc("y", engine.F32, 8, 256, 256, 3)
	dev.Compute().Fill(x, 0)
	benchBandwidth(b, dev, 2*x.Bytes(), func(s *engine.Stream) { ops.PermuteAxes(s, y, x, 1, 2, 3, 0) })
}
