// Package numeric converts between the 16-bit float formats of checkpoints and float32.
//
// BF16 is the upper half of a float32; F16 is IEEE 754 binary16. Both are held as their uint16 bit patterns, and
// little-endian byte slices are the bulk form because that is how files and device buffers hold them. Every
// narrowing rounds to nearest, ties to even. A NaN stays a NaN (quieted, its sign and leading payload bits kept)
// and infinities stay infinities; a finite value beyond the target's range becomes an infinity, as IEEE 754 says.
//
// All functions are pure and safe for concurrent use. The byte-slice functions panic when the lengths of source
// and destination do not describe the same number of elements.
package numeric

import (
	"encoding/binary"
	"fmt"
	"math"
)

// BF16FromF32 rounds f to bfloat16 (nearest, ties to even).
func BF16FromF32(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + (u>>16)&1) >> 16)
}

// F32FromBF16 widens a bfloat16 bit pattern; it is exact.
func F32FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F16FromF32 rounds f to binary16 (nearest, ties to even; subnormals included).
func F16FromF32(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u >> 16 & 0x8000)
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(u>>13&0x3ff)
	case u >= 0x477ff000: // 65520 and above round to infinity
		return sign | 0x7c00
	case u < 0x38800000: // below 2^-14: subnormal or zero
		// Adding 0.5 aligns the mantissa so that the float adder does the rounding.
		return sign | uint16(math.Float32bits(math.Float32frombits(u)+0.5)-0x3f000000)
	default:
		return sign | uint16((u-0x38000000+0xfff+(u>>13)&1)>>13)
	}
}

// F32FromF16 widens a binary16 bit pattern; it is exact.
func F32FromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	u := uint32(h&0x7fff) << 13
	switch exp := h & 0x7c00; exp {
	case 0x7c00: // infinity or NaN
		u |= 0x7f800000
		if h&0x3ff != 0 {
			u |= 0x400000
		}
	case 0: // subnormal: the float unit normalises it
		u = math.Float32bits(math.Float32frombits(u+0x38800000) - math.Float32frombits(0x38800000))
	default:
		u += 0x38000000
	}
	return math.Float32frombits(u | sign)
}

