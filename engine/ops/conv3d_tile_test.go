package ops

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// candidate returns the convolution as computed with a tile, false when the device cannot.
func (a Conv3DArgs) candidate(caps engine.Caps, t convMatrixTile) (*convMatrix, bool) {
	a = a.withDefaults()
	a.check()
	c := a.prepare([3]engine.Tensor{})
	m := c.matrix(caps)
	if m == nil {
		return nil, false
	}
	t = m.adapt(caps, t)
	m.plan(caps, t)
	return m, m.fits(caps, t)
}

// Tiles that drivers which emulate matrices compile in seconds too. Between them: one and several matrices per subgroup in
// either direction, one and several subgroups in either direction, one and several matrices in a row, one and several taps'
// weights at a time.
var smallConvMatrixTiles = []convMatrixTile{
	smallConvMatrixTile,
	{h: 1, w: 16, n: 16, subM: 16, subN: 8, slice: 16, taps: 3},
	{h: 4, w: 16, n: 16, subM: 32, subN: 16, slice: 16, taps: 1},
	{h: 1, w: 32, n: 8, subM: 16, subN: 8, slice: 16, taps: 9},
}

func TestConv3DByMatricesGivesTheSameBitsInEveryTile(t *testing.T) {
	d := openMatrices(t)
	for _, c := range []convBench{
		{name: "plain", h: 7, w: 37, in: 32, out: 12, kernel: 3},
		{name: "upsampling", h: 5, w: 19, in: 32, out: 12, kernel: 3, up: [3]int{2, 2, 2}},
	} {
		checkConvTiles(t, d, c, smallConvMatrixTiles)
	}
}

// convBench is a convolution of the published decoder, some frames of it.
type convBench struct {
	name     string
	h, w     int // of the input
	in, out  int
	kernel   int
	up       [3]int
	residual bool
	inType   engine.DType
}

var convBenches = []convBench{
	{name: "level 3", h: 512, w: 768, in: 128, out: 128, kernel: 3, residual: true, inType: engine.F16},
	{name: "level 2", h: 256, w: 384, in: 256, out: 256, kernel: 3, residual: true, inType: engine.F16},
	{name: "level 1", h: 128, w: 192, in: 512, out: 512, kernel: 3, residual: true, inType: engine.F16},
	{name: "level 0", h: 64, w: 96, in: 512, out: 512, kernel: 3, residual: true, inType: engine.F16},
	{name: "into level 3", h: 512, w: 768, in: 256, out: 128, kernel: 3, inType: engine.F16},
	{name: "into level 2", h: 256, w: 384, in: 512, out: 256, kernel: 3, inType: engine.F16},
	{name: "up to level 3", h: 256, w: 384, in: 256, out: 256, kernel: 3, up: [3]int{2, 2, 2}, inType: engine.F16},
	{name: "up to level 2", h: 128, w: 192, in: 512, out: 512, kernel: 3, up: [3]int{2, 2, 2}, inType: engine.F16},
	{name: "up to level 1", h: 64, w: 96, in: 512, out: 512, kernel: 3, up: [3]int{1, 2, 2}, inType: engine.F16},
	{name: "shortcut", h: 512, w: 768, in: 256, out: 128, kernel: 1, inType: engine.F16},
	{name: "last", h: 512, w: 768, in: 128, out: 3, kernel: 3, inType: engine.F16},
}

