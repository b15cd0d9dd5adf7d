package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

func TestAttentionMatchesReference(t *testing.T) {
	d := enginetest.Open(t)
	f, b, h := engine.F32, engine.BF16, engine.F16
	tests := []struct {
		mode string
		attentionShape
	}{
		{"full", attentionShape{heads: 2, kvHeads: 2, tq: 100, tk: 75, dim: 64}},
		{"full", attentionShape{heads: 2, kvHeads: 2, tq: 65, tk: 200, dim: 128, q: b, k: b, v: b, out: b}},
		{"full", attentionShape{heads: 3, kvHeads: 3, tq: 1, tk: 1, dim: 16, q: f, k: b, v: h, out: h}},
		{"full", attentionShape{heads: 1, tq: 3, tk: 129, dim: 4, q: h, k: h, v: h, out: f}},
		{"full", attentionShape{heads: 2, kvHeads: 2, tq: 70, tk: 70, dim: 80}},
		{"full", attentionShape{heads: 1, tq: 33, tk: 66, dim: 36, size: 4}},
		{"full", attentionShape{heads: 1, tq: 40, tk: 140, dim: 512, q: b, k: h, v: b, out: f}},
		{"full", attentionShape{heads: 1, tq: 40, tk: 30, dim: 132}},
		{"masked", attentionShape{heads: 2, kvHeads: 2, tq: 50, tk: 90, dim: 32}},
		{"masked", attentionShape{heads: 4, kvHeads: 2, tq: 10, tk: 130, dim: 128, q: b, k: b, v: b, out: b}},
		{"causal", attentionShape{heads: 6, kvHeads: 2, tq: 100, tk: 100, dim: 32}},
		{"causal", attentionShape{heads: 2, tq: 5, tk: 150, dim: 16}},
		{"causal", attentionShape{heads: 2, kvHeads: 2, tq: 90, tk: 30, dim: 16}}, // the first 60 queries see nothing
		{"causal masked", attentionShape{heads: 2, kvHeads: 2, tq: 77, tk: 77, dim: 64}},
		{"frames", attentionShape{heads: 1, tq: 140, tk: 140, dim: 32}},
		{"frames", attentionShape{heads: 1, tq: 105, tk: 105, dim: 512}},
		{"ranges", attentionShape{heads: 2, kvHeads: 2, tq: 130, tk: 130, dim: 80}},
		{"ranges", attentionShape{heads: 1, tq: 40, tk: 300, dim: 256, out: b}},
		{"blocks", attentionShape{heads: 2, kvHeads: 2, tq: 320, tk: 320, dim: 16}},
		{"blocks", attentionShape{heads: 2, kvHeads: 2, tq: 256, tk: 256, dim: 128, q: b, k: b, v: b, out: b}},
		{"full", attentionShape{heads: 2, kvHeads: 2, tq: 30, tk: 30, dim: 16, outHeads: 5, outHead: 2, out: b}},
	}
	for n, tt := range tests {
		for _, half := range attentionHalves(d) {
			name := fmt.Sprintf("%s, heads %d over %d, %d queries, %d keys, %d channels, half %v", tt.mode, tt.heads, max(tt.kvHeads, 1), tt.tq, tt.tk, tt.dim, half)
			t.Run(name, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, uint64(n)))
				arena := d.NewArena("attention test")
				defer arena.Release()
				c := newAttentionCase(t, arena, d, rng, tt.attentionShape)
				attentionModes[tt.mode](t, arena, d, rng, c)
				c.args.Half = half
				Attention(d.Compute(), c.args)
				c.check(t, d)
			})
		}
	}
}

// The tiles for devices with 16 KiB of shared memory and 128 invocations.
func TestAttentionOnSmallestDevice(t *testing.T) {
	d := enginetest.Open(t)
	caps := d.Caps()
	caps.MaxSharedBytes, caps.MaxInvocations = 16384, 128
	for _, dim := range []int{32, 128, 512} {
		for _, half := range attentionHalves(d) {
			for _, mode := range []string{"causal masked", "blocks"} {
				if mode == "blocks" && dim > 128 {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d channels, half %v", mode, dim, half), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(2, uint64(dim)))
					arena := d.NewArena("attention test")
					defer arena.Release()
					c := newAttentionCase(t, arena, d, rng, attentionShape{heads: 2, kvHeads: 2, tq: 192, tk: 192, dim: dim})
					attentionModes[mode](t, arena, d, rng, c)
					c.args.Half = half
					tiles := attentionTiles(dim, half, caps)
					if tiles == nil {
						t.Fatal("no tile fits 16 KiB and 128 invocations")
					}
					c.args.record(d.Compute(), c.args.check(), attentionPlain{tiles[0], half})
					c.check(t, d)
				})
			}
		}
	}
}

