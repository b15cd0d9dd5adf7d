package doctor

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

func sqrt(v float64) float64 { return math.Sqrt(v) }

// samples spreads n numbers over [0, of), first and last among them.
func samples(n, of int) []int {
	if n >= of {
		n = of
	}
	out := make([]int, n)
	for k := range out {
		out[k] = k * (of - 1) / max(n-1, 1)
	}
	return out
}

const linearLayer = "linear layer"

// matmulTrial is a linear layer with bf16 operands: rows × columns × k.
func matmulTrial(c engine.Caps) trial {
	sizes := []size{{dims: [4]int{410, 300, 1032}, whole: true}, {dims: [4]int{2048, 2048, 2048}}, {dims: [4]int{4096, 4096, 4096}}, {dims: [4]int{16384, 4096, 4096}}}
	if fragments(c) {
		sizes[0].dims[2] = 1152 // what is packed
	}
	for n := range sizes {
		z := &sizes[n]
		m, cols, k := z.dims[0], z.dims[1], z.dims[2]
		z.text = fmt.Sprintf("%d×%d×%d", m, cols, k)
		z.work = 2 * float64(m) * float64(cols) * float64(k) / 1e12
		z.bytes = int64(2*m*k+2*cols*k+4*m*cols) + room(c, m, cols, k)
	}
	return trial{linearLayer, "TFLOP/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		m, n, k := z.dims[0], z.dims[1], z.dims[2]
		x, w := b.noise(engine.BF16, 1, m, k), b.noise(engine.BF16, 1, n, k)
		y := b.tensor(engine.F32, m, n)
		var packed engine.Tensor
		if bytes := room(c, m, n, k); bytes > 0 {
			packed = b.tensor(engine.U8, int(bytes))
		}
		return func(s *engine.Stream) {
				ops.Matmul(s, ops.MatmulArgs{X: x.Tensor, W: w.Tensor, Y: y, Half: half(c), Scratch: packed})
			}, func() verdict {
				return verdict{b.compareMatmul(z, x, w, y), productLimit(c, k)}
			}
	}}
}

// fragments tells whether runs on the device compute linear layers and attention from packed fragments.
func fragments(c engine.Caps) bool { return half(c) && c.Fragments != engine.NoFragments }

// room is how many bytes a linear layer's packed operands get, 0 where there are none. The small layer that is compared as a whole gets
// them too, though runs compute layers of so few rows without.
func room(c engine.Caps, rows, cols, k int) int64 {
	if !fragments(c) {
		return 0
	}
	return ops.MatmulScratch(max(rows, 1024), cols, k)
}

// compareMatmul compares all of y, or 256 columns of 8 rows.
func (b *bench) compareMatmul(z size, x, w data, y engine.Tensor) float64 {
	m, n, k := z.dims[0], z.dims[1], z.dims[2]
	rows, cols := samples(8, m), samples(256, n)
	if z.whole {
		rows, cols = samples(m, m), samples(n, n)
	}
	var d distance
	if b.err != nil {
		return math.NaN()
	}
	var weights []float64
	for _, col := range cols {
		weights = append(weights, w.part(int64(col*k), k)...)
	}
	read := b.reader(linearLayer, y, z.whole)
	for _, row := range rows {
		all := read(int64(row*n), n)
		if b.err != nil {
			return math.NaN()
		}
		got := make([]float64, len(cols))
		for j, col := range cols {
			got[j] = all[col]
		}
		d.add(got, ref.Matmul(x.part(int64(row*k), k), weights, nil, 1, len(cols), k))
	}
	return d.relative()
}