// args allocates a convolution of so many frames with weights of deviation about 1/√k folded where it upsamples.
func (c convBench) args(tb testing.TB, d *engine.Device, arena *engine.Arena, frames int) (a Conv3DArgs, x, w, bias, residual []float64) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	kernel := [3]int{c.kernel, c.kernel, c.kernel}
	volume := c.kernel * c.kernel * c.kernel
	unit := math.Exp2(-math.Round(math.Log2(float64(c.in*volume))/2)) / 64 // sums of 8 such weights are f16
	torch := make([]float32, c.out*c.in*volume)
	w = make([]float64, len(torch))
	for i := range torch {
		torch[i] = float32(math.Round(rng.NormFloat64()*64) * unit)
		o, in, tap := i/(c.in*volume), i/volume%c.in, i%volume
		w[(o*volume+tap)*c.in+in] = float64(torch[i])
	}
	a = Conv3DArgs{Upsample: c.up, Half: true}
	if c.up == [3]int{} {
		a.W = arena.Alloc("w", engine.F16, c.out, c.kernel, c.kernel, c.kernel, c.in)
		values := make([]float32, len(w))
		for i, v := range w {
			values[i] = float32(v)
		}
		if err := errors.Join(arena.Err(), d.UploadF32(tb.Context(), a.W, values)); err != nil {
			tb.Fatal(err)
		}
	} else {
		a.W = arena.Alloc("w", engine.F16, FoldedShape(c.out, c.in, kernel, c.up)...)
		folded := make([]byte, a.W.Bytes())
		FoldConvWeights(folded, torch, c.out, c.in, kernel, c.up)
		if err := errors.Join(arena.Err(), d.Upload(tb.Context(), a.W, folded)); err != nil {
			tb.Fatal(err)
		}
	}
	if frames*c.h*c.w < 1<<14 {
		a.X, x = attentionInput(tb, arena, d, rng, c.inType, 1, frames, c.h, c.w, c.in)
	} else {
		a.X = arena.Alloc("x", c.inType, frames, c.h, c.w, c.in)
		noise(tb, d, a.X, rng, 1)
	}
	a.Bias, bias = attentionInput(tb, arena, d, rng, engine.F32, 1, c.out)
	size := a.OutSize()
	a.Y = arena.Alloc("y", engine.F16, size[0], size[1], size[2], c.out)
	if c.residual {
		a.Residual = a.Y
		d.Compute().Fill(a.Y, 0x3c003c00)
		residual = []float64{1}
	}
	if err := arena.Err(); err != nil {
		tb.Fatal(err)
	}
	return a, x, w, bias, residual
}

// checkConvTiles compares every tile with float64, and with the first tile's bits.
func checkConvTiles(tb testing.TB, d *engine.Device, c convBench, tiles []convMatrixTile) {
	tb.Helper()
	c.inType = engine.F16
	arena := d.NewArena("convolution tiles")
	defer arena.Release()
	a, x, w, bias, residual := c.args(tb, d, arena, 2)
	conv := ref.Conv3D{Size: [3]int{2, c.h, c.w}, In: c.in, Out: c.out, Kernel: a.kernel(), Upsample: a.Upsample}
	want := conv.Apply(x, w, bias)
	var bits []float64
	for _, t := range tiles {
		if c.residual {
			d.Compute().Fill(a.Y, 0x3c003c00)
		}
		m, ok := a.candidate(d.Caps(), t)
		if !ok {
			progress(tb, "check conv3d %s %+v: does not fit", c.name, t)
			continue
		}
		m.record(d.Compute())
		got := attentionDownload(tb, d, a.Y)
		worst, differ, verdict := 0.0, 0, "ok"
		for i, v := range got {
			expect := want[i]
			if residual != nil {
				expect++
			}
			// Products of deviation 1/√k each, whose magnitudes add up to about 0.64 √k, are exact; the result is rounded.
			err := math.Abs(v-expect) - math.Abs(expect)*0x1p-11
			worst = max(worst, err)
			if !(err <= 0.64*float64(c.in*c.kernel)*0x1p-23) {
				verdict = "WRONG"
			}
			if bits != nil && bits[i] != v {
				differ++
			}
		}
		if bits == nil {
			bits = got
		}
		progress(tb, "check conv3d %s %+v: %s, largest error beyond rounding %.2g, %d differ from the first tile's", c.name, t, verdict, worst, differ)
		if verdict != "ok" || differ > 0 {
			tb.Errorf("conv3d %s %+v: %s, %d differ", c.name, t, verdict, differ)
		}
	}
}

