#version 450
// Linear layer in 8-bit integers by cooperative matrices:
//
//   y[m, n] = f(x_scale[m] w_scale[n] · sum over k of x[m, k] w[n, k] + bias[n]); see include/linear.glsl.
//
// x and w are signed bytes in [-127, 127]; sums are 32-bit integers, so they are exact whatever their order, and the
// result is the same bits for every tile and as that of matmul_int8.comp.
//
// The structure is that of matmul_matrix.comp: one workgroup computes TILE_M × TILE_N outputs, each of its subgroups
// SUB_M × SUB_N of them, and walks K in steps of TILE_K. The next slices come from memory into registers, RUN bytes an
// invocation at a time, while the present ones are multiplied out of shared memory, where rows are 16 bytes longer than a
// slice. At the end the sums go through shared memory, so that y is written in whole rows.
//
// matmul_int8_matrix moves runs of 16 bytes, for matrices whose MAT_K is a multiple of 16; matmul_int8_matrix_short runs of
// 8 bytes, for others.
//
// Limits: K a multiple of 64; x and w start at multiples of 16 bytes; TILE_K a multiple of MAT_K and RUN, SUB_* of MAT_*,
// TILE_* of SUB_*; (TILE_M / SUB_M) (TILE_N / SUB_N) full subgroups of SUBGROUP invocations are the workgroup. VEC_N: head
// and the columns are multiples of 4 and y starts at a multiple of 16 bytes. FULL_K: K is a multiple of TILE_K.
// Shared memory: RUN · STAGE bytes.
//
// in: x (0), w (1), bias (2, optional), gate (4, f32, optional), x_scale (5, f32), w_scale (6, f32)    in and out: y (3)
//
//@variant matmul_int8_matrix
//@variant matmul_int8_matrix_short SHORT

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#extension GL_EXT_control_flow_attributes : require
#include "linear.glsl"

layout(constant_id = 9) const bool VEC_N = false;
layout(constant_id = 20) const uint TILE_M = 64;
layout(constant_id = 21) const uint TILE_N = 64;
layout(constant_id = 22) const uint TILE_K = 64;
layout(constant_id = 23) const uint SUB_M = 32;
layout(constant_id = 24) const uint SUB_N = 32;
layout(constant_id = 25) const uint SUBGROUP = 32;
layout(constant_id = 26) const uint MAT_M = 16;
layout(constant_id = 27) const uint MAT_N = 16;
layout(constant_id = 28) const uint MAT_K = 32;
layout(constant_id = 29) const bool FULL_K = false;
layout(local_size_x_id = 30) in;
layout(local_size_x = 128) in;

TENSOR_IN(5, x_scale, DTYPE_F32)
TENSOR_IN_VEC(6, w_scale, DTYPE_F32)

#ifdef SHORT
#define WORD uvec2
#define x_runs x_pairs
#define w_runs w_pairs
const uint RUN = 8, PAD = 2;
#else
#define WORD uvec4
#define x_runs x_quads
#define w_runs w_quads
const uint RUN = 16, PAD = 1; // bytes of a word of shared memory, and words of padding of a row
#endif

const uint FRAGS_M = SUB_M / MAT_M;
const uint FRAGS_N = SUB_N / MAT_N;
const uint STEPS = TILE_K / MAT_K;
const uint SUBS_N = TILE_N / SUB_N;
const uint THREADS = TILE_M / SUB_M * SUBS_N * SUBGROUP;
const uint RUNS = TILE_K / RUN;
const uint PITCH = RUNS + PAD;              // of a row of operands in shared memory, in words
const uint QUAD = 16 / RUN;                 // words of four sums
const uint PITCH_Y = SUB_N / 4 * QUAD + PAD; // of a row of sums
const uint LOADS_A = (TILE_M * RUNS + THREADS - 1) / THREADS;
const uint LOADS_B = (TILE_N * RUNS + THREADS - 1) / THREADS;
const uint OPERANDS = (TILE_M + TILE_N) * PITCH;
const uint SUMS = THREADS / SUBGROUP * MAT_M * PITCH_Y;
const uint STAGE = OPERANDS > SUMS ? OPERANDS : SUMS;

shared WORD stage[STAGE]; // rows of x's slice, then of w's; at the end a strip of sums for each subgroup

WORD next_a[LOADS_A], next_b[LOADS_B]; // the next slice

// fetch brings the slices that begin at k0 into registers. Rows beyond the last repeat it: what becomes of them is not
// stored. Beyond K there are zeros.
void fetch(uint m0, uint n0, uint k0) {
	[[unroll]] for (uint i = 0; i < LOADS_A; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		uint row = min(m0 + u / RUNS, pc.rows - 1), k = k0 + u % RUNS * RUN;
		next_a[i] = WORD(0);
		if ((TILE_M * RUNS % THREADS == 0 || u < TILE_M * RUNS) && (FULL_K || k < pc.k)) next_a[i] = x_runs[row * (pc.k / RUN) + k / RUN];
	}
	[[unroll]] for (uint i = 0; i < LOADS_B; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		uint col = min(n0 + u / RUNS, pc.cols - 1), k = k0 + u % RUNS * RUN;
		next_b[i] = WORD(0);
		if ((TILE_N * RUNS % THREADS == 0 || u < TILE_N * RUNS) && (FULL_K || k < pc.k)) next_b[i] = w_runs[col * (pc.k / RUN) + k / RUN];
	}
}