// Results must not depend on how the work was cut, and a device with small bindings cuts everything.
func TestAttentionIsTheSameForEveryCut(t *testing.T) {
	whole := enginetest.Open(t)
	limits := map[string]engine.TestLimits{
		"cut by cost":    {MaxDispatchCost: 1e6},
		"cut by binding": {MaxStorageRange: 80 << 10},
		"cut by both":    {MaxDispatchCost: 6e6, MaxStorageRange: 66 << 10}, // 128 queries of 512 bytes fit: the largest tile
	}
	shapes := map[string]attentionShape{
		"full":   {heads: 4, kvHeads: 4, tq: 300, tk: 200, dim: 32},
		"causal": {heads: 6, kvHeads: 2, tq: 200, tk: 200, dim: 32, out: engine.BF16},
		"frames": {heads: 3, kvHeads: 3, tq: 310, tk: 310, dim: 36, q: engine.BF16},
		"ranges": {heads: 2, kvHeads: 2, tq: 150, tk: 40, dim: 132},
		"blocks": {heads: 5, kvHeads: 5, tq: 256, tk: 256, dim: 16, k: engine.BF16},
	}
	run := func(t *testing.T, d *engine.Device, mode string, half bool) []float64 {
		rng := rand.New(rand.NewPCG(3, 3))
		arena := d.NewArena("attention test")
		defer arena.Release()
		c := newAttentionCase(t, arena, d, rng, shapes[mode])
		attentionModes[mode](t, arena, d, rng, c)
		c.args.Half = half
		before := d.Compute().Counters().Dispatches
		Attention(d.Compute(), c.args)
		if n := d.Compute().Counters().Dispatches - before; d != whole && n < 3 {
			t.Fatalf("only %d dispatches: nothing was cut", n)
		}
		if d != whole {
			c.check(t, d)
		}
		return attentionDownload(t, d, c.guarded)
	}
	for name, l := range limits {
		d := enginetest.OpenWith(t, engine.Options{Limits: l})
		for mode := range shapes {
			for _, half := range attentionHalves(d) {
				t.Run(fmt.Sprintf("%s, %s, half %v", name, mode, half), func(t *testing.T) {
					want := run(t, whole, mode, half)
					for i, v := range run(t, d, mode, half) {
						if v != want[i] {
							t.Fatalf("element %d: %v cut, %v whole", i, v, want[i])
						}
					}
				})
			}
		}
	}
}

// Operands far outside of fp16's range, and heads that differ in size by many orders.
func TestAttentionHalfDoesNotOverflow(t *testing.T) {
	d := enginetest.Open(t)
	if !d.Caps().HasFloat16 {
		t.Skip("the device has no fp16 arithmetic")
	}
	for _, size := range []float64{1e-20, 1e-6, 300, 1e12, 1e30} {
		t.Run(fmt.Sprintf("q times %g, k divided by it, v times it", size), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(4, 4))
			arena := d.NewArena("attention test")
			defer arena.Release()
			c := newAttentionCase(t, arena, d, rng, attentionShape{heads: 2, kvHeads: 2, tq: 70, tk: 130, dim: 64, q: engine.BF16, k: engine.BF16, v: engine.BF16})
			scaled := func(x engine.Tensor, values []float64, by float64) []float64 {
				f := make([]float32, len(values))
				for i, v := range values {
					f[i] = float32(v * by)
					if i >= len(values)/2 { // the second head
						f[i] = float32(v)
					}
				}
				if err := d.UploadF32(t.Context(), x, f); err != nil {
					t.Fatal(err)
				}
				return attentionDownload(t, d, x)
			}
			c.ref.Q = scaled(c.args.Q, c.ref.Q, size)
			c.ref.K = scaled(c.args.K, c.ref.K, 1/size)
			c.ref.V = scaled(c.args.V, c.ref.V, size)
			c.args.Half = true
			Attention(d.Compute(), c.args)
			if err := d.Compute().Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := attentionDownload(t, d, c.args.Out)
			want := c.ref.Run()
			for h := range 2 {
				var diff, norm float64
				for i, w := range want {
					if i/64%2 == h {
						diff += (got[i] - w) / size * (got[i] - w) / size
						norm += w / size * w / size
					}
				}
				if e := math.Sqrt(diff / norm); !(e <= 0.5e-3+c.args.halfL2(d.Caps())) {
					t.Errorf("head %d: relative L2 error %g", h, e)
				}
			}
		})
	}
}

