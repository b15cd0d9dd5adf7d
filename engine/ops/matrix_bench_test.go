package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// BenchmarkMatrixTiles checks every tile of the matrix kernels against float64 on this device and measures it at the
// shapes of a 20-billion-parameter block of 5 s at 512×768. One round (-benchtime 1x) takes under a minute on an H100.
func BenchmarkMatrixTiles(b *testing.B) {
	big := 47616
	d := enginetest.Open(b)
	if d.Caps().Matrix == (engine.MatrixCaps{}) {
		b.Skip("the device has no cooperative matrices")
	}
	tiles, ways := matrixCandidates, attentionWays(flexibleCandidates, attentionCandidates)
	if d.Summary.Physical.Info.Kind == "cpu" { // compiling a large tile takes minutes
		big = 64
		tiles = []matrixTile{smallMatrixTile}
		ways = attentionWays([]attentionFlexible{smallAttentionFlexible}, []attentionMatrixTile{smallAttentionMatrixTile})
	}
	for b.Loop() {
		checkMatrixTiles(b, d, tiles)
		checkAttentionTiles(b, d, ways)
		best := measureMatrixTiles(b, d, big, "cut", tiles)
		bestAttention := measureAttentionTiles(b, d, big, "cut", ways)
		measureBands(b, d, big, best)
		measureFragmentTiles(b, d, big)
		whole := enginetest.OpenWith(b, engine.Options{Limits: engine.TestLimits{MaxDispatchCost: 1e15}})
		measureMatrixTiles(b, whole, big, "whole", []matrixTile{best})
		measureAttentionTiles(b, whole, big, "whole", []attentionWay{bestAttention})
	}
}

var matrixCandidates = []matrixTile{
	{m: 192, n: 128, k: 64, subM: 48, subN: 64},
	{m: 192, n: 128, k: 64, subM: 48, subN: 64, ahead: true},
	{m: 256, n: 128, k: 48, subM: 64, subN: 64},
	{m: 256, n: 128, k: 48, subM: 64, subN: 64, ahead: true},
	{m: 192, n: 192, k: 48, subM: 64, subN: 64},
	{m: 128, n: 128, k: 64, subM: 64, subN: 64},
	{m: 128, n: 128, k: 64, subM: 64, subN: 64, ahead: true},
	{m: 128, n: 192, k: 64, subM: 64, subN: 48},
	{m: 128, n: 128, k: 64, subM: 64, subN: 32},
	{m: 256, n: 128, k: 48, subM: 64, subN: 32},
	{m: 64, n: 64, k: 64, subM: 32, subN: 32},
}

var flexibleCandidates = []attentionFlexible{
	{subs: 8, keys: 64}, {subs: 8, keys: 48}, {subs: 8, keys: 32}, {subs: 4, keys: 64}, {subs: 4, keys: 32}, {subs: 12, keys: 48},
}

var attentionCandidates = []attentionMatrixTile{
	{subsM: 4, subsN: 2, fragsQ: 2, keys: 32},
	{subsM: 8, subsN: 1, fragsQ: 1, keys: 32},
	{subsM: 4, subsN: 1, fragsQ: 2, keys: 32},
	{subsM: 2, subsN: 2, fragsQ: 2, keys: 64},
	{subsM: 4, subsN: 2, fragsQ: 1, keys: 32},
	{subsM: 4, subsN: 1, fragsQ: 1, keys: 64},
	{subsM: 4, subsN: 1, fragsQ: 1, keys: 32},
}

// matrixRounds are the ways in which operands reach the matrices.
func matrixRounds(d *engine.Device) []engine.DType {
	if d.Caps().Matrix.BF16 != (engine.MatrixShape{}) {
		return []engine.DType{engine.BF16, engine.F16}
	}
	return []engine.DType{engine.F16}
}

// progress reports at once in a benchmark, which takes minutes, and with the test in a test.
func progress(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if _, bench := tb.(*testing.B); bench {
		fmt.Printf(format+"\n", args...)
		return
	}
	tb.Logf(format, args...)
}

// candidate returns the layer as computed with a tile, false when the device cannot.
func (a MatmulArgs) candidate(caps engine.Caps, t matrixTile) (matmul, bool) {
	m := a.check()
	m.plan(caps)
	if m.matrix == nil || !t.fits(caps, m.matrix.shape) {
		return m, false
	}
	m.planMatrix(caps, &matrixKernel{shader: m.matrix.shader, shape: m.matrix.shape, tile: t})
	return m, true
}

