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

type groupNormCase struct {
	rows, channels, groups int
	silu, inPlace          bool
	skip                   int
	mean, deviation        float64
	f32                    bool
}

func groupNormCases() []rowCase {
	var out []rowCase
	add := func(c groupNormCase) {
		out = append(out, rowCase{fmt.Sprintf("group norm of %d rows, %d channels in %d groups, SiLU %v", c.rows, c.channels, c.groups, c.silu), c.run})
	}
	for _, rows := range []int{1, 3, 255, 256, 257, 700, 1500} {
		add(groupNormCase{rows: rows, channels: 32, groups: 8, silu: true})
		add(groupNormCase{rows: rows, channels: 16, groups: 8, skip: 3})
	}
	add(groupNormCase{rows: 600, channels: 128, groups: 32, silu: true, inPlace: true})
	add(groupNormCase{rows: 300, channels: 512, groups: 32, silu: true})
	add(groupNormCase{rows: 3000, channels: 128, groups: 32, f32: true})
	add(groupNormCase{rows: 300, channels: 96, groups: 48})
	add(groupNormCase{rows: 400, channels: 21, groups: 7, silu: true})
	add(groupNormCase{rows: 400, channels: 12, groups: 1})
	add(groupNormCase{rows: 900, channels: 32, groups: 32, f32: true, mean: 200, deviation: 1})
	add(groupNormCase{rows: 900, channels: 64, groups: 16, f32: true, deviation: 1e7})
	return out
}

func (c groupNormCase) run(b *gemmBench) (got, want, tolerance []float64) {
	if c.deviation == 0 {
		c.deviation = 2
	}
	types := b.anyTypes(4)
	if c.f32 {
		types = make([]engine.DType, 4)
	}
	if c.inPlace {
		types[1] = types[0]
	}
	x := b.values(types[0], c.rows*c.channels, c.deviation)
	for i := range x {
		x[i] = roundTo(types[0], x[i]+c.mean+float64(i%c.channels)/8)
	}
	weight, bias := b.values(types[2], c.channels, 1), b.values(types[3], c.channels, 1)
	y := b.outputAt(types[1], c.skip, c.rows, c.channels)
	in := y
	if c.inPlace {
		b.put(y, x)
	} else {
		in = b.amid(types[0], c.skip, x, c.rows, c.channels)
	}
	ops.GroupNorm(b.dev.Compute(), ops.GroupNormArgs{X: in, Y: y, Weight: b.upload(types[2], weight, c.channels),
		Bias: b.upload(types[3], bias, c.channels), Groups: c.groups, Eps: 1e-6, SiLU: c.silu})
	got = b.finish(y)
	want = ref.GroupNorm(x, weight, bias, c.channels, c.groups, 1e-6, c.silu)
	// Mean and deviation are right to 1e-6 of the deviation (of the mean's size where that is larger); what follows is
	// a handful of roundings, and SiLU's slope is at most 1.1.
	normal := ref.GroupNorm(x, weight, make([]float64, c.channels), c.channels, c.groups, 1e-6, false)
	for i, v := range want {
		w := math.Abs(weight[i%c.channels])
		e := 1e-6*(math.Abs(normal[i])+w) + 4*0x1p-24*(w*(math.Abs(x[i])+math.Abs(c.mean)+20)/c.deviation+math.Abs(bias[i%c.channels])+math.Abs(normal[i]))
		tolerance = append(tolerance, 1.2*e+storeTolerance(types[1], v))
	}
	return got, want, tolerance
}

func TestGroupNormMatchesReference(t *testing.T) { checkRowCases(t, groupNormCases()) }

// TestGroupNormStatisticsOfManyElements checks the accuracy that a decoder's largest group needs: it reads mean and
// deviation back through an input that makes their errors visible.
func TestGroupNormStatisticsOfManyElements(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 7)
	const rows, channels, groups = 150000, 8, 2
	x := make([]float64, rows*channels)
	for i := range x {
		x[i] = roundTo(engine.F32, 5+b.rng.NormFloat64()*(1+float64(i)/float64(len(x)))) // a drift, so that chunks differ
	}
	one, zero := make([]float64, channels), make([]float64, channels)
	for i := range one {
		one[i] = 1
	}
	y := b.output(engine.F32, rows, channels)
	ops.GroupNorm(dev.Compute(), ops.GroupNormArgs{X: b.upload(engine.F32, x, rows, channels), Y: y, Weight: b.upload(engine.F32, one, channels),
		Bias: b.upload(engine.F32, zero, channels), Groups: groups, Eps: 1e-6})
	got, want := b.finish(y), ref.GroupNorm(x, one, zero, channels, groups, 1e-6, false)
	// Over all elements rounding averages out; what remains of sum and scale is the statistics' own error.
	for g := range groups {
		sum, scale, squares := 0.0, 0.0, 0.0
		for i := range got {
			if i%channels/(channels/groups) == g {
				sum += got[i] - want[i]
				scale += got[i] * want[i]
				squares += want[i] * want[i]
			}
		}
		if mean, ratio := sum/float64(len(got)/groups), scale/squares-1; !(math.Abs(mean) <= 5e-7 && math.Abs(ratio) <= 5e-7) {
			t.Errorf("group %d: mean is off by %.2g deviations, deviation by %.2g", g, mean, ratio)
		}
	}
}

func TestGroupNormPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	x, w := b.arena.Alloc("x", engine.F32, 5, 12), b.arena.Alloc("w", engine.F32, 12)
	s := dev.Compute()
	mustPanic(t, "groups that do not divide the channels", func() { ops.GroupNorm(s, ops.GroupNormArgs{X: x, Y: x, Weight: w, Bias: w, Groups: 5}) })
	mustPanic(t, "no weight", func() { ops.GroupNorm(s, ops.GroupNormArgs{X: x, Y: x, Bias: w, Groups: 4}) })
	mustPanic(t, "a bias of the wrong length", func() { ops.GroupNorm(s, ops.GroupNormArgs{X: x, Y: x, Weight: w, Bias: x, Groups: 4}) })
}

func BenchmarkGroupNorm(b *testing.B) {
	dev := enginetest.Open(b)
	g := newGemmBench(b, dev, 1)
	const rows, channels = 4 * 128 * 192, 128
	x, y := g.arena.Alloc("x", engine.BF16, rows, channels), g.arena.Alloc("y", engine.BF16, rows, channels)
	dev.Compute().Fill(x, 0x3f80bf80)
	w := g.upload(engine.F32, g.values(engine.F32, channels, 1), channels)
	benchBandwidth(b, dev, 2*x.Bytes()+y.Bytes(), func(s *engine.Stream) {
		ops.GroupNorm(s, ops.GroupNormArgs{X: x, Y: y, Weight: w, Bias: w, Groups: 32, Eps: 1e-6, SiLU: true})
	})
}
