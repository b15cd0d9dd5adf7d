package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// This file decodes straight to bfloat16, which is what devices are given: the same bits as decoding to float32 and rounding
// to nearest even, in less time, because which values can be NaN or infinite is seen from the scales. The functions return
// false, and leave the result undefined, where that may be so; the caller then takes the slow way, which tells where.

// DecodeBF16 gives the values of whole records as little-endian bfloat16; len(dst) must be twice Len for each record of src.
// Formats that are not written are left to the slow way.
func (b Block) DecodeBF16(dst, src []byte) (finite bool) {
	size := b.mustFit("DecodeBF16", len(dst)/2, len(src))
	if b >= Q4_K {
		return false
	}
	for len(dst) > 0 {
		out, in := dst[:2*BlockLen], src[:size]
		if allOnes(in) || (b == Q4_1 || b == Q5_1) && allOnes(in[2:]) {
			return false
		}
		d := half(in)
		switch b {
		case Q4_0:
			nibblesBF16(out, in[2:], d, -8*d)
		case Q4_1:
			nibblesBF16(out, in[4:], d, half(in[2:]))
		case Q5_0:
			fiveBitsBF16(out, in[6:], in[2:], d, -16*d)
		case Q5_1:
			fiveBitsBF16(out, in[8:], in[4:], d, half(in[2:]))
		case Q8_0:
			codesBF16(out, in[2:], d)
		}
		dst, src = dst[2*BlockLen:], src[size:]
	}
	return true
}

// allOnes says whether an fp16 is NaN or infinite. From finite scales come at most 128·65504 in magnitude.
func allOnes(b []byte) bool { return b[1]&0x7c == 0x7c }

// rounded is a finite float32, below bfloat16's largest, as bfloat16.
func rounded(f float32) uint32 {
	u := math.Float32bits(f)
	return (u + 0x7fff + u>>16&1) >> 16
}

func nibblesBF16(out, packed []byte, d, m float32) {
	var values [16]uint16
	for q := range values {
		values[q] = uint16(rounded(float32(float32(q)*d) + m))
	}
	low, high := out[:BlockLen], out[BlockLen:2*BlockLen]
	for j, b := range (*[halfLen]byte)(packed) {
		binary.LittleEndian.PutUint16(low[2*j:], values[b&15])
		binary.LittleEndian.PutUint16(high[2*j:], values[b>>4])
	}
}

func fiveBitsBF16(out, packed, fifth []byte, d, m float32) {
	var values [32]uint16
	for q := range values {
		values[q] = uint16(rounded(float32(float32(q)*d) + m))
	}
	bits := binary.LittleEndian.Uint32(fifth)
	low, high := out[:BlockLen], out[BlockLen:2*BlockLen]
	for j, b := range (*[halfLen]byte)(packed) {
		binary.LittleEndian.PutUint16(low[2*j:], values[uint32(b&15)|bits>>j&1<<4])
		binary.LittleEndian.PutUint16(high[2*j:], values[uint32(b>>4)|bits>>(j+halfLen)&1<<4])
	}
}

// Int8BF16 gives int8 codes times a scale as little-endian bfloat16; len(dst) must be 2·len(src).
func Int8BF16(dst, src []byte, scale float32) (finite bool) {
	if len(dst) != 2*len(src) {
		panic(fmt.Sprintf("quant.Int8BF16: %d codes for %d bytes", len(src), len(dst)))
	}
	if !(scale > -1e36 && scale < 1e36) {
		return false
	}
	codesBF16(dst, src, scale)
	return true
}

func codesBF16(dst, src []byte, scale float32) {
	for ; len(src) >= 4; src, dst = src[4:], dst[8:] {
		s := (*[4]byte)(src)
		low := rounded(float32(int8(s[0]))*scale) | rounded(float32(int8(s[1]))*scale)<<16
		high := rounded(float32(int8(s[2]))*scale) | rounded(float32(int8(s[3]))*scale)<<16
		binary.LittleEndian.PutUint64(dst, uint64(low)|uint64(high)<<32)
	}
	for i, code := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(rounded(float32(int8(code))*scale)))
	}
}

// TableBF16 is a Table whose values are rounded to bfloat16; NaN and infinities have all bits of the exponent.
type TableBF16 [256]uint16

// BF16 rounds a table. A value beyond bfloat16's range becomes infinite.
func (t *Table) BF16() *TableBF16 {
	out := new(TableBF16)
	for code, f := range t {
		if out[code] = uint16(rounded(f)); f-f != 0 {
			out[code] = 0x7f80
		}
	}
	return out
}

// Decode looks codes up; len(dst) must be 2·len(src).
func (t *TableBF16) Decode(dst, src []byte) (finite bool) {
	if len(dst) != 2*len(src) {
		panic(fmt.Sprintf("quant.Decode: %d codes for %d bytes", len(src), len(dst)))
	}
	var broken uint32 // the top bits of halves, where an exponent has all bits
	for ; len(src) >= 4; src, dst = src[4:], dst[8:] {
		s := (*[4]byte)(src)
		low, high := uint32(t[s[0]])|uint32(t[s[1]])<<16, uint32(t[s[2]])|uint32(t[s[3]])<<16
		broken |= (low&0x7fff7fff + 0x00800080) | (high&0x7fff7fff + 0x00800080)
		binary.LittleEndian.PutUint64(dst, uint64(low)|uint64(high)<<32)
	}
	for i, code := range src {
		broken |= uint32(t[code]&0x7fff) + 0x0080
		binary.LittleEndian.PutUint16(dst[2*i:], t[code])
	}
	return broken&0x80008000 == 0
}
