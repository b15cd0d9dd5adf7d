#version 450
// Linear layer by cooperative matrices: y[m, n] = f(sum over k of x[m, k] w[n, k] + bias[n]); see include/linear.glsl.
//
// One workgroup computes TILE_M × TILE_N outputs, each of its subgroups SUB_M × SUB_N of them in products of
// MAT_M × MAT_K by MAT_K × MAT_N matrices, operands bf16 or fp16, sums fp32. It walks K in steps of TILE_K. The operands'
// next slices come from memory into registers, 16 bytes an invocation, while the present ones are multiplied out of
// shared memory, where rows are 16 bytes longer than a slice: rows that are read together lie in different banks. At the
// end the sums go through shared memory, so that y is written in whole rows and the epilogue sees one element at a time.
//
// Each element is summed over k in the same order wherever it lies in a tile, so a result depends neither on the tile
// nor on how the rows and columns are cut into dispatches, which are cut at multiples of TILE_M.
//
// Variant matmul_matrix_bf16 takes x and w in bf16 as they are. matmul_matrix_f16 takes any types: what is not f16 is
// converted on the way to shared memory. x is scaled by a power of two for that, which brings the first slice's largest
// magnitude into [2^7, 2^8) and is lowered (with the sums) when a later slice would leave fp16's range; a bf16 value is
// then held exactly down to 2^-25 of the tile's largest. w is not scaled: its values must be below fp16's 65504.
//
// Limits: K a multiple of 8; x and w start at multiples of 16 bytes; TILE_K a multiple of MAT_K and 8, SUB_* of MAT_*,
// TILE_* of SUB_*; (TILE_M / SUB_M) (TILE_N / SUB_N) full subgroups of SUBGROUP invocations are the workgroup. VEC_N: head
// and the columns are multiples of 4 and y starts at a multiple of 16 bytes. FULL_K: K is a multiple of TILE_K.
// Shared memory: 16 times STAGE bytes, 8 more in matmul_matrix_f16, 64 more with NF4.
//
// in: x (0), w (1), bias (2, optional), gate (4, f32, optional)       in and out: y (3)
//
//@variant matmul_matrix_bf16 BF16
//@variant matmul_matrix_f16
//@variant matmul_matrix_bf16_nf4 BF16 NF4
//@variant matmul_matrix_f16_nf4 NF4

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#ifdef BF16
#extension GL_EXT_bfloat16 : require
#define OPERAND bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define OPERAND float16_t
#endif
#include "linear.glsl"

layout(constant_id = 9) const bool VEC_N = false;
layout(constant_id = 20) const uint TILE_M = 64;
layout(constant_id = 21) const uint TILE_N = 64;
layout(constant_id = 22) const uint TILE_K = 32;
layout(constant_id = 23) const uint SUB_M = 32;
layout(constant_id = 24) const uint SUB_N = 32;
layout(constant_id = 25) const uint SUBGROUP = 32;
layout(constant_id = 26) const uint MAT_M = 16;
layout(constant_id = 27) const uint MAT_N = 16;
layout(constant_id = 28) const uint MAT_K = 16;
layout(constant_id = 29) const bool FULL_K = false;
layout(constant_id = 30) const bool AHEAD = false; // matrices of the next step along k are loaded before this one's products
layout(local_size_x_id = 31) in;
layout(local_size_x = 128) in;

const uint FRAGS_M = SUB_M / MAT_M;
const uint FRAGS_N = SUB_N / MAT_N;
const uint STEPS = TILE_K / MAT_K;
const uint SUBS_N = TILE_N / SUB_N;
const uint THREADS = TILE_M / SUB_M * SUBS_N * SUBGROUP;
const uint RUNS = TILE_K / 8;    // runs of 8 along k, 16 bytes each
const uint PITCH = RUNS + 1;     // of a row of operands in shared memory, in runs
const uint PITCH_Y = SUB_N / 4 + 1; // of a row of sums
const uint LOADS_A = (TILE_M * RUNS + THREADS - 1) / THREADS;
const uint LOADS_B = (TILE_N * RUNS + THREADS - 1) / THREADS;
const uint OPERANDS = (TILE_M + TILE_N) * PITCH;
const uint SUMS = THREADS / SUBGROUP * MAT_M * PITCH_Y;
const uint STAGE = OPERANDS > SUMS ? OPERANDS : SUMS;
const uint BUFFERS = AHEAD ? 2 : 1;

