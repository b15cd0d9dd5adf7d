package ops

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/ref"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// attentionCase is one attention with everything on the device and the reference's inputs as the device holds them.
type attentionCase struct {
	args    AttentionArgs
	ref     ref.Attention
	guarded engine.Tensor // Out with attentionGuard elements before and after it
	before  []float64     // what the guarded tensor held
	size    float64       // standard deviation of q and k
}

const attentionGuard = 256 // elements

// attentionInput makes a device tensor of normal values times size, and returns what it holds after rounding.
func attentionInput(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, dt engine.DType, size float64, shape ...int) (engine.Tensor, []float64) {
	t.Helper()
	x := a.Alloc("input", dt, shape...)
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	values := make([]float32, x.Elems())
	for i := range values {
		values[i] = float32(rng.NormFloat64() * size)
	}
	if err := d.UploadF32(t.Context(), x, values); err != nil {
		t.Fatal(err)
	}
	return x, attentionDownload(t, d, x)
}

func attentionDownload(t testing.TB, d *engine.Device, x engine.Tensor) []float64 {
	t.Helper()
	values, err := d.DownloadF32(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

func attentionWords(t testing.TB, a *engine.Arena, d *engine.Device, values []uint32, shape ...int) engine.Tensor {
	t.Helper()
	x := a.Alloc("words", engine.U32, shape...)
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	if err := d.UploadU32(t.Context(), x, values); err != nil {
		t.Fatal(err)
	}
	return x
}

// attentionShape is what a table says about a case; zero fields take the defaults of newAttentionCase.
type attentionShape struct {
	heads, kvHeads, tq, tk, dim int
	q, k, v, out                engine.DType
	size                        float64 // standard deviation of q and k
	outHeads, outHead           int
}

func newAttentionCase(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, s attentionShape) *attentionCase {
	t.Helper()
	s.kvHeads = max(s.kvHeads, 1)
	s.outHeads = max(s.outHeads, s.heads)
	if s.size == 0 {
		s.size = 1
	}
	c := &attentionCase{size: s.size, ref: ref.Attention{Heads: s.heads, KVHeads: s.kvHeads, Tq: s.tq, Tk: s.tk, Dim: s.dim}}
	c.args.Q, c.ref.Q = attentionInput(t, a, d, rng, s.q, s.size, s.heads, s.tq, s.dim)
	c.args.K, c.ref.K = attentionInput(t, a, d, rng, s.k, s.size, s.kvHeads, s.tk, s.dim)
	c.args.V, c.ref.V = attentionInput(t, a, d, rng, s.v, 1, s.kvHeads, s.tk, s.dim)
	c.ref.Scale = 1 / math.Sqrt(float64(s.dim))
	elems := s.tq * s.outHeads * s.dim
	c.guarded, c.before = attentionInput(t, a, d, rng, s.out, 1, elems+2*attentionGuard)
	c.args.Out = c.guarded.View(attentionGuard, s.tq, s.outHeads, s.dim)
	c.args.OutHead = s.outHead
	c.args.Scratch = attentionWords(t, a, d, make([]uint32, AttentionScratch(s.heads, s.kvHeads)), AttentionScratch(s.heads, s.kvHeads))
	return c
}

// attentionError is the part of the error bound that the arithmetic makes, relative to the largest |v| (with u the
// unit roundoff 2^-24). A score is a sum of d products: it is off by at most (d+2)·u·A, A the largest sum of |q·k| over
// channels times scale. The weight is off by that, by exp2 (3 + 2|x| units in the last place, x the score's distance
// from the maximum, which is at most 2A·log2(e)) and, in numerator and denominator, by the sum over Tk keys and its
// rescaling. In fp16 a product and the short sums are off by (8+1)·2^-11 of the sum of their magnitudes in addition. With
// matrices of bf16 each weight is off by at most 2^-8 of itself in the numerator alone, where it is rounded.
func (c *attentionCase) attentionError(caps engine.Caps) float64 {
	const u = 0x1p-24
	r := c.ref
	scores := 0.0
	for h := range r.Heads {
		for i := range r.Tq {
			for j := range r.Tk {
				sum := 0.0
				kv := h / (r.Heads / r.KVHeads)
				for n := range r.Dim {
					sum += math.Abs(r.Q[(h*r.Tq+i)*r.Dim+n] * r.K[(kv*r.Tk+j)*r.Dim+n])
				}
				scores = max(scores, sum*r.Scale)
			}
		}
	}
	score := float64(r.Dim+2) * u * scores
	weight := score + (3+2*2*scores*math.Log2E)*2*u + float64(2*r.Tk+4)*u
	if !c.args.Half {
		return 2 * weight
	}
	if c.args.bf16Matrices(caps) {
		return 2*weight + 0x1p-8
	}
	return 2 * (weight + 9*0x1p-11*scores + 9*0x1p-11)
}

// bf16Matrices tells whether matrices of bf16 compute the attention.
func (a AttentionArgs) bf16Matrices(caps engine.Caps) bool {
	k, ok := a.chooseKernel(a.check(), caps)
	return ok && slices.Contains([]string{shaders.AttentionMatrixBf16, shaders.AttentionFlexibleBf16, shaders.AttentionFragments, shaders.AttentionFragmentsEmulated,
		shaders.AttentionFragmentsInt8, shaders.AttentionFragmentsInt8Emulated}, k.shader())
}

// halfL2 is the relative L2 error that an attention may have by its 16-bit arithmetic, for scores of deviation 1 or less.
//
// Matrices of bf16 take q, k and v as they are and sum in fp32; what they round is the weight p, to nearest. Of mantissa m
// in [1, 2) it is then off by a part evenly spread over ±2^-8/m, of which the root mean square is 2^-8/√3·√E[1/m²] =
// 2^-8/√3·0.74 = 1.67e-3 for a mantissa spread evenly in its logarithm. Where values are independent, a result errs by as
// much of itself as its weights do. Left is 5% for chance.
//
// Products in fp16 round q, k, p, v, the products and sums of 8 of them: 1e-3 is about twice of what they make by chance.
func (a AttentionArgs) halfL2(caps engine.Caps) float64 {
	if a.bf16Matrices(caps) {
		return 1.75e-3
	}
	return 1e-3
}

// check runs the reference and compares: every element within the derived bound, the whole within an L2 limit that
// random rounding keeps to (it grows with the root of the number of roundings, not with their number), nothing else
// written.
func (c *attentionCase) check(t *testing.T, d *engine.Device) {
	t.Helper()
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := attentionDownload(t, d, c.guarded)
	want := c.ref.Run()
	vmax := 0.0
	for _, v := range c.ref.V {
		vmax = max(vmax, math.Abs(v))
	}
	roundOut := map[engine.DType]float64{engine.F32: 0x1p-24, engine.BF16: 0x1p-8, engine.F16: 0x1p-11}[c.args.Out.DType]
	bound := c.attentionError(d.Caps()) * vmax
	heads := c.args.Out.Dim(1)
	var diff, norm float64
	next := 0
	for e, v := range got {
		at := e - attentionGuard
		head := 0
		if at >= 0 {
			head = at/c.ref.Dim%heads - c.args.OutHead
		}
		if at < 0 || at >= int(c.args.Out.Elems()) || head < 0 || head >= c.ref.Heads {
			if v != c.before[e] {
				t.Fatalf("element %d outside of the result became %v, was %v", at, v, c.before[e])
			}
			continue
		}
		w := want[next]
		next++
		if tol := bound + roundOut*math.Abs(w) + 0x1p-24; !(math.Abs(v-w) <= tol) {
			t.Fatalf("token %d, head %d, channel %d: %v, want %v ± %.2g", at/(heads*c.ref.Dim), head, at%c.ref.Dim, v, w, tol)
		}
		diff += (v - w) * (v - w)
		norm += w * w
	}
	limit := 2e-6 + roundOut
	if c.args.Half {
		limit += c.args.halfL2(d.Caps()) + 1e-4*c.size*c.size // the standard deviation of the scores is size²
	}
	if l2 := math.Sqrt(diff / max(norm, 1e-30)); !(l2 <= limit) {
		t.Fatalf("relative L2 error %.3g, limit %.3g", l2, limit)
	} else {
		t.Logf("relative L2 error %.2g", l2)
	}
}

// attentionModes sets a case up for every mode. Sequences of blocks are multiples of 64.
var attentionModes = map[string]func(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, c *attentionCase){
	"full": func(testing.TB, *engine.Arena, *engine.Device, *rand.Rand, *attentionCase) {},
	"causal": func(_ testing.TB, _ *engine.Arena, _ *engine.Device, _ *rand.Rand, c *attentionCase) {
		c.args.Mode, c.ref.Visible = AttentionCausal, ref.CausalVisible(c.ref.Tq, c.ref.Tk)
	},
	"frames": func(_ testing.TB, _ *engine.Arena, _ *engine.Device, _ *rand.Rand, c *attentionCase) {
		c.args.Mode, c.args.Frame = AttentionFrames, 35
		c.ref.Visible = ref.FramesVisible(35)
	},
	"ranges": func(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, c *attentionCase) {
		c.args.Mode = AttentionRanges
		words := make([]uint32, 2*c.ref.Tq)
		for i := range words {
			words[i] = uint32(rng.IntN(c.ref.Tk + 20)) // some are empty, some end beyond the keys
		}
		c.args.Ranges = attentionWords(t, a, d, words, c.ref.Tq, 2)
		c.ref.Visible = func(_, i, j int) bool { return uint32(j) >= words[2*i] && uint32(j) < words[2*i+1] }
	},
	"blocks": func(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, c *attentionCase) {
		n := c.ref.Tq / 64
		mask := make([]bool, c.ref.Heads*n*n)
		for i := range mask {
			mask[i] = rng.IntN(3) == 0
		}
		c.args.Mode = AttentionBlocks
		c.args.Counts, c.args.Indices = attentionLists(t, a, d, mask, n)
		c.ref.Visible = ref.BlocksVisible(mask, n)
	},
	"masked": func(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, c *attentionCase) {
		attentionMask(t, a, d, rng, c)
	},
	"causal masked": func(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, c *attentionCase) {
		c.args.Mode, c.ref.Visible = AttentionCausal, ref.CausalVisible(c.ref.Tq, c.ref.Tk)
		attentionMask(t, a, d, rng, c)
	},
}

func attentionMask(t testing.TB, a *engine.Arena, d *engine.Device, rng *rand.Rand, c *attentionCase) {
	words := make([]uint32, c.ref.Tk)
	for i := range words {
		words[i] = uint32(rng.IntN(2)) * uint32(i+1) // any word but 0 counts
	}
	c.args.Mask = attentionWords(t, a, d, words, c.ref.Tk)
	before := c.ref.Visible
	c.ref.Visible = func(h, i, j int) bool { return words[j] != 0 && (before == nil || before(h, i, j)) }
}

// attentionLists uploads a block mask as counts and indices. Unused indices are out of range: reading one shows.
func attentionLists(t testing.TB, a *engine.Arena, d *engine.Device, mask []bool, n int) (counts, indices engine.Tensor) {
	rows := len(mask) / n
	count := make([]uint32, rows)
	index := make([]uint32, len(mask))
	for i := range index {
		index[i] = 1 << 20
	}
	for i, m := range mask {
		if m {
			index[i/n*n+int(count[i/n])] = uint32(i % n)
			count[i/n]++
		}
	}
	return attentionWords(t, a, d, count, rows), attentionWords(t, a, d, index, len(index))
}

func attentionHalves(d *engine.Device) []bool {
	if d.Caps().HasFloat16 {
		return []bool{false, true}
	}
	return []bool{false}
}