// attentionTrial is full attention with bf16 operands: heads × tokens × keys × channels.
func attentionTrial(c engine.Caps) trial {
	sizes := []size{{dims: [4]int{2, 333, 277, 128}, whole: true}, {dims: [4]int{4, 1024, 1024, 128}}, {dims: [4]int{8, 4096, 4096, 128}}, {dims: [4]int{16, 16384, 16384, 128}}}
	if fragments(c) {
		sizes[0].dims = [4]int{2, 336, 272, 128} // what is packed
	}
	for n := range sizes {
		z := &sizes[n]
		h, tq, tk, dim := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
		z.text = fmt.Sprintf("%d heads of %d, %d×%d", h, dim, tq, tk)
		z.work = 4 * float64(h) * float64(tq) * float64(tk) * float64(dim) / 1e12
		z.bytes = int64(h*dim) * int64(2*tq+4*tk+4*tq)
		if fragments(c) {
			z.bytes += int64(h*dim) * int64(2*tq+4*tk)
		}
	}
	return trial{"attention", "TFLOP/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		h, tq, tk, dim := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
		q, k, v := b.noise(engine.BF16, 1, h, tq, dim), b.noise(engine.BF16, 1, h, tk, dim), b.noise(engine.BF16, 1, h, tk, dim)
		out := b.tensor(engine.F32, tq, h, dim)
		scratch := b.tensor(engine.U32, ops.AttentionScratch(h, h))
		args := ops.AttentionArgs{Q: q.Tensor, K: k.Tensor, V: v.Tensor, Out: out, Half: half(c), Scratch: scratch}
		if args.Consume = fragments(c); args.Consume {
			args.Q, args.K, args.V = b.tensor(engine.BF16, h, tq, dim), b.tensor(engine.BF16, h, tk, dim), b.tensor(engine.BF16, h, tk, dim)
		}
		return func(s *engine.Stream) {
				if args.Consume { // copies come before the first dispatch, from which on the time counts
					s.Copy(args.Q, q.Tensor)
					s.Copy(args.K, k.Tensor)
					s.Copy(args.V, v.Tensor)
				}
				ops.Attention(s, args)
			}, func() verdict {
				return verdict{b.compareAttention(z, q, k, v, out), attentionLimit(c)}
			}
	}}
}

// attentionLimit bounds the relative L2 error for scores of deviation 1. In fp32 it is what exp and sums of some thousand
// weights may err by: 3 + 2·|x| units in the last place of each weight, and random sums.
//
// Matrices round the weights p of the values to bf16. Vulkan leaves open how a conversion rounds, and some drivers truncate:
// p, of mantissa m in [1, 2), then loses a part evenly spread over [0, 2⁻⁷/m), of which the root mean square is 3.3e-3
// for a mantissa spread evenly in its logarithm; a result errs by as much of itself as its weights do. 5 % are left for
// chance. fp16 rounds q, k, p, v, products and sums of 8 of them: by chance that makes 7e-4, twice as much where it
// truncates, and half as much again is left.
func attentionLimit(c engine.Caps) float64 {
	switch {
	case fragments(c), c.Tier >= engine.TierMatrix && c.Matrix.BF16 != (engine.MatrixShape{}):
		return 3.5e-3
	case c.Tier >= engine.TierFP16:
		return 2e-3
	}
	return 5e-6
}

// compareAttention compares all heads and queries, or 8 queries of the first and the last head.
func (b *bench) compareAttention(z size, q, k, v data, out engine.Tensor) float64 {
	h, tq, tk, dim := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
	heads, queries := samples(2, h), samples(8, tq)
	if z.whole {
		heads, queries = samples(h, h), samples(tq, tq)
	}
	if b.err != nil {
		return math.NaN()
	}
	var d distance
	read := b.reader("attention", out, z.whole)
	for _, head := range heads {
		a := ref.Attention{Heads: 1, KVHeads: 1, Tq: len(queries), Tk: tk, Dim: dim, Scale: 1 / sqrt(float64(dim)),
			K: k.part(int64(head*tk*dim), tk*dim), V: v.part(int64(head*tk*dim), tk*dim)}
		var got []float64
		for _, i := range queries {
			a.Q = append(a.Q, q.part(int64((head*tq+i)*dim), dim)...)
			got = append(got, read(int64((i*h+head)*dim), dim)...)
		}
		if b.err != nil {
			return math.NaN()
		}
		d.add(got, a.Run())
	}
	return d.relative()
}

