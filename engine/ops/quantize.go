package ops

import (
	"fmt"
	"math"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Linear layers in 8-bit integers: x·wᵀ = (x·H)·(w·H)ᵀ for an orthogonal H, and x·H and w·H are rounded to signed bytes, with
// a scale per row of each. H spreads what is large in a few channels over a block of them, without which the other channels
// of such a row would round to nothing: QuaRot (Ashkboos et al., arXiv 2404.00456). quantize.comp says what H is.

// quantizeStages returns how many stages of quantize.comp turn rows of so many channels: blocks are as large as divides
// them, at most 8³. 0: rows of this length cannot be rounded.
func quantizeStages(k int) int {
	switch {
	case k%512 == 0:
		return 3
	case k%64 == 0 && k > 0:
		return 2
	}
	return 0
}

// CanQuantize tells whether linear layers of so many input channels can be computed in 8-bit integers.
func CanQuantize(k int) bool { return quantizeStages(k) > 0 && k <= 1<<16 }

// QuantizeArgs are the operands of Quantize.
type QuantizeArgs struct {
	X     engine.Tensor // [..., K], f32, bf16 or f16; CanQuantize(K)
	Y     engine.Tensor // I8, as many elements
	Scale engine.Tensor // F32, one per row
}

// Quantize records the rounding of rows, turned by H, to signed bytes, for Matmul with weights of QuantizeWeights. A row
// that holds what is not finite gets a scale that is no number. It panics on shapes that do not fit together.
func Quantize(s *engine.Stream, a QuantizeArgs) {
	k := a.X.Dim(-1)
	rows := int(a.X.Elems() / int64(k))
	if !floats(a.X) || !CanQuantize(k) || a.Y.DType != engine.I8 || a.Y.Elems() != a.X.Elems() || a.Scale.DType != engine.F32 || a.Scale.Elems() != int64(rows) ||
		!vectors(a.X) || !vectors(a.Y) {
		panic(fmt.Sprintf("ops.Quantize: x %v, y %v, scale %v", a.X, a.Y, a.Scale))
	}
	caps := s.Device().Caps()
	stages := quantizeStages(k)
	spec := shaders.QuantizeSpec{XType: uint32(a.X.DType), Stages: uint32(stages)}.Values()
	cost := 2 * float64(k*(3*stages+3))
	piece := min(rows, int(min(caps.MaxDispatchCost/cost, 1<<30)), fits(caps, int64(k)*a.X.DType.Size(), rows))
	piece = evenly(rows, max(piece, 1), gemmCut)
	x, y, scale := a.X.Reshape(rows, k), a.Y.Reshape(rows, k), a.Scale.Reshape(rows)
	for at := 0; at < rows; at += piece {
		n := min(piece, rows-at)
		s.Dispatch(engine.Call{
			Shader: shaders.Quantize, Spec: spec, Push: shaders.QuantizePush{Dim: uint32(k), Rows: uint32(n)}.Append(nil),
			Bind:   []engine.Tensor{x.Rows(at, at+n), y.Rows(at, at+n), scale.View(int64(at), n)},
			Groups: folded(caps, int64(n)), Cost: cost * float64(n), Label: fmt.Sprintf("quantize %dx%d", n, k),
		})
	}
}

// QuantizeWeights turns weights [len(scales), K] by H and rounds each row to signed bytes in dst, largest magnitude 127. It
// returns the sum of the squares of what rounding changed, and that of the weights.
func QuantizeWeights(dst []byte, scales, weights []float32) (changed, all float64) {
	k := len(weights) / max(len(scales), 1)
	if len(dst) != len(weights) || k*len(scales) != len(weights) || !CanQuantize(k) {
		panic(fmt.Sprintf("ops.QuantizeWeights: %d weights and %d scales to %d bytes", len(weights), len(scales), len(dst)))
	}
	const together = 64 // rows
	pieces := ceilDiv(len(scales), together)
	sums := make([][2]float64, pieces)
	var work sync.WaitGroup
	for piece := range pieces {
		work.Go(func() {
			row := make([]float32, k)
			for n := piece * together; n < min(piece*together+together, len(scales)); n++ {
				turnRow(row, weights[n*k:][:k])
				var c, a float64
				scales[n], c, a = roundRow(dst[n*k:][:k], row)
				sums[piece][0] += c
				sums[piece][1] += a
			}
		})
	}
	work.Wait()
	for _, s := range sums {
		changed += s[0]
		all += s[1]
	}
	return changed, all
}

// turnRow writes row·H, in the order in which the shader's last stage leaves it.
func turnRow(out, row []float32) {
	stages := quantizeStages(len(row))
	block := 1 << (3 * stages)
	root := float32(1 / math.Sqrt(float64(block)))
	var scratch [512]float32
	v := scratch[:block]
	for at := 0; at < len(row); at += block {
		copy(v, row[at:at+block])
		for digit := 1; digit < block/8; digit *= 8 { // all stages but the last
			for from := 0; from < block; from += 8 * digit {
				for i := from; i < from+digit; i++ {
					strided8(v[i:], digit)
				}
			}
		}
		step := block / 8
		for t := range step {
			strided8(v[t:], step)
			to := out[at+8*t : at+8*t+8]
			for j := range to {
				to[j] = v[j*step+t] * root
			}
		}
	}
}

// strided8 applies the Hadamard matrix of eight to numbers that lie step apart.
func strided8(v []float32, step int) {
	_ = v[7*step]
	a, b, c, d := v[0], v[step], v[2*step], v[3*step]
	e, f, g, h := v[4*step], v[5*step], v[6*step], v[7*step]
	a, b, c, d, e, f, g, h = a+b, a-b, c+d, c-d, e+f, e-f, g+h, g-h
	a, b, c, d, e, f, g, h = a+c, b+d, a-c, b-d, e+g, f+h, e-g, f-h
	v[0], v[step], v[2*step], v[3*step] = a+e, b+f, c+g, d+h
	v[4*step], v[5*step], v[6*step], v[7*step] = a-e, b-f, c-g, d-h
}

// nearest, added to a number of less than 2²² and taken away again, leaves it rounded to the nearest integer, ties to even: above
// 2²³ fp32 has no fractions.
const nearest = 3 << 22

// roundRow rounds a row to bytes and returns the scale, the sum of squared changes and that of squares.
func roundRow(dst []byte, row []float32) (scale float32, changed, all float64) {
	var bits uint32 // of magnitudes, which have their order
	for _, v := range row {
		bits = max(bits, math.Float32bits(v)&^(1<<31))
	}
	top := math.Float32frombits(bits)
	if top == 0 {
		clear(dst)
		return 0, 0, 0
	}
	scale = top / 127
	inv := 127 / top
	const together = 512 // squares that are added up in fp32
	for from := 0; from < len(row); from += together {
		part := row[from:min(from+together, len(row))]
		bytes := dst[from:][:len(part)]
		var c, a float32
		for i, v := range part {
			exact := v * inv
			q := exact + nearest
			q -= nearest
			bytes[i] = byte(int8(q))
			c += (q - exact) * (q - exact)
			a += exact * exact
		}
		changed, all = changed+float64(c), all+float64(a)
	}
	square := float64(scale) * float64(scale)
	return scale, changed * square, all * square
}
