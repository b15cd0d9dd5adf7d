package shapes

import (
	"math"
	"math/cmplx"
	"slices"

	"github.com/vkandinsky/vkandinsky/internal/media"
)

// Found is what was measured of the shape in a picture.
type Found struct {
	X, Y       float64 // centroid
	Area       float64 // in pixels, soft edges by their share
	Color      RGB     // mean of the pixels that are wholly inside
	Background RGB

	weights []float64 // share of the shape in every pixel
	width   int
}

// Limits of what Find takes for a shape. A decoder's picture is not as plain as a drawn one: below the first share of
// the contrast a pixel is background.
const (
	leastShare    = 0.25
	leastContrast = 40 // distance of the colours, in levels
	leastArea     = 4  // pixels
)

// Find measures the one shape in a picture; false when there is none: nothing stands out from the background, which is
// the most usual colour along the border.
func Find(im *media.Image) (Found, bool) {
	f := Found{Background: border(im), width: im.Width}
	places := im.Height * im.Width
	contrast := make([]float64, places)
	most := 0.0
	for p := range places {
		contrast[p] = pixel(im, p).distance(f.Background)
		most = max(most, contrast[p])
	}
	if most < leastContrast {
		return f, false
	}
	// The farthest pixels may be outliers. The colour is that of the pixels in the largest connected part that are far
	// from the background, and every pixel's share follows from it.
	part := largest(contrast, most/2, im.Width)
	f.Color = mean(im, part, func(p int) bool { return contrast[p] > 0.8*most })
	direction := f.Color.minus(f.Background)
	f.weights = make([]float64, places)
	near := grow(part, im.Width, 2)
	for p := range places {
		if share := pixel(im, p).minus(f.Background).dot(direction) / direction.dot(direction); near[p] && share > leastShare {
			f.weights[p] = min(1, share)
		}
	}
	f.Color = mean(im, part, func(p int) bool { return f.weights[p] > 0.9 })
	for p, w := range f.weights {
		f.Area += w
		f.X += w * (float64(p%im.Width) + 0.5)
		f.Y += w * (float64(p/im.Width) + 0.5)
	}
	f.X, f.Y = f.X/f.Area, f.Y/f.Area
	return f, f.Area >= leastArea
}

// Turn returns the orientation of a shape of n-fold symmetry: the argument of its n-th complex moment divided by n,
// between -π/n and π/n, growing clockwise. 0 for n = 0.
func (f Found) Turn(n int) float64 {
	if n == 0 {
		return 0
	}
	var sum complex128
	for p, w := range f.weights {
		if w > 0 {
			z := complex(float64(p%f.width)+0.5-f.X, float64(p/f.width)+0.5-f.Y)
			sum += complex(w, 0) * cmplx.Pow(z, complex(float64(n), 0))
		}
	}
	return cmplx.Phase(sum) / float64(n)
}

func pixel(im *media.Image, p int) RGB {
	return RGB{float64(im.Pix[3*p]), float64(im.Pix[3*p+1]), float64(im.Pix[3*p+2])}
}

// border is the median colour of the outermost pixels, channel by channel.
func border(im *media.Image) (c RGB) {
	var channels [3][]float64
	for p := range im.Height * im.Width {
		if row, column := p/im.Width, p%im.Width; row == 0 || column == 0 || row == im.Height-1 || column == im.Width-1 {
			for k, v := range pixel(im, p) {
				channels[k] = append(channels[k], v)
			}
		}
	}
	for k, values := range channels {
		slices.Sort(values)
		c[k] = values[len(values)/2]
	}
	return c
}

// mean is the mean colour of the pixels of a part that are chosen, or of the whole part when none is.
func mean(im *media.Image, part []bool, chosen func(p int) bool) RGB {
	var sum, all RGB
	var n, total float64
	for p, in := range part {
		if !in {
			continue
		}
		c := pixel(im, p)
		for k := range c {
			all[k] += c[k]
		}
		total++
		if chosen(p) {
			for k := range c {
				sum[k] += c[k]
			}
			n++
		}
	}
	if n == 0 {
		sum, n = all, max(total, 1)
	}
	return RGB{sum[0] / n, sum[1] / n, sum[2] / n}
}

// largest marks the largest connected part of the pixels above a threshold.
func largest(values []float64, threshold float64, width int) []bool {
	seen := make([]bool, len(values))
	var best []int
	for p := range values {
		if seen[p] || values[p] <= threshold {
			continue
		}
		seen[p] = true
		part := []int{p}
		for k := 0; k < len(part); k++ {
			for _, q := range neighbours(part[k], width, len(values)) {
				if !seen[q] && values[q] > threshold {
					seen[q] = true
					part = append(part, q)
				}
			}
		}
		if len(part) > len(best) {
			best = part
		}
	}
	marked := make([]bool, len(values))
	for _, p := range best {
		marked[p] = true
	}
	return marked
}

// grow adds the neighbours of a part, so many times.
func grow(part []bool, width, times int) []bool {
	for range times {
		next := slices.Clone(part)
		for p, in := range part {
			if in {
				for _, q := range neighbours(p, width, len(part)) {
					next[q] = true
				}
			}
		}
		part = next
	}
	return part
}

// neighbours are the pixels above, below, left and right.
func neighbours(p, width, places int) []int {
	out := make([]int, 0, 4)
	if p%width > 0 {
		out = append(out, p-1)
	}
	if p%width < width-1 {
		out = append(out, p+1)
	}
	if p >= width {
		out = append(out, p-width)
	}
	if p+width < places {
		out = append(out, p+width)
	}
	return out
}

// radius is that of a circle of the area.
func (f Found) radius() float64 { return math.Sqrt(f.Area / math.Pi) }