// F32sFromBF16 widens little-endian bfloat16 elements of src into dst; len(src) must be 2·len(dst).
func F32sFromBF16(dst []float32, src []byte) {
	mustMatch("F32sFromBF16", len(src), len(dst), 2)
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

// F32sFromF16 widens little-endian binary16 elements of src into dst; len(src) must be 2·len(dst).
func F32sFromF16(dst []float32, src []byte) {
	mustMatch("F32sFromF16", len(src), len(dst), 2)
	for i := range dst {
		dst[i] = F32FromF16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// F32sFromBytes copies little-endian float32 elements of src into dst; len(src) must be 4·len(dst).
func F32sFromBytes(dst []float32, src []byte) {
	mustMatch("F32sFromBytes", len(src), len(dst), 4)
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// BytesFromF32s writes src as little-endian float32 into dst; len(dst) must be 4·len(src).
func BytesFromF32s(dst []byte, src []float32) {
	mustMatch("BytesFromF32s", len(dst), len(src), 4)
	for i, f := range src {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
	}
}

// BF16FromF32s rounds src to little-endian bfloat16 in dst; len(dst) must be 2·len(src).
func BF16FromF32s(dst []byte, src []float32) {
	mustMatch("BF16FromF32s", len(dst), len(src), 2)
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], BF16FromF32(f))
	}
}

// BF16FromF32Bytes rounds little-endian float32 elements of src to little-endian bfloat16 in dst, as BF16FromF32 does, two at
// a time. It returns false when an element of src or of the result is NaN or infinite; the results are then of no use.
// len(src) must be 2·len(dst).
func BF16FromF32Bytes(dst, src []byte) (finite bool) {
	mustMatch("BF16FromF32Bytes", len(src), len(dst), 2)
	const lanes = 0x00000001_00000001
	const sign, magnitude, half, carry = 0x80000000 * lanes, 0x7fffffff * lanes, 0x7fff * lanes, 0x00800000 * lanes
	var broken uint64 // the top bits of lanes: the rounded magnitude is that of an infinity or more
	i := 0
	for ; i+16 <= len(src); i += 16 {
		s := src[i : i+16 : i+16]
		a, b := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
		// A magnitude is below 2³¹ and stays below 2³² with half a step added, so lanes do not meet.
		x, y := a&magnitude+half+a>>16&lanes, b&magnitude+half+b>>16&lanes
		broken |= x + carry | (y + carry)
		x, y = (x|a&sign)>>16&0x0000ffff_0000ffff, (y|b&sign)>>16&0x0000ffff_0000ffff
		binary.LittleEndian.PutUint64(dst[i/2:], (x|x>>16)&0xffffffff|(y|y>>16)<<32)
	}
	if broken&sign != 0 {
		return false
	}
	for ; i < len(src); i += 4 {
		u := binary.LittleEndian.Uint32(src[i:])
		h := BF16FromF32(math.Float32frombits(u))
		if u&0x7f800000 == 0x7f800000 || h&0x7f80 == 0x7f80 {
			return false
		}
		binary.LittleEndian.PutUint16(dst[i/2:], h)
	}
	return true
}

// BF16FromFiniteF32s is BF16FromF32s without a branch for each element. It returns false when an element of src or of the
// result is NaN or infinite; the results are then of no use.
func BF16FromFiniteF32s(dst []byte, src []float32) (finite bool) {
	mustMatch("BF16FromFiniteF32s", len(dst), len(src), 2)
	var broken uint32 // the top bit: a rounded magnitude is that of an infinity or more
	for ; len(src) >= 4; src, dst = src[4:], dst[8:] {
		s := (*[4]float32)(src)
		a, b := math.Float32bits(s[0]), math.Float32bits(s[1])
		c, d := math.Float32bits(s[2]), math.Float32bits(s[3])
		x, y, z, w := roundedMagnitude(a), roundedMagnitude(b), roundedMagnitude(c), roundedMagnitude(d)
		broken |= (x + 0x00800000) | (y + 0x00800000) | (z + 0x00800000) | (w + 0x00800000)
		low, high := (x|a&signBit)>>16|(y|b&signBit)&0xffff0000, (z|c&signBit)>>16|(w|d&signBit)&0xffff0000
		binary.LittleEndian.PutUint64(dst, uint64(low)|uint64(high)<<32)
	}
	for i, f := range src {
		h := BF16FromF32(f)
		if f-f != 0 || h&0x7f80 == 0x7f80 {
			return false
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return broken&signBit == 0
}

const signBit = 0x80000000

// roundedMagnitude adds half a bf16 step to a float32's magnitude, ties to even, so that its upper half is the result. It
// stays below 2³².
func roundedMagnitude(u uint32) uint32 { return u&^signBit + 0x7fff + u>>16&1 }

// F16FromF32s rounds src to little-endian binary16 in dst; len(dst) must be 2·len(src).
func F16FromF32s(dst []byte, src []float32) {
	mustMatch("F16FromF32s", len(dst), len(src), 2)
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], F16FromF32(f))
	}
}

// RoundBF16 rounds f to the nearest bfloat16 and returns it as float32.
func RoundBF16(f float32) float32 { return F32FromBF16(BF16FromF32(f)) }

// RoundF16 rounds f to the nearest binary16 and returns it as float32.
func RoundF16(f float32) float32 { return F32FromF16(F16FromF32(f)) }

// mustMatch panics unless bytes holds exactly elements of the given size.
func mustMatch(op string, bytes, elements, size int) {
	if bytes != elements*size {
		panic(fmt.Sprintf("numeric.%s: %d bytes do not hold %d elements of %d bytes", op, bytes, elements, size))
	}
}