shared uvec4 stage[STAGE]; // rows of x's slice, then of w's; at the end a strip of sums for each subgroup

// What was fetched for the next slice, as it lies in memory: a run of f32 is two words.
#ifdef BF16
const uint WORDS_A = 1, WORDS_B = 1;
#else
const uint WORDS_A = X_TYPE == DTYPE_F32 ? 2 : 1;
const uint WORDS_B = W_TYPE == DTYPE_F32 ? 2 : 1;
#endif
uvec4 next_a[LOADS_A * WORDS_A];
#ifdef NF4
uvec2 next_b[LOADS_B]; // codes, and the scale of their block
#else
uvec4 next_b[LOADS_B * WORDS_B];
#endif

// fetch brings the slices that begin at k0 into registers. Rows beyond the last repeat it: what becomes of them is not
// stored. Beyond K there are zeros.
void fetch(uint m0, uint n0, uint k0) {
	[[unroll]] for (uint i = 0; i < LOADS_A; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		uint row = min(m0 + u / RUNS, pc.rows - 1), k = k0 + u % RUNS * 8;
		bool there = (TILE_M * RUNS % THREADS == 0 || u < TILE_M * RUNS) && (FULL_K || k < pc.k);
		[[unroll]] for (uint j = 0; j < WORDS_A; j++) {
			next_a[i * WORDS_A + j] = uvec4(0);
			if (there) next_a[i * WORDS_A + j] = x_quads[(row * pc.k + k) / 8 * WORDS_A + j];
		}
	}
	[[unroll]] for (uint i = 0; i < LOADS_B; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		uint col = min(n0 + u / RUNS, pc.cols - 1), k = k0 + u % RUNS * 8;
		bool there = (TILE_N * RUNS % THREADS == 0 || u < TILE_N * RUNS) && (FULL_K || k < pc.k);
#ifdef NF4
		next_b[i] = uvec2(0);
		uint at = nf4_index(col * pc.k + k);
		if (there) next_b[i] = uvec2(w_words[pc.w_codes + at / 8], floatBitsToUint(nf4_scale(at / 64)));
#else
		[[unroll]] for (uint j = 0; j < WORDS_B; j++) {
			next_b[i * WORDS_B + j] = uvec4(0);
			if (there) next_b[i * WORDS_B + j] = w_quads[(col * pc.k + k) / 8 * WORDS_B + j];
		}
#endif
	}
}

#ifdef BF16
uvec4 operand_a(uint i) { return next_a[i]; }
#ifdef NF4
uvec4 operand_b(uint i) {
	vec4 lo, hi;
	nf4_unpack(next_b[i].x, uintBitsToFloat(next_b[i].y), lo, hi);
	uvec4 l = floatBitsToUint(lo), h = floatBitsToUint(hi); // rounded already: the lower halves are zero
	return uvec4(l.x >> 16 | l.y, l.z >> 16 | l.w, h.x >> 16 | h.y, h.z >> 16 | h.w);
}
#else
uvec4 operand_b(uint i) { return next_b[i]; }
#endif
#else
shared uint slice_top[2]; // largest exponent of x in even and odd slices
int power = -126;         // x is held times 2^-power
float down;               // 2^-power

uvec4 to_half(vec4 lo, vec4 hi) {
	return uvec4(packHalf2x16(lo.xy), packHalf2x16(lo.zw), packHalf2x16(hi.xy), packHalf2x16(hi.zw));
}