// convTrial is a causal 3×3×3 convolution with fp16 operands, as the autoencoder's, by matrices where the tier has them:
// frames × height × width, and as many channels out as in.
func convTrial(c engine.Caps) trial {
	sizes := []size{{dims: [4]int{3, 13, 11, 64}, whole: true}, {dims: [4]int{3, 32, 32, 128}}, {dims: [4]int{4, 64, 64, 256}}, {dims: [4]int{4, 128, 192, 256}}}
	for n := range sizes {
		z := &sizes[n]
		places, ch := z.dims[0]*z.dims[1]*z.dims[2], z.dims[3]
		z.text = fmt.Sprintf("%d×%d×%d, %d channels", z.dims[0], z.dims[1], z.dims[2], ch)
		z.work = 2 * float64(places) * float64(ch) * float64(27*ch) / 1e12
		z.bytes = int64(6*places*ch + 2*27*ch*ch)
	}
	return trial{"convolution", "TFLOP/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		t, h, w, ch := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
		x, weights := b.noise(engine.F16, 1, t, h, w, ch), b.noise(engine.F16, 1, ch, 3, 3, 3, ch)
		y := b.tensor(engine.F32, t, h, w, ch)
		return func(s *engine.Stream) {
				ops.Conv3D(s, ops.Conv3DArgs{X: x.Tensor, W: weights.Tensor, Y: y, Half: half(c)})
			}, func() verdict {
				return verdict{b.compareConv(z, x, weights, y), convLimit(c, ch)}
			}
	}}
}

// convLimit is productLimit; matrices that multiply other things leave convolutions of some channels to the fp16 kernel.
func convLimit(c engine.Caps, channels int) float64 {
	if half(c) && !ops.ConvByMatrices(c, channels) {
		c.Tier = engine.TierFP16
	}
	return productLimit(c, 27*channels)
}

// compareConv compares all places, or some, each computed from the 3×3×3 places around it.
func (b *bench) compareConv(z size, x, weights data, y engine.Tensor) float64 {
	t, h, w, ch := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
	if b.err != nil {
		return math.NaN()
	}
	var d distance
	kernel := weights.part(0, 27*ch*ch)
	if z.whole {
		want := ref.Conv3D{Size: [3]int{t, h, w}, In: ch, Out: ch, Kernel: [3]int{3, 3, 3}}.Apply(x.part(0, t*h*w*ch), kernel, nil)
		got := b.read("convolution", y, 0, len(want))
		if b.err == nil {
			d.add(got, want)
		}
		return d.relative()
	}
	for _, p := range [][3]int{{0, 0, 0}, {t - 1, h / 2, w / 2}, {t / 2, h - 1, w - 1}} {
		want := convAt(z, x, kernel, p)
		got := b.read("convolution", y, int64(((p[0]*h+p[1])*w+p[2])*ch), ch)
		if b.err == nil {
			d.add(got, want)
		}
	}
	return d.relative()
}

// convAt computes one place: a frame of one pixel whose 27 inputs were gathered, edges replicated.
func convAt(z size, x data, kernel []float64, p [3]int) []float64 {
	h, w, ch := z.dims[1], z.dims[2], z.dims[3]
	var patch []float64
	for dt := -2; dt <= 0; dt++ {
		for dh := -1; dh <= 1; dh++ {
			for dw := -1; dw <= 1; dw++ {
				t, i, j := max(p[0]+dt, 0), min(max(p[1]+dh, 0), h-1), min(max(p[2]+dw, 0), w-1)
				patch = append(patch, x.part(int64(((t*h+i)*w+j)*ch), ch)...)
			}
		}
	}
	return ref.Matmul(patch, kernel, nil, 1, ch, 27*ch)
}

// normLimit bounds the relative error of a normalised row: mean and variance are sums of at most 128 numbers a lane,
// which err by a few units of 2⁻²⁴, and so do the square root and the products after it.
const normLimit = 4e-6