func TestAttentionKeepsNaN(t *testing.T) {
	d := enginetest.Open(t)
	for _, half := range attentionHalves(d) {
		for _, where := range []string{"q", "k", "v"} {
			t.Run(fmt.Sprintf("in %s, half %v", where, half), func(t *testing.T) {
				arena := d.NewArena("attention test")
				defer arena.Release()
				c := newAttentionCase(t, arena, d, rand.New(rand.NewPCG(5, 5)), attentionShape{heads: 1, tq: 70, tk: 70, dim: 16})
				x := map[string]engine.Tensor{"q": c.args.Q, "k": c.args.K, "v": c.args.V}[where]
				if err := d.UploadF32(t.Context(), x.View(66*16+3, 1), []float32{float32(math.NaN())}); err != nil {
					t.Fatal(err)
				}
				c.args.Half = half
				Attention(d.Compute(), c.args)
				got := attentionDownload(t, d, c.args.Out)
				if v := got[66*16+3]; !math.IsNaN(v) {
					t.Errorf("token 66 is %v", v)
				}
				if v := got[3]; math.IsNaN(v) != (where != "q") {
					t.Errorf("token 0 is %v", v)
				}
			})
		}
	}
}

func TestAttentionPanicsOnShapesThatDoNotFit(t *testing.T) {
	d := enginetest.Open(t)
	arena := d.NewArena("attention test")
	defer arena.Release()
	rng := rand.New(rand.NewPCG(6, 6))
	breaks := map[string]func(*AttentionArgs){
		"k of other channels":       func(a *AttentionArgs) { a.K = a.K.Reshape(2, 32, 8) },
		"v shorter than k":          func(a *AttentionArgs) { a.V = a.V.View(0, 2, 8, 16) },
		"kv heads that do not fit":  func(a *AttentionArgs) { a.Q = a.Q.View(0, 1, 16, 16) },
		"out of too few tokens":     func(a *AttentionArgs) { a.Out = a.Out.View(0, 15, 2, 16) },
		"out head beyond out":       func(a *AttentionArgs) { a.OutHead = 1 },
		"frames without their size": func(a *AttentionArgs) { a.Mode = AttentionFrames },
		"ranges left out":           func(a *AttentionArgs) { a.Mode = AttentionRanges },
		"blocks left out":           func(a *AttentionArgs) { a.Mode = AttentionBlocks },
		"mask of floats":            func(a *AttentionArgs) { a.Mask = a.Q.View(0, 16) },
		"half without scratch":      func(a *AttentionArgs) { a.Half, a.Scratch = true, engine.Tensor{} },
		"offset of one element":     func(a *AttentionArgs) { a.Q = a.Q.View(1, 2, 8, 16); a.Out = a.Out.View(0, 8, 2, 16) },
	}
	for name, spoil := range breaks {
		t.Run(name, func(t *testing.T) {
			c := newAttentionCase(t, arena, d, rng, attentionShape{heads: 2, kvHeads: 2, tq: 16, tk: 16, dim: 16})
			spoil(&c.args)
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			Attention(d.Compute(), c.args)
		})
	}
}

func BenchmarkAttention(b *testing.B) {
	for _, tt := range []struct {
		heads, tokens, dim int
		dt                 engine.DType
		half               bool
	}{
		{2, 1024, 64, engine.BF16, false},
		{2, 1024, 128, engine.F32, false},
		{2, 1024, 128, engine.BF16, false},
		{2, 1024, 128, engine.BF16, true},
		{1, 1024, 512, engine.BF16, false},
		{4, 16384, 128, engine.BF16, false},
		{4, 16384, 128, engine.BF16, true},
	} {
		b.Run(fmt.Sprintf("%v %dx%dx%d half=%v", tt.dt, tt.heads, tt.tokens, tt.dim, tt.half), func(b *testing.B) {
			d := enginetest.Open(b)
			if d.Summary.Physical.Info.Kind == "cpu" && tt.tokens > 4096 {
				b.Skip("takes minutes on a CPU")
			}
			arena := d.NewArena("attention benchmark")
			defer arena.Release()
			rng := rand.New(rand.NewPCG(7, 7))
			t := tt.dt
			c := newAttentionCase(b, arena, d, rng, attentionShape{heads: tt.heads, kvHeads: tt.heads, tq: tt.tokens, tk: tt.tokens, dim: tt.dim, q: t, k: t, v: t, out: t})
			c.args.Half = tt.half
			flops := 4 * float64(tt.heads) * float64(tt.tokens) * float64(tt.tokens) * float64(tt.dim)
			run := func() {
				Attention(d.Compute(), c.args)
				if err := d.Compute().Finish(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			run() // compiles the pipeline
			b.ResetTimer()
			for b.Loop() {
				run()
			}
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
