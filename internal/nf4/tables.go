package nf4

import (
	"math"
	"slices"
)

// Code returns the 16 code points (bitsandbytes, functional.py, get_4bit_type).
func Code() [16]float32 {
	return [16]float32{
		-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
		-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
		0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
	}
}

// zeroCode is the number of the code point 0.
const zeroCode = 7

// bounds returns the 15 numbers between the code points: what is above bounds[i] is at least code i+1, what is on it is
// code i.
func bounds() [15]float32 {
	return [15]float32{
		-0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
		-0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
		0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
	}
}

// DynamicMap returns the 256 points, ascending, that scales are quantized to (bitsandbytes, functional.py,
// create_dynamic_map, signed): for each of seven powers of ten twice as many points as for the power below, evenly spaced in
// its upper nine tenths, of either sign; and 0 and 1.
func DynamicMap() [256]float32 {
	points := []float32{0, 1}
	for e := range 7 {
		power := float32(math.Pow10(e - 6))
		n := 1 << e
		edge := edges(n)
		for i := range n {
			middle := float32(edge[i]+edge[i+1]) / 2
			points = append(points, float32(power*middle), -float32(power*middle))
		}
	}
	slices.Sort(points)
	return [256]float32(points)
}

// edges returns n+1 numbers evenly spaced in [0.1, 1], computed in fp32 from both ends as torch.linspace does: product and
// sum are rounded once, together.
func edges(n int) []float32 {
	const first, last = float32(0.1), float32(1)
	step := float32(last-first) / float32(n)
	out := make([]float32, n+1)
	for i := range out {
		if i < (n+1)/2 {
			out[i] = float32(float64(first) + float64(step)*float64(i))
		} else {
			out[i] = float32(float64(last) - float64(step)*float64(n-i))
		}
	}
	return out
}