// matrixCheck is a layer to check on a device: with K = 1024 most tiles run the same pipelines as when they are measured.
type matrixCheck struct {
	name       string
	dt         engine.DType
	k, head    int
	activation Activation
	gated      bool
	tiles      []matrixTile
}

func checkMatrixTiles(b testing.TB, d *engine.Device, tiles []matrixTile) {
	few := tiles[:min(2, len(tiles))]
	for _, dt := range matrixRounds(d) {
		if dt == engine.F16 {
			tiles = few
		}
		checkMatrixLayer(b, d, matrixCheck{name: "plain", dt: dt, k: 1024, tiles: tiles})
	}
	dt := matrixRounds(d)[0]
	checkMatrixLayer(b, d, matrixCheck{name: "GELU", dt: dt, k: 1032, activation: GELU, tiles: few[:1]})
	checkMatrixLayer(b, d, matrixCheck{name: "gated residual", dt: dt, k: 1032, gated: true, tiles: few[:1]})
	checkMatrixLayer(b, d, matrixCheck{name: "heads", dt: dt, k: 1032, head: 100, tiles: few[:1]})
}

func checkMatrixLayer(b testing.TB, d *engine.Device, c matrixCheck) {
	const m, n = 410, 300
	rng := rand.New(rand.NewPCG(1, 2))
	arena := d.NewArena("matrix tiles")
	defer arena.Release()
	x, xs := attentionInput(b, arena, d, rng, c.dt, 1, m, c.k)
	w, ws := attentionInput(b, arena, d, rng, c.dt, 1, n, c.k)
	bias, bs := attentionInput(b, arena, d, rng, engine.F32, 1, n)
	gate, gates := attentionInput(b, arena, d, rng, engine.F32, 1, n)
	old := make([]float32, m*n+2*attentionGuard)
	for i := range old {
		old[i] = float32(rng.IntN(64))
	}
	guarded := arena.Alloc("y", engine.BF16, len(old))
	args := MatmulArgs{X: x, W: w, Bias: bias, Y: guarded.View(attentionGuard, m, n), Activation: c.activation, Half: true, Add: c.gated, HeadDim: c.head}
	want := ref.Matmul(xs, ws, bs, m, n, c.k)
	for i := range want {
		switch {
		case c.gated:
			args.Gate = gate
			want[i] = float64(old[attentionGuard+i]) + gates[i%n]*want[i]
		case c.activation == GELU:
			want[i] = ref.GELU(want[i])
		}
	}
	if c.head > 0 {
		want = ref.HeadMajor(want, m, n/c.head, c.head)
		args.Y = args.Y.Reshape(n/c.head, m, c.head)
	}
	var bits []float64
	for _, t := range c.tiles {
		start := time.Now()
		if err := d.UploadF32(b.Context(), guarded, old); err != nil {
			b.Fatal(err)
		}
		layer, ok := args.candidate(d.Caps(), t)
		if !ok {
			progress(b, "check matmul %s %v %+v: does not fit", c.name, c.dt, t)
			continue
		}
		layer.record(d.Compute())
		got := attentionDownload(b, d, guarded)
		worst, differ, verdict := 0.0, 0, "ok"
		for e, v := range got {
			at := e - attentionGuard
			if at < 0 || at >= m*n {
				if v != float64(old[e]) {
					verdict = "WRITES OUTSIDE"
				}
				continue
			}
			// Sums of 1024 products of deviation 1, whose magnitudes add up to about 660, then rounded to bf16.
			err := math.Abs(v-want[at]) - math.Abs(want[at])*0x1p-8
			worst = max(worst, err)
			if !(err <= 1024*660*0x1p-23*0.1) {
				verdict = "WRONG"
			}
			if bits != nil && bits[e] != v {
				differ++
			}
		}
		if bits == nil {
			bits = got
		}
		progress(b, "check matmul %s %v %+v: %s, largest error beyond rounding %.2g, %d differ from the first tile's (%.1f s with compiling)",
			c.name, c.dt, t, verdict, worst, differ, time.Since(start).Seconds())
		if verdict != "ok" {
			b.Errorf("matmul %s %v %+v: %s", c.name, c.dt, t, verdict)
		}
	}
}

// noise fills a tensor with normal values, repeating 2^22 of them.
func noise(b testing.TB, d *engine.Device, t engine.Tensor, rng *rand.Rand, size float64) {
	b.Helper()
	values := make([]float32, min(t.Elems(), 1<<22))
	for i := range values {
		values[i] = float32(rng.NormFloat64() * size)
	}
	n := int64(len(values))
	if err := d.UploadF32(b.Context(), t.View(0, int(n)), values); err != nil {
		b.Fatal(err)
	}
	for at := n; at < t.Elems(); at += n {
		part := int(min(n, t.Elems()-at))
		d.Compute().Copy(t.View(at, part), t.View(0, part))
	}
}