var convCandidates = []convMatrixTile{
	{h: 12, w: 16, n: 128, subM: 48, subN: 64, slice: 32, taps: 3},
	{h: 12, w: 16, n: 128, subM: 48, subN: 64, slice: 32, taps: 1},
	{h: 12, w: 16, n: 128, subM: 96, subN: 32, slice: 32, taps: 3},
	{h: 12, w: 16, n: 128, subM: 48, subN: 64, slice: 16, taps: 3},
	{h: 16, w: 16, n: 128, subM: 64, subN: 64, slice: 16, taps: 3},
	{h: 8, w: 16, n: 128, subM: 64, subN: 32, slice: 32, taps: 3},
	{h: 8, w: 16, n: 128, subM: 32, subN: 64, slice: 32, taps: 3},
	{h: 8, w: 16, n: 128, subM: 64, subN: 64, slice: 32, taps: 3},
	{h: 6, w: 16, n: 128, subM: 48, subN: 64, slice: 32, taps: 3},
	{h: 6, w: 16, n: 128, subM: 48, subN: 64, slice: 32, taps: 1},
	{h: 8, w: 16, n: 64, subM: 64, subN: 32, slice: 32, taps: 3},
	{h: 24, w: 16, n: 64, subM: 48, subN: 64, slice: 16, taps: 3},
	{h: 6, w: 32, n: 128, subM: 48, subN: 64, slice: 32, taps: 3},
	{h: 8, w: 16, n: 16, subM: 32, subN: 16, slice: 32, taps: 3},
	{h: 8, w: 16, n: 16, subM: 64, subN: 16, slice: 32, taps: 9},
	{h: 16, w: 16, n: 16, subM: 64, subN: 16, slice: 32, taps: 3},
}

// BenchmarkConv3DTiles checks every tile of the kernel for matrices on this device and measures it at the shapes of the
// published decoder at 512×768. One round is enough (-benchtime 1x); -bench 'Conv3DTiles/level_3' measures one shape.
func BenchmarkConv3DTiles(b *testing.B) {
	d := enginetest.Open(b)
	if d.Caps().Matrix.F16 == (engine.MatrixShape{}) {
		b.Skip("the device has no cooperative matrices")
	}
	benches, tiles := convBenches, convCandidates
	if d.Summary.Physical.Info.Kind == "cpu" { // compiling a large tile takes minutes
		benches = []convBench{{name: "small", h: 16, w: 24, in: 32, out: 32, kernel: 3, inType: engine.F16}}
		tiles = smallConvMatrixTiles
	}
	for _, c := range benches {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				small := c
				small.h, small.w = 13, 18
				checkConvTiles(b, d, small, tiles[:1])
				measureConvTiles(b, d, c, tiles)
			}
		})
	}
}

func measureConvTiles(b *testing.B, d *engine.Device, c convBench, tiles []convMatrixTile) {
	arena := d.NewArena("convolution tiles")
	defer arena.Release()
	a, _, _, _, _ := c.args(b, d, arena, 3)
	var first []byte
	corner := a.Y.View(a.Y.Elems()/2, min(1<<20, int(a.Y.Elems()/2)))
	for _, t := range tiles {
		m, ok := a.candidate(d.Caps(), t)
		if !ok || int(t.n) > 2*c.out && t.n > 16 {
			continue
		}
		if c.residual {
			d.Compute().Fill(a.Y, 0x3c003c00)
		}
		m.record(d.Compute())
		got, err := d.Download(b.Context(), corner)
		if err != nil {
			b.Fatal(err)
		}
		differ := 0
		for i := range first {
			if got[i] != first[i] {
				differ++
			}
		}
		if first == nil {
			first = got
		}
		s := seconds(b, d, func() { m.record(d.Compute()) })
		per := 2 * float64(m.cols) * float64(m.channels)
		flops := per * float64(m.taps[0]*m.taps[1]*m.taps[2]) * float64(a.Y.Elems()/int64(m.cols))
		plain := per * float64(c.kernel*c.kernel*c.kernel) * float64(a.Y.Elems()/int64(m.cols))
		fmt.Printf("conv3d %s %dx%d %d→%d %dx%dx%d sub %dx%d slice %d taps %d: %.2f ms a frame, %.0f TFLOP/s (as unfolded %.0f), %d bytes differ\n", c.name, c.h, c.w, c.in, c.out,
			t.h, t.w, t.n, t.subM, t.subN, m.tile.slice, m.tile.taps, s*1e3/float64(a.Y.Dim(0)), flops/s/1e12, plain/s/1e12, differ)
	}
}
