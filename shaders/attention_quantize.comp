#version 450
// Rounds queries or keys to signed bytes in place, for attention whose scores are integer products (SageAttention: Zhang et al., arXiv 2410.02367):
//
//   bytes[i, c] = round((x[i, c] - mean[c]) / scale),   scale = max |x - mean| / 127
//
// A query has a scale of its own, its maximum over its channels. Keys have one for 16 of them (STRIP), those whose numbers begin with the same
// multiple of 16, and only they have a mean subtracted (SMOOTH): it adds the same to all scores of a query, which the softmax does not see, and what
// keys have in common is most of their size.
//
// Bytes and scales lie in the memory of what they were made from, of which they take little more than half, so heads and tokens stay where they are:
//   ORDER 0: each token's DIM bytes at its beginning, then its scale (16 keys have the same one 16 times).
//   ORDER 1 and 2, for 16-bit numbers, heads of 128 and tokens that are a multiple of 16: of 16 tokens' 4 KiB the first 2 KiB are fragments of 16
//     tokens by 32 channels, left operands (1) or right ones (2), in the order of include/fragments.glsl; then follow the scales: 16, with STRIP one.
//
// A row (with STRIP, 16 of them) that is all zeros gets a scale of 0. One that holds an infinity or no number gets a scale that is no number, and so
// do its scores.
//
// x (0) is [heads, rows, DIM] from element base on; base and DIM are multiples of 4, DIM at most 128. sums (1) is that of attention_mean.comp. One
// workgroup takes 16 tokens: x-axis and y-axis of the dispatch together are groups of tokens, z is the head. It has read all before it writes any.

#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"

layout(constant_id = 0) const uint DIM = 128;
layout(constant_id = 1) const uint X_TYPE = 0;
layout(constant_id = 2) const bool SMOOTH = false;
layout(constant_id = 3) const bool STRIP = false;
layout(constant_id = 4) const uint ORDER = 0;
layout(local_size_x = 256) in;

layout(push_constant) uniform Push {
	uint base;
	uint rows;
	uint slot; // first head's number in sums
} pc;

TENSOR_INOUT_VEC(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) readonly buffer Sums { float sums[]; };

const uint PARTS = 32; // as the host knows
const uint INFINITE = 0x7f800000u;
const uint PER_WORD = X_TYPE == DTYPE_F32 ? 1 : 2; // elements
const uint PITCH = 33;                             // words of a row of 128 bytes, and one so that rows spread over the banks

shared uint tops[256]; // largest magnitudes' bits, which have the order of the magnitudes, and infinity and NaN above them
shared uint tile[16 * PITCH];

uint packed(vec4 v) {
	ivec4 q = ivec4(roundEven(clamp(v, vec4(-127.0), vec4(127.0)))) & 0xff;
	return uint(q.x | q.y << 8 | q.z << 16 | q.w << 24);
}

void main() {
	uint id = gl_LocalInvocationIndex, group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	if (group * 16 >= pc.rows) return; // all of a workgroup
	uint row = id / 16, token = group * 16 + row;
	uint from = pc.base + (gl_WorkGroupID.z * pc.rows + token) * DIM;
	uint means = ((pc.slot + gl_WorkGroupID.z) * (PARTS + 1) + PARTS) * DIM;

	// Each invocation has at most two runs of four channels of a token.
	vec4 v[2];
	uint top = 0;
	for (uint i = 0; i < 2; i++) {
		uint c = (id % 16 + i * 16) * 4;
		v[i] = vec4(0.0);
		if (c >= DIM || token >= pc.rows) continue;
		v[i] = x_load4(from + c);
		if (SMOOTH) v[i] -= vec4(sums[means + c], sums[means + c + 1], sums[means + c + 2], sums[means + c + 3]);
		uvec4 bits = floatBitsToUint(v[i]) & 0x7fffffffu;
		top = max(top, max(max(bits.x, bits.y), max(bits.z, bits.w)));
	}
	tops[id] = top;
	barrier();
	for (uint n = STRIP ? 128 : 8; n > 0; n /= 2) {
		if (STRIP ? id < n : id % 16 < n) tops[id] = max(tops[id], tops[id + n]);
		barrier();
	}
	top = tops[STRIP ? 0 : row * 16];
	float most = top < INFINITE ? uintBitsToFloat(top) : 0.0;
	float inv = most > 7.9e-31 ? 127.0 / most : 0.0;
	float scale = top < INFINITE ? (most > 7.9e-31 ? most / 127.0 : 0.0) : uintBitsToFloat(0x7fc00000u);

	if (ORDER == 0) {
		for (uint i = 0; i < 2; i++) {
			uint c = (id % 16 + i * 16) * 4;
			if (c < DIM && token < pc.rows) x_words[from / PER_WORD + c / 4] = packed(v[i] * inv);
		}
		if (id % 16 == 0 && token < pc.rows) x_words[from / PER_WORD + DIM / 4] = floatBitsToUint(scale);
		return;
	}
	for (uint i = 0; i < 2; i++) tile[row * PITCH + id % 16 + i * 16] = packed(v[i] * inv);
	barrier();
	uint strip = (pc.base + (gl_WorkGroupID.z * pc.rows + group * 16) * DIM) / 2; // word
	if (id < 128) {
		uint lane = id % 32, at = lane / 4 * PITCH + id / 32 * 8 + lane % 4;
		uvec4 w = uvec4(tile[at], tile[at + 8 * PITCH], tile[at + 4], tile[at + 8 * PITCH + 4]);
		x_quads[strip / 4 + id] = ORDER == 2 ? w.xzyw : w;
	}
	if (id % 16 == 0 && (!STRIP || row == 0)) x_words[strip + 512 + row] = floatBitsToUint(scale);
}
