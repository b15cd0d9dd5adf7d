package media

import (
	"math"
	"runtime"
	"sync"
)

// taps is what one output sample takes from its row or column.
type taps struct {
	first   int
	weights []float32
}

// makeTaps computes the triangle filter of every output sample, in fp32 and in the reference's order of operations
// (pytorch/pytorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp).
func makeTaps(in, out int) []taps {
	scale := float32(in) / float32(out)
	support, inverse := max(scale, 1), float32(1)
	if scale >= 1 {
		inverse = 1 / scale
	}
	all := make([]taps, out)
	for i := range all {
		// Conversions keep the compiler from fusing the product with what follows.
		centre := float32(scale * (float32(i) + 0.5))
		first := max(int(float32(centre-support)+0.5), 0)
		end := min(int(float32(centre+support)+0.5), in)
		w := make([]float32, end-first)
		var sum float32
		for j := range w {
			x := float32(float32(float32(first+j)-centre+0.5) * inverse)
			w[j] = max(0, 1-float32(math.Abs(float64(x))))
			sum += w[j]
		}
		for j := range w {
			w[j] /= sum
		}
		all[i] = taps{first, w}
	}
	return all
}

// ResizeBilinearAntialias resizes with torchvision's antialiased bilinear filter on 8-bit pictures, bit for bit
// (pytorch/vision, transforms/_functional_tensor.py, over pytorch/pytorch, UpSampleKernel.cpp): fp32, columns
// before rows, the first product rounded and each further one fused into the sum, the result rounded half to even.
// The result may share nothing with im, also when the size is already right.
func ResizeBilinearAntialias(im *Image, height, width int) *Image {
	across, down := makeTaps(im.Width, width), makeTaps(im.Height, height)
	wide := make([]float32, 3*im.Height*width)
	inParallel(im.Height, func(y int) {
		src, dst := im.Pix[3*im.Width*y:], wide[3*width*y:]
		for x, t := range across {
			filterRow(dst[3*x:3*x+3], src[3*t.first:], t.weights)
		}
	})
	out := NewImage(height, width)
	inParallel(height, func(y int) {
		t := down[y]
		acc := make([]float32, 3*width)
		for j, w := range t.weights {
			row := wide[3*width*(t.first+j):][:3*width]
			if j == 0 {
				for i, v := range row {
					acc[i] = float32(w * v)
				}
				continue
			}
			for i, v := range row {
				acc[i] = fma32(w, v, acc[i])
			}
		}
		dst := out.Pix[3*width*y:]
		for i, v := range acc {
			dst[i] = uint8(min(max(math.RoundToEven(float64(v)), 0), 255))
		}
	})
	return out
}

// filterRow sums the three channels of neighbouring pixels.
func filterRow(dst []float32, src []uint8, weights []float32) {
	r, g, b := float32(weights[0]*float32(src[0])), float32(weights[0]*float32(src[1])), float32(weights[0]*float32(src[2]))
	for j := 1; j < len(weights); j++ {
		w, p := weights[j], src[3*j:3*j+3]
		r, g, b = fma32(w, float32(p[0]), r), fma32(w, float32(p[1]), g), fma32(w, float32(p[2]), b)
	}
	dst[0], dst[1], dst[2] = r, g, b
}

// fma32 returns a·b + c rounded once to fp32. The product of two fp32 numbers is exact in fp64, but the sum may not
// be, and rounding it to fp64 and then to fp32 can land on the wrong side of a tie. So the fp64 sum is rounded to
// odd: when something was lost, an even last bit is moved towards it, which keeps the second rounding right
// (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
func fma32(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	t := s - p
	lost := (p - (s - t)) + (q - t) // exact (Knuth's two-sum)
	if lost != 0 && !math.IsInf(s, 0) && !math.IsNaN(lost) {
		if bits := math.Float64bits(s); bits&1 == 0 {
			if (lost > 0) == (s > 0) {
				bits++
			} else {
				bits--
			}
			s = math.Float64frombits(bits)
		}
	}
	return float32(s)
}

// inParallel runs body for 0…n−1, cut into one piece a core.
func inParallel(n int, body func(i int)) {
	pieces := min(n, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for p := range pieces {
		wg.Go(func() {
			for i := n * p / pieces; i < n*(p+1)/pieces; i++ {
				body(i)
			}
		})
	}
	wg.Wait()
}
