// The weights of a linear layer in 4 bits: bitsandbytes' NF4 with double quantization, laid out as internal/nf4.Layout says.
//
//   w[i] = bf16(code[q_i] · (map[s_j] · scale2[j / 256] + mean)), j = i / 64
//
// In the words of binding 1: 16 code points, 256 points of the map, the mean; from 276 on scale2; from pc.w_scales on s, a
// byte each (with W_PLAIN an fp32 scale each instead); from pc.w_codes on q, eight a word, the even ones of each pair in the upper
// half of a byte. i counts from the first number of the whole matrix, of which the dispatch's columns begin at pc.w_first.
//
// nf4_begin must be called first, by all invocations of the workgroup. Shared memory: 64 bytes.

#extension GL_EXT_control_flow_attributes : require

layout(constant_id = 10) const bool W_PLAIN = false;

shared float nf4_code[16];

void nf4_begin() {
	if (gl_LocalInvocationIndex < 16) nf4_code[gl_LocalInvocationIndex] = uintBitsToFloat(w_words[gl_LocalInvocationIndex]);
	barrier();
}

// nf4_scale returns what block j is multiplied by. Product and sum are rounded each for itself.
float nf4_scale(uint j) {
	if (W_PLAIN) return uintBitsToFloat(w_words[pc.w_scales + j]);
	uint s = (w_words[pc.w_scales + j / 4] >> (j % 4 * 8)) & 0xffu;
	precise float product = uintBitsToFloat(w_words[16 + s]) * uintBitsToFloat(w_words[276 + j / 256]);
	precise float scale = product + uintBitsToFloat(w_words[272]);
	return scale;
}

float nf4_round(float v) { return bf16_to_f32(bf16_from_f32(v)); }

// nf4_unpack returns the eight numbers of a word of codes.
void nf4_unpack(uint q, float scale, out vec4 lo, out vec4 hi) {
	[[unroll]] for (uint j = 0; j < 4; j++) {
		uint shift = j / 2 * 8 + (j % 2 == 0 ? 4 : 0);
		lo[j] = nf4_round(nf4_code[(q >> shift) & 15u] * scale);
		hi[j] = nf4_round(nf4_code[(q >> (shift + 16)) & 15u] * scale);
	}
}

// nf4_index is the place of number i of the dispatch's columns in the whole matrix.
uint nf4_index(uint i) { return pc.w_first + i; }

// nf4_run8 reads the first left of 8 numbers from i on and puts zeros in the place of the others. With vec, i and left are
// multiples of 8, and so is pc.w_first.
void nf4_run8(uint i, uint left, bool vec, out vec4 lo, out vec4 hi) {
	lo = hi = vec4(0.0);
	i = nf4_index(i);
	if (vec) {
		if (left > 0) nf4_unpack(w_words[pc.w_codes + i / 8], nf4_scale(i / 64), lo, hi);
		return;
	}
	for (uint j = 0; j < 8; j++) {
		if (j >= left) break;
		uint at = i + j;
		uint q = w_words[pc.w_codes + at / 8] >> (at % 8 / 2 * 8 + (at % 2 == 0 ? 4 : 0));
		float v = nf4_round(nf4_code[q & 15u] * nf4_scale(at / 64));
		if (j < 4) lo[j] = v;
		else hi[j - 4] = v;
	}
}
