package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// nablaCase is one choice of blocks. Blocks of queries and keys get a common direction each, of different strength per
// head, so that rows come peaked and flat; plain noise would average out to equal scores.
type nablaCase struct {
	args NablaArgs
	ref  ref.Nabla
}

func newNablaCase(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, heads, dim int, grid [3]int, p float64, window [3]int, dt engine.DType, atOnce int) *nablaCase {
	t.Helper()
	s := grid[0] * grid[1] * grid[2]
	c := &nablaCase{ref: ref.Nabla{Heads: heads, Dim: dim, Grid: grid, P: float64(float32(p)), Window: window}}
	make1 := func() (engine.Tensor, []float64) {
		x := a.Alloc("tokens", dt, heads, s*64, dim)
		if a.Err() != nil {
			t.Fatal(a.Err())
		}
		values := make([]float32, 0, x.Elems())
		for h := range heads {
			for range s {
				block := make([]float64, dim)
				for i := range block {
					block[i] = rng.NormFloat64() * (0.3 + float64(h))
				}
				for range 64 {
					for _, b := range block {
						values = append(values, float32(b+rng.NormFloat64()))
					}
				}
			}
		}
		if err := d.UploadF32(t.Context(), x, values); err != nil {
			t.Fatal(err)
		}
		return x, attentionDownload(t, d, x)
	}
	c.args = NablaArgs{Grid: grid, P: float32(p), Window: window}
	c.args.Q, c.ref.Q = make1()
	c.args.K, c.ref.K = make1()
	c.args.Counts = attentionWords(t, a, d, filled(heads*s), heads, s)
	c.args.Indices = attentionWords(t, a, d, filled(heads*s*s), heads, s, s)
	c.args.Mask = attentionWords(t, a, d, filled(heads*s*s), heads, s, s)
	c.args.Scratch = a.Alloc("nabla scratch", engine.F32, int(NablaScratch(atOnce, s, dim)))
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	return c
}

const nablaUntouched = 0xabcdabcd

func filled(n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = nablaUntouched
	}
	return out
}

func nablaWords(t testing.TB, d *engine.Device, x engine.Tensor) []uint32 {
	t.Helper()
	w, err := d.DownloadU32(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// check compares the mask with the reference and the lists with the mask. In fp32 the running sum may be off by the
// score's error (as a relative error of a probability) and by rounding to 2^-31; entries whose float64 sum is nearer
// to the threshold than that may differ, and they must be few.
func (c *nablaCase) check(t *testing.T, d *engine.Device) {
	t.Helper()
	s, heads := c.ref.Blocks(), c.ref.Heads
	want, margin := c.ref.Mask()
	mask := nablaWords(t, d, c.args.Mask)
	counts := nablaWords(t, d, c.args.Counts)
	indices := nablaWords(t, d, c.args.Indices)
	scores := 0.0
	for h := range heads {
		q := ref.BlockMeans(c.ref.Q[h*s*64*c.ref.Dim:][:s*64*c.ref.Dim], c.ref.Dim)
		k := ref.BlockMeans(c.ref.K[h*s*64*c.ref.Dim:][:s*64*c.ref.Dim], c.ref.Dim)
		for a := range s {
			for b := range s {
				sum := 0.0
				for i := range c.ref.Dim {
					sum += math.Abs(q[a*c.ref.Dim+i] * k[b*c.ref.Dim+i])
				}
				scores = max(scores, sum/math.Sqrt(float64(c.ref.Dim)))
			}
		}
	}
	tolerance := float64(c.ref.Dim+70)*0x1p-24*scores*2 + float64(s)*0x1p-31
	differ, kept := 0, 0
	for i, w := range want {
		if mask[i] > 1 {
			t.Fatalf("mask entry %d is %#x", i, mask[i])
		}
		if (mask[i] == 1) != w {
			differ++
			if !(margin[i] <= tolerance) {
				t.Fatalf("head %d, row %d, block %d: kept %v, want %v, and the running sum is %g away from the threshold (tolerance %g)", i/s/s, i/s%s, i%s, mask[i] == 1, w, margin[i], tolerance)
			}
		}
		kept += int(mask[i])
	}
	if differ > len(want)/1000+1 {
		t.Errorf("%d of %d entries differ", differ, len(want))
	}
	for row := range heads * s {
		n := 0
		for b := range s {
			if mask[row*s+b] == 1 {
				if indices[row*s+n] != uint32(b) {
					t.Fatalf("row %d: index %d is %d, want %d", row, n, indices[row*s+n], b)
				}
				n++
			}
		}
		if counts[row] != uint32(n) {
			t.Fatalf("row %d: count %d, want %d", row, counts[row], n)
		}
		for ; n < s; n++ {
			if indices[row*s+n] != nablaUntouched {
				t.Fatalf("row %d: list entry %d beyond the count was written", row, n)
			}
		}
	}
	t.Logf("%.1f%% kept, %d of %d borderline entries differ", 100*float64(kept)/float64(len(want)), differ, len(want))
}

func TestNablaMaskMatchesReference(t *testing.T) {
	d := enginetest.Open(t)
	tests := []struct {
		heads, dim int
		grid       [3]int
		p          float64
		window     [3]int
		dt         engine.DType
		atOnce     int
	}{
		{3, 32, [3]int{5, 2, 3}, 0.8, [3]int{3, 1, 1}, engine.F32, 3},
		{3, 16, [3]int{4, 3, 5}, 0.9, [3]int{11, 3, 3}, engine.BF16, 2},
		{1, 128, [3]int{2, 9, 11}, 0.5, [3]int{0, 0, 0}, engine.F16, 1},
		{2, 64, [3]int{3, 7, 7}, 0.999, [3]int{1, 3, 5}, engine.F32, 1},
		{1, 4, [3]int{1, 1, 1}, 0.8, [3]int{11, 3, 3}, engine.F32, 1},
		{2, 36, [3]int{2, 5, 13}, 0.8, [3]int{1, 1, 1}, engine.BF16, 2}, // 130 blocks: more than one per invocation
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d heads of %d, grid %v, P %v, window %v, %d heads at once", tt.heads, tt.dim, tt.grid, tt.p, tt.window, tt.atOnce), func(t *testing.T) {
			arena := d.NewArena("nabla test")
			defer arena.Release()
			c := newNablaCase(t, arena, d, rand.New(rand.NewPCG(8, 8)), tt.heads, tt.dim, tt.grid, tt.p, tt.window, tt.dt, tt.atOnce)
			NablaMask(d.Compute(), c.args)
			c.check(t, d)
		})
	}
}

