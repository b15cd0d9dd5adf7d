package media

import "math"

// intTaps is what one output sample takes from its row or column, in units of 2^-precision of the axis.
type intTaps struct {
	first   int
	weights []int32
}

// cubic is the convolution kernel with a = −0.5 that Pillow and torchvision use when they smooth.
func cubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64((a+2)*x)-(a+3))*x)*x + 1
	case x < 2:
		return float64(float64(float64(float64(a*x)-5*a)*x)+8*a)*x - 4*a
	}
	return 0
}

// makeIntTaps computes the cubic filter of every output sample of an axis in fp64 and rounds it to integers of 16 bits,
// with as many bits behind the point as the largest weight leaves (pytorch/pytorch,
// aten/src/ATen/native/cpu/UpSampleKernel.cpp, the path for 8-bit pictures).
func makeIntTaps(in, out int) (all []intTaps, precision int) {
	scale := float64(in) / float64(out)
	support, inverse := 2.0, 1.0
	if scale >= 1 {
		support, inverse = 2*scale, 1/scale
	}
	real, largest := make([][]float64, out), 0.0
	all = make([]intTaps, out)
	for i := range all {
		centre := float64(scale * (float64(i) + 0.5))
		first := max(int(centre-support+0.5), 0)
		w := make([]float64, min(int(centre+support+0.5), in)-first)
		var sum float64
		for j := range w {
			w[j] = cubic(float64((float64(j+first) - centre + 0.5) * inverse))
			sum += w[j]
		}
		for j := range w {
			w[j] /= sum
			largest = max(largest, w[j])
		}
		all[i].first, real[i] = first, w
	}
	for precision < 22 && int(0.5+largest*float64(int(1)<<(precision+1))) < 1<<15 {
		precision++
	}
	for i, w := range real {
		all[i].weights = make([]int32, len(w))
		for j, v := range w {
			all[i].weights[j] = int32(math.Round(v * float64(int(1)<<precision))) // halves away from zero
		}
	}
	return all, precision
}

// ResizeBicubicAntialias resizes as torchvision does 8-bit pictures with its smoothed bicubic filter
// (pytorch/vision, transforms/_functional_tensor.py, over pytorch/pytorch, UpSampleKernel.cpp): columns, then rows, in
// integers, each pass rounded half up and clipped to 8 bits. The result shares nothing with im.
func ResizeBicubicAntialias(im *Image, height, width int) *Image {
	across, bitsAcross := makeIntTaps(im.Width, width)
	down, bitsDown := makeIntTaps(im.Height, height)
	wide, out := NewImage(im.Height, width), NewImage(height, width)
	inParallel(im.Height, func(y int) {
		src, dst := im.Pix[3*im.Width*y:], wide.Pix[3*width*y:]
		for x, t := range across {
			for c := range 3 {
				sum := int32(1) << bitsAcross >> 1
				for j, w := range t.weights {
					sum += w * int32(src[3*(t.first+j)+c])
				}
				dst[3*x+c] = clip8(sum >> bitsAcross)
			}
		}
	})
	inParallel(height, func(y int) {
		t := down[y]
		acc := make([]int32, 3*width)
		for i := range acc {
			acc[i] = int32(1) << bitsDown >> 1
		}
		for j, w := range t.weights {
			for i, v := range wide.Pix[3*width*(t.first+j):][:3*width] {
				acc[i] += w * int32(v)
			}
		}
		for i, v := range acc {
			out.Pix[3*width*y+i] = clip8(v >> bitsDown)
		}
	})
	return out
}

func clip8(v int32) uint8 { return uint8(min(max(v, 0), 255)) }