// put stores the slices that were fetched.
void put() {
	[[unroll]] for (uint i = 0; i < LOADS_A; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (TILE_M * RUNS % THREADS == 0 || u < TILE_M * RUNS) stage[u / RUNS * PITCH + u % RUNS] = next_a[i];
	}
	[[unroll]] for (uint i = 0; i < LOADS_B; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (TILE_N * RUNS % THREADS == 0 || u < TILE_N * RUNS) stage[(TILE_M + u / RUNS) * PITCH + u % RUNS] = next_b[i];
	}
}

// finish_quad scales four neighbours of a row and writes them.
void finish_quad(uint row, uint col, ivec4 sum) {
	if (row >= pc.rows || col >= pc.cols) return;
	float by = x_scale_load(row);
	if (VEC_N) {
		uint at = y_index(row, col);
		vec4 old = vec4(0.0);
		if (ADD) old = y_load4(at);
		vec4 v = vec4(sum) * (by * w_scale_load4(col));
		[[unroll]] for (uint j = 0; j < 4; j++) v[j] = finish(v[j], col + j, old[j]);
		y_store4(at, v);
		return;
	}
	[[unroll]] for (uint j = 0; j < 4; j++) {
		if (col + j < pc.cols) finish_store(row, col + j, float(sum[j]) * (by * w_scale_load(col + j)));
	}
}

#define MATRIX_SUM coopmat<int, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator>

void main() {
	// Workgroups walk the result in bands of row tiles, as in matmul_matrix.comp.
	uint id = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	uint first = id / (pc.band * gl_NumWorkGroups.x) * pc.band;
	uint high = min(pc.band, gl_NumWorkGroups.y - first);
	uint within = id - first * gl_NumWorkGroups.x;
	uint m0 = (first + within % high) * TILE_M;
	uint n0 = within / high * TILE_N;
	uint sub_m = gl_SubgroupID / SUBS_N * SUB_M;
	uint sub_n = gl_SubgroupID % SUBS_N * SUB_N;

	MATRIX_SUM sums[FRAGS_M * FRAGS_N];
	[[unroll]] for (uint i = 0; i < FRAGS_M * FRAGS_N; i++) sums[i] = MATRIX_SUM(0);
	coopmat<int8_t, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> a[FRAGS_M];
	coopmat<int8_t, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> b[FRAGS_N];

	fetch(m0, n0, 0);
	for (uint k0 = 0; k0 < pc.k; k0 += TILE_K) {
		barrier(); // all have done with the slice before
		put();
		barrier();
		if (k0 + TILE_K < pc.k) fetch(m0, n0, k0 + TILE_K);
		[[unroll]] for (uint s = 0; s < STEPS; s++) {
			[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
				coopMatLoad(a[i], stage, (sub_m + i * MAT_M) * PITCH + s * (MAT_K / RUN), PITCH, gl_CooperativeMatrixLayoutRowMajor);
			[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
				coopMatLoad(b[j], stage, (TILE_M + sub_n + j * MAT_N) * PITCH + s * (MAT_K / RUN), PITCH, gl_CooperativeMatrixLayoutColumnMajor);
			[[unroll]] for (uint j = 0; j < FRAGS_N; j++) {
				[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
					sums[i * FRAGS_N + j] = coopMatMulAdd(a[i], b[j], sums[i * FRAGS_N + j]);
			}
		}
	}

	// The sums go through shared memory a strip of matrices at a time; a subgroup's strip is its own.
	barrier();
	uint strip = gl_SubgroupID * (MAT_M * PITCH_Y);
	[[unroll]] for (uint i = 0; i < FRAGS_M; i++) {
		[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
			coopMatStore(sums[i * FRAGS_N + j], stage, strip + j * (MAT_N / 4 * QUAD), PITCH_Y, gl_CooperativeMatrixLayoutRowMajor);
		subgroupBarrier();
		for (uint e = gl_SubgroupInvocationID; e < MAT_M * (SUB_N / 4); e += SUBGROUP) {
			uint row = e / (SUB_N / 4), quad = e % (SUB_N / 4);
			uint at = strip + row * PITCH_Y + quad * QUAD;
#ifdef SHORT
			ivec4 sum = ivec4(stage[at], stage[at + 1]);
#else
			ivec4 sum = ivec4(stage[at]);
#endif
			finish_quad(m0 + sub_m + i * MAT_M + row, n0 + sub_n + quad * 4, sum);
		}
		subgroupBarrier();
	}
}