uvec4 operand_a(uint i) {
	if (X_TYPE == DTYPE_F16) return next_a[i];
	if (X_TYPE == DTYPE_F32) return to_half(uintBitsToFloat(next_a[i * WORDS_A]) * down, uintBitsToFloat(next_a[i * WORDS_A + WORDS_A - 1]) * down);
	return to_half(dtype_unpack(next_a[i].xy, X_TYPE) * down, dtype_unpack(next_a[i].zw, X_TYPE) * down);
}

#ifdef NF4
uvec4 operand_b(uint i) {
	vec4 lo, hi;
	nf4_unpack(next_b[i].x, uintBitsToFloat(next_b[i].y), lo, hi);
	return to_half(lo, hi);
}
#else
uvec4 operand_b(uint i) {
	if (W_TYPE == DTYPE_F16) return next_b[i];
	if (W_TYPE == DTYPE_F32) return to_half(uintBitsToFloat(next_b[i * WORDS_B]), uintBitsToFloat(next_b[i * WORDS_B + WORDS_B - 1]));
	return to_half(dtype_unpack(next_b[i].xy, W_TYPE), dtype_unpack(next_b[i].zw, W_TYPE));
}
#endif

// exponents returns the largest biased exponent of the numbers in a word, leaving out infinities and NaN: those stay what
// they are, and must not push others out of range.
uint exponents(uint word) {
	uint high = (word >> 23) & 0xffu;
	uint low = X_TYPE == DTYPE_F32 ? 0 : (word >> 7) & 0xffu;
	return max(high == 255 ? 0 : high, low == 255 ? 0 : low);
}

// note_top takes part in finding the largest exponent of the slice that was fetched.
void note_top(uint parity) {
	uint top = 0;
	[[unroll]] for (uint i = 0; i < LOADS_A * WORDS_A; i++) {
		[[unroll]] for (uint j = 0; j < 4; j++) top = max(top, exponents(next_a[i][j]));
	}
	top = subgroupMax(top);
	if (subgroupElect()) atomicMax(slice_top[parity], top);
}
#endif

// put stores the slices that were fetched.
void put() {
	[[unroll]] for (uint i = 0; i < LOADS_A; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (TILE_M * RUNS % THREADS == 0 || u < TILE_M * RUNS) stage[u / RUNS * PITCH + u % RUNS] = operand_a(i);
	}
	[[unroll]] for (uint i = 0; i < LOADS_B; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (TILE_N * RUNS % THREADS == 0 || u < TILE_N * RUNS) stage[(TILE_M + u / RUNS) * PITCH + u % RUNS] = operand_b(i);
	}
}

// finish_quad writes four neighbours of a row.
void finish_quad(uint row, uint col, vec4 v) {
	if (row >= pc.rows || col >= pc.cols) return;
	if (VEC_N) {
		uint at = y_index(row, col);
		vec4 old = vec4(0.0);
		if (ADD) old = y_load4(at);
		[[unroll]] for (uint j = 0; j < 4; j++) v[j] = finish(v[j], col + j, old[j]);
		y_store4(at, v);
		return;
	}
	[[unroll]] for (uint j = 0; j < 4; j++) {
		if (col + j < pc.cols) finish_store(row, col + j, v[j]);
	}
}

// Workgroups run in bands of pc.band row tiles, down the rows first: those at work at one time share rows of x and of w,
// which then come from the cache.

#define MATRIX_SUM coopmat<float, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator>