func TestNablaMaskKeepsEverythingAtP1AndLittleAtP0(t *testing.T) {
	d := enginetest.Open(t)
	for p, want := range map[float64]uint32{1: 12, 0: 1} {
		t.Run(fmt.Sprintf("P %v", p), func(t *testing.T) {
			arena := d.NewArena("nabla test")
			defer arena.Release()
			c := newNablaCase(t, arena, d, rand.New(rand.NewPCG(9, 9)), 1, 16, [3]int{3, 2, 2}, p, [3]int{0, 0, 0}, engine.F32, 1)
			// Identical keys: all probabilities are equal, and ties drop the lowest indices.
			if err := d.UploadF32(t.Context(), c.args.K, make([]float32, c.args.K.Elems())); err != nil {
				t.Fatal(err)
			}
			NablaMask(d.Compute(), c.args)
			for row, n := range nablaWords(t, d, c.args.Counts) {
				list := nablaWords(t, d, c.args.Indices)[row*12:][:12]
				// The own block is in the window; the last one is the end of the stable order.
				expect := want
				if p == 0 && row != 11 {
					expect = 2
				}
				if n != expect || list[n-1] != 11 || (p == 0 && list[0] != uint32(row)) {
					t.Errorf("row %d keeps %d blocks, %v, want %d", row, n, list, expect)
				}
			}
		})
	}
}

func TestNablaMaskKeepsEverythingInRowsWithNaN(t *testing.T) {
	d := enginetest.Open(t)
	arena := d.NewArena("nabla test")
	defer arena.Release()
	c := newNablaCase(t, arena, d, rand.New(rand.NewPCG(10, 10)), 1, 16, [3]int{5, 2, 2}, 0.8, [3]int{0, 0, 0}, engine.F32, 1)
	if err := d.UploadF32(t.Context(), c.args.Q.View(3*64*16, 1), []float32{float32(math.NaN())}); err != nil {
		t.Fatal(err)
	}
	NablaMask(d.Compute(), c.args)
	counts := nablaWords(t, d, c.args.Counts)
	if counts[3] != 20 {
		t.Errorf("the row with a NaN keeps %d of 20 blocks", counts[3])
	}
	if counts[2] == 20 {
		t.Error("a row without NaN keeps everything")
	}
}