// seconds measures what is recorded, best of two after a first run.
func seconds(b *testing.B, d *engine.Device, record func()) float64 {
	b.Helper()
	best := math.Inf(1)
	for range 3 {
		start := time.Now()
		record()
		if err := d.Compute().Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(start).Seconds())
	}
	return best
}

func measureMatrixTiles(b *testing.B, d *engine.Device, rows int, how string, tiles []matrixTile) (best matrixTile) {
	rng := rand.New(rand.NewPCG(3, 4))
	rates := map[matrixTile]float64{}
	for _, shape := range matrixShapes(rows) {
		k, n := shape[0], shape[1]
		arena := d.NewArena("matrix tiles")
		x, w := arena.Alloc("x", engine.BF16, rows, k), arena.Alloc("w", engine.BF16, n, k)
		bias, y := arena.Alloc("bias", engine.F32, n), arena.Alloc("y", engine.BF16, rows, n)
		if err := arena.Err(); err != nil {
			b.Fatal(err)
		}
		noise(b, d, x, rng, 1)
		noise(b, d, w, rng, 0.02)
		d.Compute().Fill(bias, 0)
		for _, t := range tiles {
			layer, ok := MatmulArgs{X: x, W: w, Bias: bias, Y: y, Half: true}.candidate(d.Caps(), t)
			if !ok {
				continue
			}
			s := seconds(b, d, func() { layer.record(d.Compute()) })
			rate := 2 * float64(rows) * float64(k) * float64(n) / s / 1e12
			rates[t] += 1 / rate
			fmt.Printf("matmul %s %dx(%d→%d) %+v: %.2f ms, %.1f TFLOP/s\n", how, rows, k, n, t, s*1e3, rate)
		}
		arena.Release()
		if err := d.Settle(); err != nil {
			b.Fatal(err)
		}
	}
	slowest := math.Inf(1)
	for t, s := range rates {
		if s < slowest {
			best, slowest = t, s
		}
	}
	return best
}

// measureBands measures a tile with bands of several heights.
func measureBands(b *testing.B, d *engine.Device, rows int, tile matrixTile) {
	bands := []int{1, 4, 8, 16, 31, 62, 124}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, shape := range matrixShapes(rows) {
		k, n := shape[0], shape[1]
		arena := d.NewArena("bands")
		x, w, y := arena.Alloc("x", engine.BF16, rows, k), arena.Alloc("w", engine.BF16, n, k), arena.Alloc("y", engine.BF16, rows, n)
		if err := arena.Err(); err != nil {
			b.Fatal(err)
		}
		noise(b, d, x, rng, 1)
		noise(b, d, w, rng, 0.02)
		layer, ok := MatmulArgs{X: x, W: w, Y: y, Half: true}.candidate(d.Caps(), tile)
		if !ok {
			b.Fatalf("tile %+v does not fit", tile)
		}
		chosen := layer.bandOf(min(layer.rows, layer.rowStep))
		for _, band := range bands {
			layer.band = band
			s := seconds(b, d, func() { layer.record(d.Compute()) })
			fmt.Printf("matmul bands of %d row tiles (chosen: %d) %dx(%d→%d): %.2f ms, %.1f TFLOP/s\n", band, chosen, rows, k, n, s*1e3,
				2*float64(rows)*float64(k)*float64(n)/s/1e12)
		}
		arena.Release()
		if err := d.Settle(); err != nil {
			b.Fatal(err)
		}
	}
}

// matrixShapes are the inputs and outputs of a block's linear layers, or something small for few rows.
func matrixShapes(rows int) [][2]int {
	if rows < 1000 {
		return [][2]int{{64, 128}}
	}
	return [][2]int{{4096, 16384}, {16384, 4096}, {4096, 4096}}
}

// attentionWay is a kernel and a tile for an attention.
type attentionWay struct {
	name string
	plan func(AttentionArgs, engine.Caps) (attentionSizes, attentionKernel, bool)
}

// attentionWays lists tiles of both kernels.
func attentionWays(flexible []attentionFlexible, tiles []attentionMatrixTile) (ways []attentionWay) {
	for _, f := range flexible {
		ways = append(ways, attentionWay{fmt.Sprintf("flexible, %d subgroups, %d keys", f.subs, f.keys),
			func(a AttentionArgs, caps engine.Caps) (attentionSizes, attentionKernel, bool) {
				return a.flexible(caps, f)
			}})
	}
	for _, t := range tiles {
		ways = append(ways, attentionWay{fmt.Sprintf("%+v", t),
			func(a AttentionArgs, caps engine.Caps) (attentionSizes, attentionKernel, bool) {
				return a.candidate(caps, t)
			}})
	}
	return ways
}

