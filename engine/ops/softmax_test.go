package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

type softmaxCase struct {
	rows, dim  int
	scale      float64 // of the scores, 1 where zero
	deviation  float64 // of x
	gain       float64
	skip       int
	inPlace    bool
	descending bool // the largest comes first, else rows have no order
}

func softmaxCases() []rowCase {
	var out []rowCase
	add := func(c softmaxCase) {
		out = append(out, rowCase{fmt.Sprintf("softmax of %d rows of %d, deviation %g", c.rows, c.dim, c.deviation), c.run})
	}
	for i, dim := range []int{1, 3, 4, 16, 31, 256, 257, 1000, 1024, 1028, 5000} {
		add(softmaxCase{rows: 2 + i, dim: dim, deviation: 1})
		add(softmaxCase{rows: 3, dim: dim, deviation: 20, scale: 0.25, gain: 64, skip: i % 5})
	}
	add(softmaxCase{rows: 70, dim: 64, deviation: 1000})
	add(softmaxCase{rows: 3, dim: 30000, deviation: 3, scale: 0.5})
	add(softmaxCase{rows: 3, dim: 3000, deviation: 30, descending: true})
	add(softmaxCase{rows: 5, dim: 512, deviation: 2, inPlace: true})
	return out
}

func (c softmaxCase) run(b *gemmBench) (got, want, tolerance []float64) {
	types := b.anyTypes(2)
	if c.inPlace {
		types[1] = types[0]
	}
	if c.scale == 0 {
		c.scale = 1
	}
	x := b.values(types[0], c.rows*c.dim, c.deviation)
	if c.descending {
		for i := range x {
			x[i] = roundTo(types[0], x[i]-float64(i%c.dim)/8)
		}
	}
	y := b.outputAt(types[1], c.skip, c.rows, c.dim)
	in := y
	if c.inPlace {
		b.put(y, x)
	} else {
		in = b.amid(types[0], c.skip, x, c.rows, c.dim)
	}
	ops.Softmax(b.dev.Compute(), ops.SoftmaxArgs{X: in, Y: y, Scale: float32(c.scale), Gain: float32(c.gain)})
	got = b.finish(y)
	gain := max(c.gain, 1)
	if c.gain == 0 {
		gain = 1
	}
	for r := range c.rows {
		row := x[r*c.dim : (r+1)*c.dim]
		top, sum := math.Inf(-1), 0.0
		for _, v := range row {
			top = max(top, v*c.scale)
		}
		for _, v := range row {
			sum += math.Exp(v*c.scale - top)
		}
		for _, v := range row {
			w := gain * math.Exp(v*c.scale-top) / sum
			want = append(want, w)
			// The exponent is off by a few roundings of its parts, the power by Vulkan's 3 + 2|x| units (below 2⁻²⁰
			// here), and sums of rescaled sums by as much again for each of about 40 steps.
			e := math.Abs(v*c.scale) + math.Abs(top)
			tolerance = append(tolerance, w*(4*e*0x1p-23+(3+2*math.Abs(v*c.scale-top))*0x1p-23+64*0x1p-23)+storeTolerance(types[1], w)+0x1p-120)
		}
	}
	return got, want, tolerance
}

func TestSoftmaxMatchesReference(t *testing.T) { checkRowCases(t, softmaxCases()) }

func TestSoftmaxPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x := b.arena.Alloc("x", engine.F32, 5, 12)
	mustPanic(t, "another shape", func() {
		ops.Softmax(dev.Compute(), ops.SoftmaxArgs{X: x, Y: b.arena.Alloc("y", engine.F32, 12, 5)})
	})
	mustPanic(t, "no result", func() { ops.Softmax(dev.Compute(), ops.SoftmaxArgs{X: x}) })
}