void main() {
#ifdef NF4
	nf4_begin();
#endif
	uint id = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	uint first = id / (pc.band * gl_NumWorkGroups.x) * pc.band;
	uint high = min(pc.band, gl_NumWorkGroups.y - first);
	uint within = id - first * gl_NumWorkGroups.x;
	uint m0 = (first + within % high) * TILE_M;
	uint n0 = within / high * TILE_N;
	uint sub_m = gl_SubgroupID / SUBS_N * SUB_M;
	uint sub_n = gl_SubgroupID % SUBS_N * SUB_N;

	MATRIX_SUM sums[FRAGS_M * FRAGS_N];
	[[unroll]] for (uint i = 0; i < FRAGS_M * FRAGS_N; i++) sums[i] = MATRIX_SUM(0.0);
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> a[BUFFERS * FRAGS_M];
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> b[BUFFERS * FRAGS_N];

#ifndef BF16
	if (gl_LocalInvocationIndex < 2) slice_top[gl_LocalInvocationIndex] = 0;
	down = uintBitsToFloat(uint(127 - power) << 23);
	uint parity = 0;
	barrier();
#endif
	fetch(m0, n0, 0);
	for (uint k0 = 0; k0 < pc.k; k0 += TILE_K) {
#ifndef BF16
		if (X_TYPE != DTYPE_F16) note_top(parity);
#endif
		barrier(); // all have done with the slice before
#ifndef BF16
		if (X_TYPE != DTYPE_F16) {
			int top = int(slice_top[parity]) - 126; // magnitudes are below 2^top
			parity ^= 1;
			if (gl_LocalInvocationIndex == 0) slice_top[parity] = 0;
			if (top > power + 15) {
				float shrink = uintBitsToFloat(uint(max(127 + power - (top - 8), 1)) << 23);
				power = top - 8;
				down = uintBitsToFloat(uint(127 - power) << 23);
				[[unroll]] for (uint i = 0; i < FRAGS_M * FRAGS_N; i++) sums[i] = sums[i] * shrink;
			}
		}
#endif
		put();
		barrier();
		if (k0 + TILE_K < pc.k) fetch(m0, n0, k0 + TILE_K);

		if (AHEAD) {
			[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
				coopMatLoad(a[i], stage, (sub_m + i * MAT_M) * PITCH, PITCH, gl_CooperativeMatrixLayoutRowMajor);
			[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
				coopMatLoad(b[j], stage, (TILE_M + sub_n + j * MAT_N) * PITCH, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
		}
		[[unroll]] for (uint s = 0; s < STEPS; s++) {
			uint load = AHEAD ? s + 1 : s;
			uint into = load % BUFFERS, from = s % BUFFERS;
			if (load < STEPS) {
				[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
					coopMatLoad(a[into * FRAGS_M + i], stage, (sub_m + i * MAT_M) * PITCH + load * (MAT_K / 8), PITCH, gl_CooperativeMatrixLayoutRowMajor);
				[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
					coopMatLoad(b[into * FRAGS_N + j], stage, (TILE_M + sub_n + j * MAT_N) * PITCH + load * (MAT_K / 8), PITCH, gl_CooperativeMatrixLayoutColumnMajor);
			}
			[[unroll]] for (uint j = 0; j < FRAGS_N; j++) {
				[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
					sums[i * FRAGS_N + j] = coopMatMulAdd(a[from * FRAGS_M + i], b[from * FRAGS_N + j], sums[i * FRAGS_N + j]);
			}
		}
	}

	// The sums go through shared memory a strip of matrices at a time; a subgroup's strip is its own.
	barrier();
	uint strip = gl_SubgroupID * (MAT_M * PITCH_Y);
	[[unroll]] for (uint i = 0; i < FRAGS_M; i++) {
		[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
			coopMatStore(sums[i * FRAGS_N + j], stage, strip + j * (MAT_N / 4), PITCH_Y, gl_CooperativeMatrixLayoutRowMajor);
		subgroupBarrier();
		for (uint e = gl_SubgroupInvocationID; e < MAT_M * (SUB_N / 4); e += SUBGROUP) {
			uint row = e / (SUB_N / 4), quad = e % (SUB_N / 4);
			vec4 v = uintBitsToFloat(stage[strip + row * PITCH_Y + quad]);
#ifndef BF16
			if (X_TYPE != DTYPE_F16) v *= uintBitsToFloat(uint(127 + power) << 23);
#endif
			finish_quad(m0 + sub_m + i * MAT_M + row, n0 + sub_n + quad * 4, v);
		}
		subgroupBarrier();
	}
}
