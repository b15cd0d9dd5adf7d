package jpegdec

// Constants of the inverse transform, in units of 2^-13 (Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT
// algorithms with 11 multiplications", 1989; the names say the value). libjpeg's accurate integer transform, its default,
// has the same precision and rounds in the same places, so that results are equal to the bit (libjpeg-turbo, jidctint.c).
const (
	constBits = 13
	passBits  = 2 // that the first pass keeps behind the point

	fix0_298631336 = 2446
	fix0_390180644 = 3196
	fix0_541196100 = 4433
	fix0_765366865 = 6270
	fix0_899976223 = 7373
	fix1_175875602 = 9633
	fix1_501321110 = 12299
	fix1_847759065 = 15137
	fix1_961570560 = 16069
	fix2_053119869 = 16819
	fix2_562915447 = 20995
	fix3_072711026 = 25172
)

// butterfly is the transform of eight values; results lack the division by 2^13.
func butterfly(in [8]int32) (out [8]int32) {
	// Even part.
	z1 := (in[2] + in[6]) * fix0_541196100
	t2, t3 := z1-in[6]*fix1_847759065, z1+in[2]*fix0_765366865
	t0, t1 := (in[0]+in[4])<<constBits, (in[0]-in[4])<<constBits
	e0, e3, e1, e2 := t0+t3, t0-t3, t1+t2, t1-t2
	// Odd part.
	a, b, c, d := in[7], in[5], in[3], in[1]
	z1, z2, z3, z4 := a+d, b+c, a+c, b+d
	z5 := (z3 + z4) * fix1_175875602
	a, b, c, d = a*fix0_298631336, b*fix2_053119869, c*fix3_072711026, d*fix1_501321110
	z1, z2 = -z1*fix0_899976223, -z2*fix2_562915447
	z3, z4 = z5-z3*fix1_961570560, z5-z4*fix0_390180644
	a, b, c, d = a+z1+z3, b+z2+z4, c+z2+z3, d+z1+z4
	return [8]int32{e0 + d, e1 + c, e2 + b, e3 + a, e3 - a, e2 - b, e1 - c, e0 - d}
}

// idct writes the 8×8 samples of a block of coefficients, in natural order and multiplied with their quantization steps.
func idct(dst []uint8, stride int, block *[64]int32) {
	var work [64]int32
	for x := range 8 {
		column := butterfly([8]int32{block[x], block[8+x], block[16+x], block[24+x], block[32+x], block[40+x], block[48+x], block[56+x]})
		for y, v := range column {
			work[8*y+x] = (v + 1<<(constBits-passBits-1)) >> (constBits - passBits)
		}
	}
	const shift = constBits + passBits + 3
	for y := range 8 {
		row := butterfly([8]int32(work[8*y:]))
		out := dst[y*stride:][:8]
		for x, v := range row {
			out[x] = uint8(min(max((v+1<<(shift-1))>>shift+128, 0), 255))
		}
	}
}