// layerNormTrial is a layer norm of rows × channels with scale and shift, f32 to f32.
func layerNormTrial() trial {
	sizes := []size{{dims: [4]int{70, 1000}, whole: true}, {dims: [4]int{1024, 4096}}, {dims: [4]int{8192, 4096}}, {dims: [4]int{32768, 4096}}}
	for n := range sizes {
		z := &sizes[n]
		z.text = fmt.Sprintf("%d×%d", z.dims[0], z.dims[1])
		z.bytes = int64(8 * z.dims[0] * z.dims[1])
		z.work = float64(z.bytes) / 1e9
	}
	return trial{"layer norm", "GB/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		rows, dim := z.dims[0], z.dims[1]
		x, scale, shift := b.noise(engine.F32, 3, rows, dim), b.noise(engine.F32, 1, dim), b.noise(engine.F32, 1, dim)
		y := b.tensor(engine.F32, rows, dim)
		return func(s *engine.Stream) {
				ops.LayerNorm(s, ops.LayerNormArgs{X: x.Tensor, Y: y, Scale: scale.Tensor, Shift: shift.Tensor, Eps: 1e-5})
			}, func() verdict {
				var d distance
				r := ref.RowNorm{Dim: dim, Eps: 1e-5, Centre: true, Scale: scale.block, Shift: shift.block}
				read := b.reader("layer norm", y, z.whole)
				for _, row := range samples(70, rows) {
					got := read(int64(row*dim), dim)
					if b.err == nil {
						d.add(got, r.Apply(x.part(int64(row*dim), dim)))
					}
				}
				return verdict{d.relative(), normLimit}
			}
	}}
}

// groupNormTrial is the autoencoder's group norm of places × channels in 32 groups with SiLU, f32 to f32. x is read twice.
func groupNormTrial() trial {
	const groups = 32
	sizes := []size{{dims: [4]int{700, 128}, whole: true}, {dims: [4]int{16384, 256}}, {dims: [4]int{131072, 256}}, {dims: [4]int{524288, 256}}}
	for n := range sizes {
		z := &sizes[n]
		z.text = fmt.Sprintf("%d×%d, %d groups", z.dims[0], z.dims[1], groups)
		z.bytes = int64(8 * z.dims[0] * z.dims[1])
		z.work = float64(12*z.dims[0]*z.dims[1]) / 1e9
	}
	return trial{"group norm", "GB/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		rows, channels := z.dims[0], z.dims[1]
		x, weight, bias := b.noise(engine.F32, 3, rows, channels), b.noise(engine.F32, 1, channels), b.noise(engine.F32, 1, channels)
		y := b.tensor(engine.F32, rows, channels)
		return func(s *engine.Stream) {
				ops.GroupNorm(s, ops.GroupNormArgs{X: x.Tensor, Y: y, Weight: weight.Tensor, Bias: bias.Tensor, Groups: groups, Eps: 1e-6, SiLU: true})
			}, func() verdict {
				return verdict{b.compareGroupNorm(z, groups, x, weight, bias, y), normLimit}
			}
	}}
}

// compareGroupNorm compares 40 rows of the first and the last group.
func (b *bench) compareGroupNorm(z size, groups int, x, weight, bias data, y engine.Tensor) float64 {
	rows, channels := z.dims[0], z.dims[1]
	width := channels / groups
	if b.err != nil {
		return math.NaN()
	}
	var d distance
	read := b.reader("group norm", y, z.whole)
	for _, g := range samples(2, groups) {
		var members []float64
		for row := range rows {
			members = append(members, x.part(int64(row*channels+g*width), width)...)
		}
		mean, squares := ref.Moments(members)
		deviation := sqrt(squares/float64(len(members)) + 1e-6)
		for _, row := range samples(40, rows) {
			got := read(int64(row*channels+g*width), width)
			if b.err != nil {
				return math.NaN()
			}
			want := make([]float64, width)
			for k := range want {
				c := int64(g*width + k)
				want[k] = ref.SiLU((members[row*width+k]-mean)/deviation*weight.at(c) + bias.at(c))
			}
			d.add(got, want)
		}
	}
	return d.relative()
}
