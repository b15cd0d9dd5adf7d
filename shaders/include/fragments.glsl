// Matrix products whose operands are built and whose sums are read element by element in registers.
//
// VK_KHR_cooperative_matrix leaves open which invocation holds which element. Where a device is known to place them as below (the host finds
// that out once, fragment_probe.comp), operands can be read straight into registers, 16 bytes an invocation, from memory that was put in their
// order before, and sums can become operands again without leaving them. A fragment is a matrix of 16 x 16, held by the 32 lanes of a subgroup;
// with r = lane / 4 and t = lane % 4 a lane holds
//
//   of a left operand [row, k]:    x = (r, 2t), y = (r + 8, 2t), z = (r, 2t + 8), w = (r + 8, 2t + 8)
//   of a right operand [k, col]:   x = (2t, r), y = (2t + 8, r), z = (2t, r + 8), w = (2t + 8, r + 8)
//   of sums [row, col]:            element e = (r + 8 (e / 4), 2t + e % 2 + 8 (e / 2 % 2)), e < 8
//
// where a word holds two bf16 elements, the second one's k a step further. 32 lanes' words make 512 bytes, contiguous in memory.
//
// With EMULATED defined the same is computed with fp32 multiply-adds through shared memory, for devices without such matrices: slow, for tests. Then
// 32 invocations in a row take the place of a subgroup, and every use must be reached by the whole workgroup.
//
// Needs the constant SUBS, subgroups of the workgroup.

#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_control_flow_attributes : require
#ifndef EMULATED
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require
#extension GL_EXT_bfloat16 : require
#endif

const uint LANES = 32;

// fragment_row and fragment_col say where in the matrix of sums a lane's element e lies.
uint fragment_row(uint lane, uint e) { return lane / 4 + 8 * (e / 4); }
uint fragment_col(uint lane, uint e) { return lane % 4 * 2 + e % 2 + 8 * (e / 2 % 2); }

// bf16_pair rounds two values to bf16, to nearest with ties away from zero, into one word. Values must be finite, below the largest by a rounding.
uint bf16_pair(float a, float b) {
	return (floatBitsToUint(a) + 0x8000u) >> 16 | (floatBitsToUint(b) + 0x8000u) & 0xffff0000u;
}

#ifdef EMULATED

// Loops stay loops: compilers for the CPU would take minutes otherwise.
#define UNROLL [[dont_unroll]]
#define LEFT uvec4
#define RIGHT uvec4
#define SUMS float[8]
#define LANE (gl_LocalInvocationIndex % LANES)
#define SUBGROUP_ID (gl_LocalInvocationIndex / LANES)

shared uvec4 emulated_words[SUBS * 2 * LANES];
shared float emulated_lanes[SUBS * LANES];

float emulated_bf16(uint word, uint half_) { return uintBitsToFloat(half_ == 0 ? word << 16 : word & 0xffff0000u); }

void emulated_product(inout float c[8], uvec4 a, uvec4 b) {
	uint first = SUBGROUP_ID * 2 * LANES;
	barrier();
	emulated_words[first + LANE] = a;
	emulated_words[first + LANES + LANE] = b;
	barrier();
	[[dont_unroll]] for (uint e = 0; e < 8; e++) {
		uint row = fragment_row(LANE, e), col = fragment_col(LANE, e);
		[[unroll]] for (uint k = 0; k < 16; k++) { // Mesa ends all loops of an invocation after 65,535 rounds together
			uint from = k % 8 / 2;
			float x = emulated_bf16(emulated_words[first + row % 8 * 4 + from][row / 8 + k / 8 * 2], k % 2);
			float y = emulated_bf16(emulated_words[first + LANES + col % 8 * 4 + from][k / 8 + col / 8 * 2], k % 2);
			c[e] = fma(x, y, c[e]);
		}
	}
}

float emulated_from(float x, uint other) {
	barrier();
	emulated_lanes[gl_LocalInvocationIndex] = x;
	barrier();
	return emulated_lanes[gl_LocalInvocationIndex ^ other];
}

#define CLEAR(c) { [[dont_unroll]] for (uint clear_ = 0; clear_ < 8; clear_++) c[clear_] = 0.0; }
#define SET_LEFT(m, words) m = words;
#define SET_RIGHT(m, words) m = words;
// WEIGHTS rounds a lane's eight elements of sums to a left operand; they must be finite.
#define WEIGHTS(m, p) m = uvec4(bf16_pair(p[0], p[1]), bf16_pair(p[4], p[5]), bf16_pair(p[2], p[3]), bf16_pair(p[6], p[7]));
#define MULTIPLY(c, a, b) emulated_product(c, a, b);
#define FROM_LANE(x, other) emulated_from(x, other)

#else

#define UNROLL [[unroll]]
#define LEFT coopmat<bfloat16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define RIGHT coopmat<bfloat16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>
#define SUMS coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define LANE gl_SubgroupInvocationID
#define SUBGROUP_ID gl_SubgroupID

bfloat16_t low_bf16(uint word) { return uintBitsToBFloat16EXT(uint16_t(word)); }
bfloat16_t high_bf16(uint word) { return uintBitsToBFloat16EXT(uint16_t(word >> 16)); }

#define CLEAR(c) c = SUMS(0.0);
// An implementation numbers a left operand's elements row by row: words x, z, y, w.
#define SET_LEFT(m, words) { \
	m[0] = low_bf16(words.x); m[1] = high_bf16(words.x); m[2] = low_bf16(words.z); m[3] = high_bf16(words.z); \
	m[4] = low_bf16(words.y); m[5] = high_bf16(words.y); m[6] = low_bf16(words.w); m[7] = high_bf16(words.w); }
#define SET_RIGHT(m, words) { \
	m[0] = low_bf16(words.x); m[1] = high_bf16(words.x); m[2] = low_bf16(words.y); m[3] = high_bf16(words.y); \
	m[4] = low_bf16(words.z); m[5] = high_bf16(words.z); m[6] = low_bf16(words.w); m[7] = high_bf16(words.w); }
// Computed halves that are packed into one word make wrong elements with the driver measured (NVIDIA 580): each element is rounded by itself.
#define WEIGHTS(m, p) { [[unroll]] for (uint weight_ = 0; weight_ < 8; weight_++) m[weight_] = low_bf16(floatBitsToUint(p[weight_]) + 0x8000u >> 16); }
#define MULTIPLY(c, a, b) c = coopMatMulAdd(a, b, c);
#define FROM_LANE(x, other) subgroupShuffleXor(x, other)

#endif
