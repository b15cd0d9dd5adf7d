package ref

import "math"

// GroupNorm normalises channels-last x [rows, channels] over all rows and the channels of each group (biased variance),
// then applies weight and bias [channels] and, if asked, SiLU.
func GroupNorm(x, weight, bias []float64, channels, groups int, eps float64, silu bool) []float64 {
	mustHold("GroupNorm x", x, len(x)/channels*channels)
	mustHold("GroupNorm weight", weight, channels)
	mustHold("GroupNorm bias", bias, channels)
	y := make([]float64, len(x))
	size := channels / groups
	for g := range groups {
		var members []float64
		for at := g * size; at < len(x); at += channels {
			members = append(members, x[at:at+size]...)
		}
		mean, squares := Moments(members)
		deviation := math.Sqrt(squares/float64(len(members)) + eps)
		for at := g * size; at < len(x); at += channels {
			for i := range size {
				v := (x[at+i]-mean)/deviation*weight[g*size+i] + bias[g*size+i]
				if silu {
					v = SiLU(v)
				}
				y[at+i] = v
			}
		}
	}
	return y
}

// Moments returns the mean of x and the sum of squared differences from it.
func Moments(x []float64) (mean, squares float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		squares += (v - mean) * (v - mean)
	}
	return mean, squares
}
