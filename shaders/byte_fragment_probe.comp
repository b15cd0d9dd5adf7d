#version 450
// Finds out whether the device places the elements of matrices of signed bytes as include/byte_fragments.glsl expects, and how it numbers them.
//
// First, without CHECK: one subgroup loads operands whose elements are their rows, then their columns, by the instructions that know their places. Of
// each four elements it looks up which of the expected words they are; all lanes must have the same numbering. Sums are loaded likewise.
// Then, with CHECK and the numberings found: it multiplies two matrices that it builds from words and compares the sums.
//
// out (0): the number of elements that are not where they are expected, then LEFT_WORDS and RIGHT_WORDS
//
//@env vulkan1.3

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(constant_id = 0) const uint LEFT_WORDS = 0x3120;
layout(constant_id = 1) const uint RIGHT_WORDS = 0x3210;
layout(constant_id = 2) const bool CHECK = false;
layout(local_size_x = 32) in;
const uint SUBS = 1;
#include "fragments.glsl"
#include "byte_fragments.glsl"

layout(set = 0, binding = 0, std430) writeonly buffer Out { uint found[3]; };

shared uvec4 stage[64]; // 16 x 32 bytes, 32 x 16 bytes, or 16 x 16 integers

uint four(uint n) { return n * 0x01010101u; }

// byte_left and byte_right are elements of the operands that are multiplied, in [-127, 127].
int byte_left(uint row, uint k) { return int((row * 37 + k * 11 + row * k) % 255) - 127; }
int byte_right(uint k, uint col) { return int((col * 53 + k * 29 + col * k * 3) % 255) - 127; }

uint word_of(int a, int b, int c, int d) { return uint(a & 0xff) | uint(b & 0xff) << 8 | uint(c & 0xff) << 16 | uint(d & 0xff) << 24; }
uint left_word(uint row, uint k) { return word_of(byte_left(row, k), byte_left(row, k + 1), byte_left(row, k + 2), byte_left(row, k + 3)); }
uint right_word(uint k, uint col) { return word_of(byte_right(k, col), byte_right(k + 1, col), byte_right(k + 2, col), byte_right(k + 3, col)); }

void staged() {
	memoryBarrierShared();
	barrier();
}

void main() {
	uint lane = LANE, r = lane / 4, t = lane % 4, misplaced = 0, left_words = 0, right_words = 0;
	if (!CHECK) {
		BYTES_LEFT rows_a, cols_a;
		BYTES_RIGHT rows_b, cols_b;
		INTS sums;
		stage[lane] = uvec4(four(lane / 2)); // 2 runs a row of 32 bytes
		staged();
		coopMatLoad(rows_a, stage, 0, 2, gl_CooperativeMatrixLayoutRowMajor);
		staged();
		uint c = lane % 2 * 16;
		stage[lane] = uvec4(0x03020100u + four(c), 0x07060504u + four(c), 0x0b0a0908u + four(c), 0x0f0e0d0cu + four(c));
		staged();
		coopMatLoad(cols_a, stage, 0, 2, gl_CooperativeMatrixLayoutRowMajor);
		staged();
		stage[lane] = uvec4(four(lane)); // 1 run a row of 16 bytes
		staged();
		coopMatLoad(rows_b, stage, 0, 1, gl_CooperativeMatrixLayoutRowMajor);
		staged();
		stage[lane] = uvec4(0x03020100u, 0x07060504u, 0x0b0a0908u, 0x0f0e0d0cu);
		staged();
		coopMatLoad(cols_b, stage, 0, 1, gl_CooperativeMatrixLayoutRowMajor);
		staged();
		for (uint i = lane; i < 64; i += LANES) stage[i] = uvec4(i * 4, i * 4 + 1, i * 4 + 2, i * 4 + 3);
		staged();
		coopMatLoad(sums, stage, 0, 4, gl_CooperativeMatrixLayoutRowMajor);
		if (rows_a.length() != 16 || rows_b.length() != 16 || sums.length() != 8) misplaced++;
		[[unroll]] for (uint e = 0; e < 8; e++) {
			if (sums[e] != int(16 * fragment_row(lane, e) + fragment_col(lane, e))) misplaced++;
		}
		[[unroll]] for (uint g = 0; g < 4; g++) {
			uint of_left = 4, of_right = 4;
			[[unroll]] for (uint word = 0; word < 4; word++) {
				bool left = true, right = true;
				[[unroll]] for (uint b = 0; b < 4; b++) {
					uint e = 4 * g + b;
					if (uint(rows_a[e]) != r + word % 2 * 8 || uint(cols_a[e]) != 4 * t + b + word / 2 * 16) left = false;
					if (uint(rows_b[e]) != 4 * t + b + word % 2 * 16 || uint(cols_b[e]) != r + word / 2 * 8) right = false;
				}
				if (left) of_left = word;
				if (right) of_right = word;
			}
			if (of_left == 4 || of_right == 4) misplaced++;
			left_words |= (of_left & 3) << (4 * g);
			right_words |= (of_right & 3) << (4 * g);
		}
		if (subgroupMin(left_words) != subgroupMax(left_words) || subgroupMin(right_words) != subgroupMax(right_words)) misplaced++;
	} else {
		BYTES_LEFT a;
		BYTES_RIGHT b;
		INTS sums;
		uvec4 words = uvec4(left_word(r, 4 * t), left_word(r + 8, 4 * t), left_word(r, 4 * t + 16), left_word(r + 8, 4 * t + 16));
		SET_BYTES_LEFT(a, words)
		words = uvec4(right_word(4 * t, r), right_word(4 * t + 16, r), right_word(4 * t, r + 8), right_word(4 * t + 16, r + 8));
		SET_BYTES_RIGHT(b, words)
		CLEAR_INTS(sums, MAGIC)
		MULTIPLY_BYTES(sums, a, b)
		[[unroll]] for (uint e = 0; e < 8; e++) {
			int want = 0;
			for (uint k = 0; k < 32; k++) want += byte_left(fragment_row(lane, e), k) * byte_right(k, fragment_col(lane, e));
			if (of_magic(sums[e]) != float(want)) misplaced++;
		}
		left_words = LEFT_WORDS;
		right_words = RIGHT_WORDS;
	}
	misplaced = subgroupAdd(misplaced);
	if (lane == 0) {
		found[0] = misplaced;
		found[1] = left_words;
		found[2] = right_words;
	}
}
