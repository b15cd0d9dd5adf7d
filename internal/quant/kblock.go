package quant

// ggml's K-formats code 256 elements in a record: sub-blocks have integer scales of their own, which a number in fp16 multiplies
// (ggml, src/ggml-common.h and ggml-quants.c). They are decoded, not written.

// kLen is the number of elements of such a record.
const kLen = 256

// kScales unpacks the eight scales and minima of 6 bits that Q4_K and Q5_K pack into 12 bytes: the first four of each have the
// low bits of bytes 0 to 7, the others four bits in bytes 8 to 11 and two above the first ones'.
func kScales(packed []byte) (scales, mins [8]float32) {
	for j := range 4 {
		scales[j], mins[j] = float32(packed[j]&63), float32(packed[j+4]&63)
		scales[j+4] = float32(packed[j+8]&15 | packed[j]>>6<<4)
		mins[j+4] = float32(packed[j+8]>>4 | packed[j+4]>>6<<4)
	}
	return scales, mins
}

// decodeQ4K: f16 d, f16 least, 12 bytes of scales and minima, 128 bytes. Sub-blocks of 32 elements lie in pairs in the low and
// the high halves of 32 bytes; a value is d·scale·q − least·min.
func decodeQ4K(out *[kLen]float32, in []byte) {
	d, least := half(in), half(in[2:])
	scales, mins := kScales(in[4:16])
	for pair := range 4 {
		low, high := out[64*pair:][:32], out[64*pair+32:][:32]
		dl, ml := d*scales[2*pair], least*mins[2*pair]
		dh, mh := d*scales[2*pair+1], least*mins[2*pair+1]
		for j, b := range in[16+32*pair:][:32] {
			low[j] = float32(dl*float32(b&15)) - ml
			high[j] = float32(dh*float32(b>>4)) - mh
		}
	}
}

// decodeQ5K is decodeQ4K with 32 bytes before the others, of which bit k is the fifth bit of sub-block k.
func decodeQ5K(out *[kLen]float32, in []byte) {
	d, least := half(in), half(in[2:])
	scales, mins := kScales(in[4:16])
	fifth := in[16:48]
	for pair := range 4 {
		low, high := out[64*pair:][:32], out[64*pair+32:][:32]
		dl, ml := d*scales[2*pair], least*mins[2*pair]
		dh, mh := d*scales[2*pair+1], least*mins[2*pair+1]
		for j, b := range in[48+32*pair:][:32] {
			bits := fifth[j] >> (2 * pair)
			low[j] = float32(dl*float32(b&15|bits&1<<4)) - ml
			high[j] = float32(dh*float32(b>>4|bits>>1&1<<4)) - mh
		}
	}
}

// decodeQ6K: 128 bytes of low halves, 64 bytes of pairs of high bits, 16 signed scales, f16 d. A half of the record is four runs
// of 32 elements: two in the low halves of its 64 bytes, two in the high ones, with high bits in four places of its 32 bytes;
// 16 elements share a scale; a value is d·scale·(q − 32).
func decodeQ6K(out *[kLen]float32, in []byte) {
	d := half(in[208:])
	for part := range 2 {
		low, high, scales := in[64*part:][:64], in[128+32*part:][:32], in[192+8*part:][:8]
		for run := range 4 {
			values := out[128*part+32*run:][:32]
			for j := range values {
				q := low[j+32*(run%2)] >> (4 * (run / 2)) & 15
				q |= high[j] >> (2 * run) & 3 << 4
				values[j] = float32(d*float32(int8(scales[2*run+j/16]))) * float32(int(q)-32)
			}
		}
	}
}
