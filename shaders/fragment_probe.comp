#version 450
// Finds out whether the device places the elements of matrices as include/fragments.glsl expects.
//
// One subgroup loads matrices whose elements are their own numbers, 16 row + col, by the instructions that know their places, and compares what
// each lane holds. Then it multiplies two matrices that it builds from words and compares the sums: elements of one operand are their places, the
// other one is the identity, so sums are exact.
//
// scratch (0): 256 words, overwritten       out (1): one word, the number of elements that are not where they are expected
//
//@env vulkan1.3

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(local_size_x = 32) in;
const uint SUBS = 1;
#include "fragments.glsl"

layout(set = 0, binding = 0, std430) buffer Numbers { float numbers[]; };
layout(set = 0, binding = 0, std430) buffer Halves { bfloat16_t halves[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Out { uint wrong; };

// bits of a whole number below 256 as bf16, which holds it exactly
uint bits(uint n) { return floatBitsToUint(float(n)) >> 16; }
uint pair(uint a, uint b) { return bits(a) | bits(b) << 16; }

void main() {
	uint lane = LANE, r = lane / 4, t = lane % 4 * 2, misplaced = 0;
	SUMS c;
	for (uint i = lane; i < 256; i += LANES) numbers[i] = float(i);
	subgroupMemoryBarrierBuffer();
	barrier();
	coopMatLoad(c, numbers, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
	[[unroll]] for (uint e = 0; e < 8; e++) {
		if (c.length() != 8 || uint(c[e]) != 16 * fragment_row(lane, e) + fragment_col(lane, e)) misplaced++;
	}
	barrier();
	for (uint i = lane; i < 256; i += LANES) halves[i] = bfloat16_t(float(i));
	subgroupMemoryBarrierBuffer();
	barrier();
	LEFT a, left;
	RIGHT b, right;
	coopMatLoad(a, halves, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
	coopMatLoad(b, halves, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
	uint at = 16 * r + t;
	uvec4 words = uvec4(pair(at, at + 1), pair(at + 128, at + 129), pair(at + 8, at + 9), pair(at + 136, at + 137));
	SET_LEFT(left, words)
	at = 16 * t + r;
	words = uvec4(pair(at, at + 16), pair(at + 128, at + 144), pair(at + 8, at + 24), pair(at + 136, at + 152));
	SET_RIGHT(right, words)
	[[unroll]] for (uint e = 0; e < 8; e++) {
		if (a.length() != 8 || float(a[e]) != float(left[e])) misplaced++;
		if (b.length() != 8 || float(b[e]) != float(right[e])) misplaced++;
	}
	// The identity as a right operand: element (k, col) is 1 where both are the same.
	uint one = 0x3f80u;
	uint diagonal = (t == r ? one : 0u) | (t + 1 == r ? one << 16 : 0u);
	words = uvec4(diagonal, 0u, 0u, diagonal);
	SET_RIGHT(right, words)
	CLEAR(c)
	MULTIPLY(c, left, right)
	[[unroll]] for (uint e = 0; e < 8; e++) {
		if (uint(c[e]) != 16 * fragment_row(lane, e) + fragment_col(lane, e)) misplaced++;
	}
	misplaced = subgroupAdd(misplaced);
	if (lane == 0) wrong = misplaced;
}
