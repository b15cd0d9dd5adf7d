package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// int8Case is an attention by signed bytes.
func int8Case(t *testing.T, a *engine.Arena, d *engine.Device, seed uint64, half bool, s attentionShape) *attentionCase {
	t.Helper()
	c := newAttentionCase(t, a, d, rand.New(rand.NewPCG(41, seed)), s)
	kvHeads := max(s.kvHeads, 1)
	n := AttentionInt8Scratch(s.heads, kvHeads, s.dim)
	c.args.Scratch = attentionWords(t, a, d, make([]uint32, n), n)
	c.args.Half, c.args.Consume, c.args.Int8 = half, true, true
	return c
}

// commonToKeys adds the same large values to all keys of a head, as they have them in networks.
func commonToKeys(t *testing.T, d *engine.Device, c *attentionCase, size float64) {
	t.Helper()
	rng, f := rand.New(rand.NewPCG(42, 1)), make([]float32, len(c.ref.K))
	shift := make([]float64, c.ref.KVHeads*c.ref.Dim)
	for i := range shift {
		shift[i] = rng.NormFloat64() * size
	}
	for i, v := range c.ref.K {
		f[i] = float32(v + shift[i/(c.ref.Tk*c.ref.Dim)*c.ref.Dim+i%c.ref.Dim])
	}
	if err := d.UploadF32(t.Context(), c.args.K, f); err != nil {
		t.Fatal(err)
	}
	c.ref.K = attentionDownload(t, d, c.args.K)
}

