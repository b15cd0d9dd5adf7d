package doctor

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// doubled is the upsampling of most of the autoencoder's decoder; cube is the kernel behind it.
var (
	doubled = [3]int{2, 2, 2}
	cube    = [3]int{3, 3, 3}
)

// foldedTaps are left of a cube's 27 when doubling is folded into the weights.
const foldedTaps = 8

// upsamplingTrial is the convolution that the autoencoder's decoder upsamples by, where the device's matrices multiply it:
// with the doubling of frames, rows and columns folded into the weights (ops.FoldConvWeights). Sizes are the source's, frames ×
// height × width, and as many channels out as in; what is counted is what is multiplied.
func upsamplingTrial(c engine.Caps) trial {
	sizes := []size{{dims: [4]int{2, 5, 7, 64}, whole: true}, {dims: [4]int{2, 16, 16, 128}}, {dims: [4]int{2, 64, 64, 256}}, {dims: [4]int{3, 64, 128, 256}}}
	for n := range sizes {
		z := &sizes[n]
		ch := z.dims[3]
		places := (2*z.dims[0] - 1) * 4 * z.dims[1] * z.dims[2]
		z.text = fmt.Sprintf("%d×%d×%d doubled, %d channels", z.dims[0], z.dims[1], z.dims[2], ch)
		z.work = 2 * float64(places) * float64(ch) * float64(foldedTaps*ch) / 1e12
		z.bytes = int64(2*z.dims[0]*z.dims[1]*z.dims[2]*ch + 4*places*ch + 2*8*foldedTaps*ch*ch)
	}
	return trial{"upsampling", "TFLOP/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		t, h, w, ch := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
		x := b.noise(engine.F16, 1, t, h, w, ch)
		folded, kernel := b.foldedWeights(ch)
		y := b.tensor(engine.F32, 2*t-1, 2*h, 2*w, ch)
		return func(s *engine.Stream) {
				if b.err == nil {
					ops.Conv3D(s, ops.Conv3DArgs{X: x.Tensor, W: folded, Y: y, Upsample: doubled, Half: true})
				}
			}, func() verdict {
				return verdict{b.compareUpsampling(z, x, kernel, y), productLimit(c, foldedTaps*ch)}
			}
	}}
}

// foldedWeights makes weights for so many channels: folded on the device, and as they were for the reference, [O, 3, 3, 3, C].
// They are multiples of 1/16 below 4, so that sums of eight of them are fp16 numbers and folding rounds nothing.
func (b *bench) foldedWeights(ch int) (engine.Tensor, []float64) {
	folded := b.tensor(engine.F16, ops.FoldedShape(ch, ch, cube, doubled)...)
	if b.err != nil || b.isRehearsal() {
		return folded, nil
	}
	torch := make([]float32, ch*ch*27)
	kernel := make([]float64, len(torch))
	for i := range torch {
		v := math.Round(16*math.Max(-3.9, math.Min(3.9, b.rng.NormFloat64()))) / 16
		torch[i] = float32(v)
		out, in, tap := i/(ch*27), i/27%ch, i%27
		kernel[(out*27+tap)*ch+in] = v
	}
	raw := make([]byte, 2*folded.Elems())
	ops.FoldConvWeights(raw, torch, ch, ch, cube, doubled)
	b.err = b.dev.Upload(b.ctx, folded, raw)
	return folded, kernel
}

// compareUpsampling compares all places, or some, each computed from the 3×3×3 places around it.
func (b *bench) compareUpsampling(z size, x data, kernel []float64, y engine.Tensor) float64 {
	t, h, w, ch := z.dims[0], z.dims[1], z.dims[2], z.dims[3]
	if b.err != nil {
		return math.NaN()
	}
	var d distance
	if z.whole {
		want := ref.Conv3D{Size: [3]int{t, h, w}, In: ch, Out: ch, Kernel: cube, Upsample: doubled}.Apply(x.part(0, t*h*w*ch), kernel, nil)
		got := b.read("upsampling", y, 0, len(want))
		if b.err == nil {
			d.add(got, want)
		}
		return d.relative()
	}
	for _, p := range [][3]int{{0, 0, 0}, {2*t - 2, h, w + 1}, {t - 1, 2*h - 1, 2*w - 1}} {
		var patch []float64
		for _, at := range around(p, h, w) {
			patch = append(patch, x.part(int64(((at[0]*h+at[1])*w+at[2])*ch), ch)...)
		}
		got := b.read("upsampling", y, int64(((p[0]*2*h+p[1])*2*w+p[2])*ch), ch)
		if b.err == nil {
			d.add(got, ref.Matmul(patch, kernel, nil, 1, ch, 27*ch))
		}
	}
	return d.relative()
}

// around lists the source places that a place of the doubled frames is computed from. The first frame is not doubled.
func around(p [3]int, h, w int) (out [][3]int) {
	for dt := -2; dt <= 0; dt++ {
		for dh := -1; dh <= 1; dh++ {
			for dw := -1; dw <= 1; dw++ {
				t, i, j := max(p[0]+dt, 0), min(max(p[1]+dh, 0), 2*h-1), min(max(p[2]+dw, 0), 2*w-1)
				out = append(out, [3]int{(t + 1) / 2, i / 2, j / 2})
			}
		}
	}
	return out
}
