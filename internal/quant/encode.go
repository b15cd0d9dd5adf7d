package quant

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Encode codes runs of 32 finite values, in formats of that length; len(src) must be a multiple of 32 and dst hold its records. A record whose scale
// passes fp16's range (values beyond 5e5 in Q4_0, 8e6 in Q8_0) decodes to infinities or NaN.
func (b Block) Encode(dst []byte, src []float32) {
	size := b.mustFit("Encode", len(src), len(dst))
	if b.Len() != BlockLen {
		panic(fmt.Sprintf("quant.Encode: block format %d is not written", b))
	}
	for len(src) > 0 {
		in, out := (*[BlockLen]float32)(src), dst[:size]
		switch b {
		case Q4_0:
			d := putHalf(out, signedMax(in)/-8)
			encodeNibbles(out[2:], nil, in, d, -8*d, 15)
		case Q4_1:
			low, high := bounds(in)
			d, m := putHalf(out, (high-low)/15), putHalf(out[2:], low)
			encodeNibbles(out[4:], nil, in, d, m, 15)
		case Q5_0:
			d := putHalf(out, signedMax(in)/-16)
			encodeNibbles(out[6:], out[2:6], in, d, -16*d, 31)
		case Q5_1:
			low, high := bounds(in)
			d, m := putHalf(out, (high-low)/31), putHalf(out[2:], low)
			encodeNibbles(out[8:], out[4:8], in, d, m, 31)
		case Q8_0:
			d := putHalf(out, float32(math.Abs(float64(signedMax(in))))/127)
			encodeBytes(out[2:], in, d)
		}
		src, dst = src[BlockLen:], dst[size:]
	}
}

// putHalf stores a number as fp16 and returns what was stored.
func putHalf(dst []byte, f float32) float32 {
	h := numeric.F16FromF32(f)
	binary.LittleEndian.PutUint16(dst, h)
	return numeric.F32FromF16(h)
}

// signedMax is the element of the largest magnitude. Formats without a minimum reach one further on one side of zero (−8 to
// 7); the scale is given the sign that puts this element there.
func signedMax(in *[BlockLen]float32) (best float32) {
	var largest float32
	for _, f := range in {
		if a := max(f, -f); a > largest {
			largest, best = a, f
		}
	}
	return best
}

func bounds(in *[BlockLen]float32) (low, high float32) {
	low, high = in[0], in[0]
	for _, f := range in[1:] {
		low, high = min(low, f), max(high, f)
	}
	return low, high
}

// encodeNibbles stores the codes of (f−m)/d, at most limit, the fifth bits apart where there is room for them.
func encodeNibbles(packed, fifth []byte, in *[BlockLen]float32, d, m float32, limit int32) {
	inverse := reciprocal(d)
	var bits uint32
	for j := range halfLen {
		low, high := nearest((in[j]-m)*inverse, 0, limit), nearest((in[j+halfLen]-m)*inverse, 0, limit)
		packed[j] = byte(low&15 | high&15<<4)
		bits |= uint32(low>>4)<<j | uint32(high>>4)<<(j+halfLen)
	}
	if fifth != nil {
		binary.LittleEndian.PutUint32(fifth, bits)
	}
}

func encodeBytes(dst []byte, in *[BlockLen]float32, d float32) {
	inverse := reciprocal(d)
	for j, f := range in {
		dst[j] = byte(nearest(f*inverse, -127, 127))
	}
}

// reciprocal is 1/d, and 0 for a scale of zero, with which every code decodes alike.
func reciprocal(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// nearest rounds to the nearest integer between bounds, ties to even.
func nearest(f float32, low, high int32) int32 {
	const shift = 3 << 22 // above it floats are integers
	switch {
	case f > float32(high):
		return high
	case f < float32(low):
		return low
	}
	return int32(f+shift) - shift
}