// memoryWords returns what a tensor's memory holds.
func memoryWords(t *testing.T, d *engine.Device, x engine.Tensor) []uint32 {
	t.Helper()
	x.Shape, x.DType = []int{int(x.Elems() * x.DType.Size() / 4)}, engine.U32
	words, err := d.DownloadU32(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// roundedHeads reads back what attention_quantize.comp left of heads: the numbers that the bytes stand for, and each token's scale.
func roundedHeads(t *testing.T, d *engine.Device, x engine.Tensor, strip bool, order byteOrder) (values, scales []float64) {
	t.Helper()
	heads, rows, dim := x.Dim(0), x.Dim(1), x.Dim(2)
	words, pitch := memoryWords(t, d, x), dim*int(x.DType.Size())/4
	for token := range heads * rows {
		begin, scaleAt := token*pitch, token*pitch+dim/4
		if order != byteRows {
			begin = token / 16 * 16 * pitch
			scaleAt = begin + 512 + token%16
			if strip {
				scaleAt = begin + 512
			}
		}
		scale := float64(math.Float32frombits(words[scaleAt]))
		scales = append(scales, scale)
		for c := range dim {
			at := begin + c/4
			if order != byteRows {
				at = begin + byteFragmentWord(order, token%16, c/4)
			}
			values = append(values, scale*float64(int8(words[at]>>(c%4*8))))
		}
	}
	return values, scales
}

// byteFragmentWord returns where in 16 tokens' fragments a token's word of four channels lies (include/fragments.glsl).
func byteFragmentWord(order byteOrder, row, word int) int {
	fragment, t, right := word/8, word%4, word/4%2
	lane := row%8*4 + t
	if order == leftByteFragments {
		return fragment*128 + lane*4 + row/8 + 2*right
	}
	return fragment*128 + lane*4 + 2*(row/8) + right
}

// checkInt8 compares the device's result with what the bytes give that it made, which must be as near to queries and keys as bytes can be.
func (c *attentionCase) checkInt8(t *testing.T, d *engine.Device, q, k byteOrder) {
	t.Helper()
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	exact, r := c.ref.Run(), c.ref
	qs, qScales := roundedHeads(t, d, c.args.Q, false, q)
	ks, kScales := roundedHeads(t, d, c.args.K, true, k)
	perHead := r.Tk * r.Dim
	for i, v := range r.Q {
		if s := qScales[i/r.Dim]; !(math.Abs(qs[i]-v) <= s*0.5001) {
			t.Fatalf("query element %d is %g, rounded with scale %g it is %g", i, v, s, qs[i])
		}
	}
	for i, v := range r.K {
		head, mean := i/perHead, 0.0
		for j := range r.Tk {
			mean += r.K[head*perHead+j*r.Dim+i%r.Dim] / float64(r.Tk)
		}
		// Means are summed in fp32: off by less than 2⁻²⁰ of the magnitudes here.
		if s := kScales[i/r.Dim]; !(math.Abs(ks[i]-(v-mean)) <= s*0.5001+0x1p-20*(math.Abs(v)+math.Abs(mean))) {
			t.Fatalf("key element %d is %g with a mean of %g, rounded with scale %g it is %g", i, v, mean, s, ks[i])
		}
		if i%r.Dim == 0 && i/r.Dim%r.Tk%16 != 0 && kScales[i/r.Dim] != kScales[i/r.Dim-1] {
			t.Fatalf("key %d has another scale than the one before it", i/r.Dim)
		}
	}
	c.ref.Q, c.ref.K = qs, ks
	c.check(t, d)
	diff, norm := 0.0, 0.0
	for i, w := range c.ref.Run() {
		diff += (w - exact[i]) * (w - exact[i])
		norm += exact[i] * exact[i]
	}
	// Elements of a query are off by a part evenly spread over ±½ of a scale, its maximum / 127; normal values have a maximum of 2.5 to 3 deviations
	// over 64 or 128, 16 keys together one of 3.5. So a score of deviation size² is off by √(2.8² + 3.5²)/(127·√12) = 1.0 % of its deviation, and a
	// result by about as much of itself as its weights are. Short sums over few keys vary; twice that is left, and fewer channels have smaller maxima.
	l2, limit := math.Sqrt(diff/max(norm, 1e-30)), 0.022*c.size*c.size
	t.Logf("rounding to bytes changes the result by %.2g", l2)
	if !(l2 <= limit) {
		t.Errorf("rounding to bytes changes the result by %.3g, limit %.3g", l2, limit)
	}
}

func TestInt8AttentionMatchesReference(t *testing.T) {
	d := enginetest.Open(t)
	f, b, h := engine.F32, engine.BF16, engine.F16
	for n, tt := range []struct {
		mode string
		attentionShape
		common float64
	}{
		{"full", attentionShape{heads: 2, kvHeads: 2, tq: 65, tk: 200, dim: 128, q: b, k: b, v: b, out: b}, 20},
		{"full", attentionShape{heads: 4, kvHeads: 2, tq: 37, tk: 75, dim: 64, q: b, k: b, v: b, out: f, outHeads: 5, outHead: 1}, 0},
		{"full", attentionShape{heads: 1, tq: 3, tk: 1, dim: 20, q: h, k: f, v: h, out: h}, 0},
		{"blocks", attentionShape{heads: 2, kvHeads: 2, tq: 192, tk: 192, dim: 64, q: b, k: b, v: b, out: b}, 3},
		{"masked", attentionShape{heads: 2, kvHeads: 2, tq: 50, tk: 90, dim: 64, q: b, k: b, v: b, out: b}, 0},
	} {
		for _, half := range attentionHalves(d) {
			t.Run(fmt.Sprintf("%s, %d over %d heads of %d, %d queries, %d keys, half %v", tt.mode, tt.heads, max(tt.kvHeads, 1), tt.dim, tt.tq, tt.tk, half), func(t *testing.T) {
				arena := d.NewArena("int8")
				defer arena.Release()
				c := int8Case(t, arena, d, uint64(n), half, tt.attentionShape)
				if tt.common > 0 {
					commonToKeys(t, d, c, tt.common)
				}
				attentionModes[tt.mode](t, arena, d, rand.New(rand.NewPCG(43, uint64(n))), c)
				z, caps := c.args.check(), d.Caps()
				if k, ok := c.args.chooseKernel(z, caps); !ok {
					t.Fatalf("no kernel computes it: %v", k)
				}
				Attention(d.Compute(), c.args)
				c.checkInt8(t, d, byteRows, byteRows)
			})
		}
	}
}

func TestInt8AttentionIsTheSameForEveryCut(t *testing.T) {
	shape := attentionShape{heads: 3, kvHeads: 3, tq: 300, tk: 150, dim: 64, q: engine.BF16, k: engine.BF16, v: engine.BF16, out: engine.BF16}
	var first []float64
	for _, limits := range []engine.TestLimits{{}, {MaxDispatchCost: 4 * 64 * 150 * 64}, {MaxStorageRange: 25 << 10}} { // 196 queries, the keys of one head
		d := enginetest.OpenWith(t, engine.Options{Limits: limits})
		arena := d.NewArena("cuts")
		c := int8Case(t, arena, d, 3, false, shape)
		Attention(d.Compute(), c.args)
		if err := d.Compute().Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := attentionDownload(t, d, c.args.Out)
		if first == nil {
			first = got
		}
		if !slices.Equal(got, first) {
			t.Errorf("other bits within %+v", limits)
		}
		arena.Release()
	}
}

// Rows of zeros, and numbers that are none, which must not become numbers.
func TestInt8AttentionOfZerosAndNoNumbers(t *testing.T) {
	d := enginetest.Open(t)
	b := engine.BF16
	for _, where := range []string{"nowhere", "q", "k"} {
		t.Run("no number in "+where, func(t *testing.T) {
			arena := d.NewArena("int8")
			defer arena.Release()
			c := int8Case(t, arena, d, 5, false, attentionShape{heads: 1, tq: 37, tk: 40, dim: 64, q: b, k: b, v: b})
			zero := make([]float32, 64)
			for _, x := range []engine.Tensor{c.args.Q, c.args.K} {
				if err := d.UploadF32(t.Context(), x.View(64*33, 64), zero); err != nil {
					t.Fatal(err)
				}
			}
			spoiled := map[string]engine.Tensor{"q": c.args.Q, "k": c.args.K}[where]
			if where != "nowhere" {
				if err := d.UploadF32(t.Context(), spoiled.View(64*20+3, 1), []float32{float32(math.Inf(1))}); err != nil {
					t.Fatal(err)
				}
			}
			Attention(d.Compute(), c.args)
			got := attentionDownload(t, d, c.args.Out)
			for token, want := range map[int]bool{0: where == "k", 20: where != "nowhere", 33: where == "k", 36: where == "k"} {
				if v := got[token*64+5]; math.IsNaN(v) != want {
					t.Errorf("token %d is %v", token, v)
				}
			}
		})
	}
	// A query of zeros sees all keys alike: its result is their values' mean.
	arena := d.NewArena("int8")
	defer arena.Release()
	c := int8Case(t, arena, d, 6, false, attentionShape{heads: 1, tq: 37, tk: 40, dim: 64, q: b, k: b, v: b})
	if err := d.UploadF32(t.Context(), c.args.Q, make([]float32, 37*64)); err != nil {
		t.Fatal(err)
	}
	c.ref.Q = make([]float64, 37*64)
	Attention(d.Compute(), c.args)
	c.checkInt8(t, d, byteRows, byteRows)
}

// The kernel for fragments, with and without held queries, odd multiples of 16 tokens, and scores that outgrow the shift of the first keys.
func TestInt8AttentionByFragmentsMatchesReference(t *testing.T) {
	d := openFragments(t, engine.TestLimits{EmulateFragments: true})
	b := engine.BF16
	small := []attentionFragments{{subs: 2, frags: 2, keys: 32}, {subs: 4, frags: 1, keys: 32, held: true}}
	for n, tt := range []struct {
		mode string
		attentionShape
		grows bool
	}{
		{"full", attentionShape{heads: 4, kvHeads: 2, tq: 48, tk: 80, dim: 128, q: b, k: b, v: b, out: b, outHeads: 6, outHead: 1}, false},
		{"full", attentionShape{heads: 1, tq: 64, tk: 96, dim: 128, q: b, k: b, v: b, size: 0.5}, true},
		{"blocks", attentionShape{heads: 2, kvHeads: 2, tq: 192, tk: 192, dim: 128, q: b, k: b, v: b, out: b}, false},
	} {
		for _, f := range small {
			t.Run(fmt.Sprintf("%s, %d and %d tokens, %s, growing %v", tt.mode, tt.tq, tt.tk, f.name(), tt.grows), func(t *testing.T) {
				arena := d.NewArena("int8 fragments")
				defer arena.Release()
				c := int8Case(t, arena, d, uint64(50+n), true, tt.attentionShape)
				commonToKeys(t, d, c, 2)
				if tt.grows {
					c.size = 5 // see TestAttentionByFragmentsBeginsAnewWhenScoresGrow
					c.ref.Q = firstChannel(t, d, c.args.Q, c.ref.Q, func(i int) float32 { return map[int]float32{37: 8}[i] })
					c.ref.K = firstChannel(t, d, c.args.K, c.ref.K, func(j int) float32 { return map[int]float32{90: 588}[j] })
				}
				attentionModes[tt.mode](t, arena, d, rand.New(rand.NewPCG(51, uint64(n))), c)
				z := c.args.check()
				i := slices.IndexFunc(c.args.ways(z, d.Caps()), func(k attentionKernel) bool { return k.name() == "int8 "+f.name() })
				if i < 0 {
					t.Fatalf("the tile is none of %v", c.args.ways(z, d.Caps()))
				}
				c.args.record(d.Compute(), z, c.args.ways(z, d.Caps())[i])
				c.checkInt8(t, d, leftByteFragments, rightByteFragments)
			})
		}
	}
}