// candidate returns the attention's kernel with a tile, false when the device cannot.
func (a AttentionArgs) candidate(caps engine.Caps, t attentionMatrixTile) (attentionSizes, attentionKernel, bool) {
	z := a.check()
	for _, k := range a.matrixKernels(z, caps) {
		if m, ok := k.(attentionMatrix); ok {
			m.tile = t
			return z, m, m.fits(caps, z.dim, a.Mode)
		}
	}
	return z, nil, false
}

// flexible is the same with a tile of the kernel for flexible matrices.
func (a AttentionArgs) flexible(caps engine.Caps, f attentionFlexible) (attentionSizes, attentionKernel, bool) {
	z := a.check()
	for _, k := range a.matrixKernels(z, caps) {
		if of, ok := k.(attentionFlexible); ok {
			f.variant, f.mat = of.variant, of.mat
			return z, f, f.fits(caps, z.dim, a.Mode)
		}
	}
	return z, nil, false
}

func checkAttentionTiles(b testing.TB, d *engine.Device, ways []attentionWay) {
	for _, dt := range matrixRounds(d) {
		for _, mode := range []string{"full", "masked", "blocks"} {
			left := len(ways) // compiling takes time: full and bf16 are what is measured
			if dt == engine.F16 || mode != "full" {
				left = 2
			}
			rng := rand.New(rand.NewPCG(5, 6))
			arena := d.NewArena("attention tiles")
			shape := attentionShape{heads: 2, kvHeads: 2, tq: 320, tk: 320, dim: 128, q: dt, k: dt, v: dt, out: engine.BF16, size: 1.5}
			if mode != "blocks" {
				shape.tq, shape.tk = 333, 277
			}
			c := newAttentionCase(b, arena, d, rng, shape)
			attentionModes[mode](b, arena, d, rng, c)
			c.args.Half = true
			want := c.ref.Run()
			for _, way := range ways {
				start := time.Now()
				z, k, ok := way.plan(c.args, d.Caps())
				if !ok && mode == "full" {
					progress(b, "check attention %v %s %s: does not fit", dt, mode, way.name)
				}
				if !ok || left == 0 {
					continue
				}
				left--
				c.args.record(d.Compute(), z, k)
				var diff, norm float64
				for i, v := range attentionDownload(b, d, c.args.Out) {
					diff += (v - want[i]) * (v - want[i])
					norm += want[i] * want[i]
				}
				l2, verdict := math.Sqrt(diff/norm), "ok"
				if !(l2 <= 0x1p-9+c.args.halfL2(d.Caps())) { // the result is rounded to bf16 too
					verdict = "WRONG"
					b.Errorf("attention %v %s %s: relative L2 error %g", dt, mode, way.name, l2)
				}
				progress(b, "check attention %v %s %s: %s, relative L2 error %.3g (%.1f s with compiling)", dt, mode, way.name, verdict, l2, time.Since(start).Seconds())
			}
			arena.Release()
		}
	}
}

func measureAttentionTiles(b *testing.B, d *engine.Device, tokens int, how string, ways []attentionWay) (best attentionWay) {
	heads := 32
	rng := rand.New(rand.NewPCG(7, 8))
	arena := d.NewArena("attention tiles")
	defer arena.Release()
	var in [3]engine.Tensor
	for i := range in {
		in[i] = arena.Alloc("q, k, v", engine.BF16, heads, tokens, 128)
	}
	args := AttentionArgs{Q: in[0], K: in[1], V: in[2], Out: arena.Alloc("out", engine.BF16, tokens, heads, 128), Half: true,
		Scratch: arena.Alloc("scratch", engine.U32, AttentionScratch(heads, heads))}
	if err := arena.Err(); err != nil {
		b.Fatal(err)
	}
	for _, t := range in {
		noise(b, d, t, rng, 1)
	}
	fastest := math.Inf(1)
	for _, way := range ways {
		z, k, ok := way.plan(args, d.Caps())
		if !ok {
			continue
		}
		s := seconds(b, d, func() { args.record(d.Compute(), z, k) })
		fmt.Printf("attention %s %dx128, %d tokens %s: %.2f ms, %.1f TFLOP/s\n", how, heads, tokens, way.name, s*1e3,
			4*float64(heads)*float64(tokens)*float64(tokens)*128/s/1e12)
		if s < fastest {
			best, fastest = way, s
		}
	}
	return best
}
