package quant

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// MaxE4M3 is the largest fp8 value of four exponent bits. That format has no infinities; the one code left is NaN (Micikevicius
// et al., FP8 formats for deep learning, 2022; "fn" in PyTorch's float8_e4m3fn).
const MaxE4M3 = 448

// Table gives the value of each code of one byte.
type Table [256]float32

// E4M3 is the table of 8-bit floats with four exponent bits, bias 7, and NaN for 0x7f and 0xff.
func E4M3() *Table {
	var t Table
	for code := range t {
		exponent, mantissa := code>>3&15, float64(code&7)/8
		f := math.Ldexp(mantissa, -6)
		if exponent > 0 {
			f = math.Ldexp(1+mantissa, exponent-7)
		}
		if code&0x7f == 0x7f {
			f = math.NaN()
		}
		t[code] = float32(math.Copysign(f, float64(1-code>>7*2)))
	}
	return &t
}

// E5M2 is the table of 8-bit floats with five exponent bits: the upper half of an fp16, infinities and NaN included.
func E5M2() *Table {
	var t Table
	for code := range t {
		t[code] = numeric.F32FromF16(uint16(code) << 8)
	}
	return &t
}

// Int8 is the table of signed integers.
func Int8() *Table {
	var t Table
	for code := range t {
		t[code] = float32(int8(code))
	}
	return &t
}

// Scaled is the table with every value multiplied.
func (t *Table) Scaled(scale float32) *Table {
	out := new(Table)
	for code, f := range t {
		out[code] = f * scale
	}
	return out
}

// Decode looks codes up; lengths must be equal.
func (t *Table) Decode(dst []float32, src []byte) {
	if len(dst) != len(src) {
		panic(fmt.Sprintf("quant.Decode: %d codes for %d elements", len(src), len(dst)))
	}
	for i, code := range src {
		dst[i] = t[code]
	}
}

// EncodeE4M3 codes the nearest fp8 values of src/scale, ties to even, none beyond ±448.
func EncodeE4M3(dst []byte, src []float32, scale float32) {
	if len(dst) != len(src) {
		panic(fmt.Sprintf("quant.EncodeE4M3: %d codes for %d elements", len(dst), len(src)))
	}
	inverse := reciprocal(scale)
	for i, f := range src {
		dst[i] = e4m3(f * inverse)
	}
}

func e4m3(f float32) byte {
	u := math.Float32bits(f)
	sign, u := byte(u>>24&0x80), u&0x7fffffff
	if u < 121<<23 { // below 2⁻⁶ the step is 2⁻⁹; eight steps are the code of 2⁻⁶ itself
		return sign | byte(nearest(math.Float32frombits(u)*512, 0, 8))
	}
	code := (u+0x7ffff+u>>20&1)>>20 - 120<<3
	return sign | byte(min(code, 0x7e))
}

// EncodeInt8 codes the nearest integers of src/scale, ties to even, none beyond ±127.
func EncodeInt8(dst []byte, src []float32, scale float32) {
	if len(dst) != len(src) {
		panic(fmt.Sprintf("quant.EncodeInt8: %d codes for %d elements", len(dst), len(src)))
	}
	inverse := reciprocal(scale)
	for i, f := range src {
		dst[i] = byte(nearest(f*inverse, -127, 127))
	}
}

// Amax is the largest magnitude.
func Amax(src []float32) float32 {
	var a float32
	for _, f := range src {
		a = max(a, f, -f)
	}
	return a
}