// NablaAttention against attention with the mask that it reports, in one go, head by head, and cut.
func TestNablaAttentionMatchesReference(t *testing.T) {
	const heads, dim = 3, 32
	grid, window := [3]int{3, 2, 2}, [3]int{1, 1, 1}
	blocks := grid[0] * grid[1] * grid[2]
	tokens := 64 * blocks
	var first []float64
	for _, tt := range []struct {
		name   string
		atOnce int
		limits engine.TestLimits
	}{
		{"all heads at once", heads, engine.TestLimits{}},
		{"head by head", 1, engine.TestLimits{}},
		{"cut by cost", 2, engine.TestLimits{MaxDispatchCost: 2e6}},
		{"cut by binding", heads, engine.TestLimits{MaxStorageRange: 256 << 10}},
	} {
		d := enginetest.OpenWith(t, engine.Options{Limits: tt.limits})
		for _, half := range attentionHalves(d) {
			t.Run(fmt.Sprintf("%s, half %v", tt.name, half), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(11, 11))
				arena := d.NewArena("nabla test")
				defer arena.Release()
				n := newNablaCase(t, arena, d, rng, heads, dim, grid, 0.8, window, engine.F32, 1)
				c := newAttentionCase(t, arena, d, rng, attentionShape{heads: heads, kvHeads: heads, tq: tokens, tk: tokens, dim: dim, out: engine.BF16})
				c.args.Q, c.ref.Q, c.args.K, c.ref.K = n.args.Q, n.ref.Q, n.args.K, n.ref.K
				c.args.Half, c.size = half, 2.5
				scratch := arena.Alloc("scratch", engine.F32, int(NablaAttentionScratch(tt.atOnce, blocks, dim, false)))
				if arena.Err() != nil {
					t.Fatal(arena.Err())
				}
				NablaAttention(d.Compute(), NablaAttentionArgs{
					Q: c.args.Q, K: c.args.K, V: c.args.V, Out: c.args.Out, Grid: grid, P: 0.8, Window: window,
					Half: half, Mask: n.args.Mask, Scratch: scratch,
				})
				kept := nablaWords(t, d, n.args.Mask)
				mask := make([]bool, len(kept))
				for i, k := range kept {
					mask[i] = k == 1
				}
				c.ref.Visible = ref.BlocksVisible(mask, blocks)
				c.check(t, d)
				if half {
					return
				}
				got := attentionDownload(t, d, c.args.Out)
				if first == nil {
					first = got
				}
				for i := range got {
					if got[i] != first[i] {
						t.Fatalf("element %d: %v, all at once %v", i, got[i], first[i])
					}
				}
			})
		}
	}
}

func TestNablaRefusesRowsBeyondSharedMemory(t *testing.T) {
	if got := nablaCapacity(3660, engine.Caps{MaxSharedBytes: 16384}); got < 3660 {
		t.Errorf("16 KiB hold rows of %d blocks, the longest published video has 3660", got)
	}
	if got := nablaCapacity(8192, engine.Caps{MaxSharedBytes: 32768}); got >= 8192 {
		t.Errorf("32 KiB cannot hold %d words and the sums", got)
	}
}

func BenchmarkNablaMask(b *testing.B) {
	for _, tt := range []struct {
		heads, dim int
		grid       [3]int
	}{{2, 64, [3]int{5, 6, 6}}, {1, 128, [3]int{31, 8, 8}}} {
		b.Run(fmt.Sprintf("%dx%d %v", tt.heads, tt.dim, tt.grid), func(b *testing.B) {
			d := enginetest.Open(b)
			arena := d.NewArena("nabla benchmark")
			defer arena.Release()
			c := newNablaCase(b, arena, d, rand.New(rand.NewPCG(12, 12)), tt.heads, tt.dim, tt.grid, 0.8, [3]int{11, 3, 3}, engine.BF16, tt.heads)
			run := func() {
				NablaMask(d.Compute(), c.args)
				if err := d.Compute().Finish(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			run()
			b.ResetTimer()
			for b.Loop() {
				run()
			}
			s := float64(c.ref.Blocks())
			b.ReportMetric(float64(tt.heads)*s*s*float64(2*tt.dim)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/float64(tt.heads), "ms/head")
		})
	}
}
