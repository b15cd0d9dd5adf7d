#version 450
// Causal 3-D convolution by cooperative matrices, channels last, one output frame (or some rows of it) a dispatch; what
// it computes stands in conv3d.comp. Here nearest-neighbour upsampling is folded into the weights: the FH × FW pixels
// that come of one source pixel are phases, each a convolution of the source of its own, with fewer taps.
//
// Positions are those of the output, or of the source where FH or FW is 2. One workgroup computes a rectangle of
// TILE_H × TILE_W positions and TILE_N output channels of one phase, each of its subgroups SUB_M × SUB_N of that in
// products of MAT_M × MAT_K by MAT_K × MAT_N matrices, operands fp16, sums fp32. For each tap in time and each SLICE of
// the channels it brings the pixels that the rectangle's taps touch into shared memory once, edges replicated; the taps
// of rows and columns then read it at different places, so that a pixel comes from memory once for all of them. The next
// slice is read into registers while this one is multiplied. Rows of shared memory are 16 bytes longer than a slice: rows
// that are read together lie in different banks.
//
// Weights of TAPS_W taps at a time, KH · KW / TAPS_W times a slice, go through shared memory too. Where upsampling is
// folded into them each phase has weights of its own, one after the other (ops.FoldConvWeights).
//
// x of f16 is taken as it is. Other types are converted on the way to shared memory, scaled by a power of two that
// brings the first slice's largest magnitude into [2^7, 2^8) and is lowered (with the sums) when a later slice would leave
// fp16's range, as in matmul_matrix.comp.
//
// Each element is summed over k in the same order wherever it lies and whatever the tile, SLICE apart; so how an output is
// cut into dispatches, at multiples of TILE_H, changes nothing.
//
// w is not scaled: its values must be below fp16's 65504.
//
// Limits: CHANNELS a multiple of SLICE, SLICE of MAT_K and 8, TILE_W of MAT_M, KH · KW of TAPS_W; all x_base and w_base of 8.
// VEC_N: cols, y_base and residual_base are multiples of 4. Bound ranges start at multiples of 16 bytes. FH = 2 needs
// KH = 2 and SH = 1, and columns alike.
//
// in: x (0, 1, 2: a source frame for each tap in time), w (3) [phases, cols, taps_t, KH, KW, CHANNELS], bias (4, optional),
// residual (5, optional)     out: y (6)

#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "tensor.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint W_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint BIAS_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint RESIDUAL_TYPE = DTYPE_F32;
layout(constant_id = 4) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 5) const bool VEC_N = false;
layout(constant_id = 6) const bool BIAS = false;
layout(constant_id = 7) const bool RESIDUAL = false;
layout(constant_id = 8) const uint CHANNELS = 16;
layout(constant_id = 9) const uint KH = 1;
layout(constant_id = 10) const uint KW = 1;
layout(constant_id = 11) const uint SH = 1;
layout(constant_id = 12) const uint SW = 1;
layout(constant_id = 13) const uint FH = 1;
layout(constant_id = 14) const uint FW = 1;
layout(constant_id = 15) const uint TILE_H = 4;
layout(constant_id = 16) const uint TILE_W = 16;
layout(constant_id = 17) const uint TILE_N = 64;
layout(constant_id = 18) const uint SUB_M = 32;
layout(constant_id = 19) const uint SUB_N = 32;
layout(constant_id = 20) const uint SLICE = 16;
layout(constant_id = 21) const uint TAPS_W = 1;
layout(constant_id = 22) const uint SUBGROUP = 32;
layout(constant_id = 23) const uint MAT_M = 16;
layout(constant_id = 24) const uint MAT_N = 16;
layout(constant_id = 25) const uint MAT_K = 16;
layout(local_size_x_id = 31) in;
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint rows;      // of positions in this dispatch
	uint cols;      // output channels
	uint taps_t;    // in time
	uint height;    // of a source frame, pixels
	uint width;
	uint out_width; // positions
	uint first_row; // the row of positions that the dispatch begins with
	uint src_row;   // the source frame's row of pixels that x_base points to
	uint x_base[3]; // elements before source row src_row in the bound range, per tap in time
	uint w_base;
	uint bias_base;
	uint residual_base;
	uint y_base;
} pc;

TENSOR_IN_VEC(0, x0, X_TYPE)
TENSOR_IN_VEC(1, x1, X_TYPE)
TENSOR_IN_VEC(2, x2, X_TYPE)
TENSOR_IN_VEC(3, w, W_TYPE)
TENSOR_IN(4, bias, BIAS_TYPE)
TENSOR_IN_VEC(5, residual, RESIDUAL_TYPE)
TENSOR_OUT_VEC(6, y, Y_TYPE)

const uint SUBS_N = TILE_N / SUB_N;
const uint THREADS = TILE_H * TILE_W / SUB_M * SUBS_N * SUBGROUP;
const uint FRAGS_M = SUB_M / MAT_M;
const uint FRAGS_N = SUB_N / MAT_N;
const uint FRAGS_W = TILE_W / MAT_M; // matrices side by side in a row of positions
const uint PATCH_H = (TILE_H - 1) * SH + KH;
const uint PATCH_W = (TILE_W - 1) * SW + KW;
const uint RUNS = SLICE / 8;  // of 8 channels, 16 bytes
const uint RUNS_W = TAPS_W * RUNS;
const uint PITCH = RUNS + 1;        // of a pixel in shared memory, in runs
const uint PITCH_W = RUNS_W + 1;    // of a row of weights
const uint PITCH_Y = SUB_N / 4 + 1; // of a row of sums
const uint PATCH = PATCH_H * PATCH_W * RUNS;
const uint LOADS = (PATCH + THREADS - 1) / THREADS;
const uint LOADS_W = (TILE_N * RUNS_W + THREADS - 1) / THREADS;
const uint GROUPS = KH * KW / TAPS_W; // of taps, in a slice
const uint DEPTH = SLICE / MAT_K;     // products along a slice
const uint STAGE_W = PATCH_H * PATCH_W * PITCH; // where the weights begin
const uint OPERANDS = STAGE_W + TILE_N * PITCH_W;
const uint SUMS = THREADS / SUBGROUP * MAT_M * PITCH_Y;
const uint STAGE = OPERANDS > SUMS ? OPERANDS : SUMS;
const uint WORDS = X_TYPE == DTYPE_F32 ? 2 : 1; // of 16 bytes, of a run in memory
const uint WORDS_W = W_TYPE == DTYPE_F32 ? 2 : 1;

shared uvec4 stage[STAGE]; // the patch's pixels, then rows of weights; at the end a strip of sums for each subgroup
shared uint slice_top[2];  // largest exponent of x in even and odd slices

uint place[LOADS];         // of an invocation's runs in a source frame, in runs of 8 channels
uint place_w[LOADS_W];     // and in the weights
uvec4 next[LOADS * WORDS]; // what was fetched of the next slice, as it lies in memory
uvec4 next_w[LOADS_W * WORDS_W];

// locate finds where the runs that this invocation brings lie in a frame.
void locate(uint h0, uint w0, uint pad_h, uint pad_w) {
	[[unroll]] for (uint i = 0; i < LOADS; i++) {
		uint u = min(gl_LocalInvocationIndex + i * THREADS, PATCH - 1);
		uint pixel = u / RUNS;
		// Rows that only positions beyond the dispatch's touch need not be bound.
		uint row = min((pc.first_row + h0) * SH + pixel / PATCH_W, (pc.first_row + pc.rows - 1) * SH + KH - 1);
		uint col = w0 * SW + pixel % PATCH_W;
		row = clamp(row, pad_h, pc.height - 1 + pad_h) - pad_h - pc.src_row;
		col = clamp(col, pad_w, pc.width - 1 + pad_w) - pad_w;
		place[i] = (row * pc.width + col) * (CHANNELS / 8) + u % RUNS;
	}
}

// fetch brings a slice into registers.
void fetch(uint slice) {
	uint dt = slice / (CHANNELS / SLICE);
	uint at = (pc.x_base[dt] + slice % (CHANNELS / SLICE) * SLICE) / 8;
	if (dt == 0) {
		[[unroll]] for (uint i = 0; i < LOADS * WORDS; i++) next[i] = x0_quads[(at + place[i / WORDS]) * WORDS + i % WORDS];
	} else if (dt == 1) {
		[[unroll]] for (uint i = 0; i < LOADS * WORDS; i++) next[i] = x1_quads[(at + place[i / WORDS]) * WORDS + i % WORDS];
	} else {
		[[unroll]] for (uint i = 0; i < LOADS * WORDS; i++) next[i] = x2_quads[(at + place[i / WORDS]) * WORDS + i % WORDS];
	}
}

int power = -126; // x is held times 2^-power
float down;       // 2^-power

uvec4 to_half(vec4 lo, vec4 hi) {
	return uvec4(packHalf2x16(lo.xy), packHalf2x16(lo.zw), packHalf2x16(hi.xy), packHalf2x16(hi.zw));
}

uvec4 operand(uint i) {
	if (X_TYPE == DTYPE_F16) return next[i];
	if (X_TYPE == DTYPE_F32) return to_half(uintBitsToFloat(next[i * WORDS]) * down, uintBitsToFloat(next[i * WORDS + WORDS - 1]) * down);
	return to_half(dtype_unpack(next[i].xy, X_TYPE) * down, dtype_unpack(next[i].zw, X_TYPE) * down);
}

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
	[[unroll]] for (uint i = 0; i < LOADS * WORDS; i++) {
		[[unroll]] for (uint j = 0; j < 4; j++) top = max(top, exponents(next[i][j]));
	}
	top = subgroupMax(top);
	if (subgroupElect()) atomicMax(slice_top[parity], top);
}

void put() {
	[[unroll]] for (uint i = 0; i < LOADS; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (PATCH % THREADS == 0 || u < PATCH) stage[u / RUNS * PITCH + u % RUNS] = operand(i);
	}
}

// locate_w finds where the runs of weights lie that this invocation brings. Rows beyond the last repeat it: what becomes of
// them is not stored.
void locate_w(uint n0, uint phase) {
	uint row = pc.taps_t * KH * KW * (CHANNELS / 8);
	[[unroll]] for (uint i = 0; i < LOADS_W; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		uint n = min(n0 + u / RUNS_W, pc.cols - 1), run = u % RUNS_W;
		place_w[i] = pc.w_base / 8 + (phase * pc.cols + n) * row + run / RUNS * (CHANNELS / 8) + run % RUNS;
	}
}

// fetch_w brings a group of taps' weights for a slice into registers.
void fetch_w(uint slice, uint group) {
	const uint per_tap = CHANNELS / SLICE;
	uint at = ((slice / per_tap * GROUPS + group) * TAPS_W * per_tap + slice % per_tap) * RUNS;
	[[unroll]] for (uint i = 0; i < LOADS_W; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		[[unroll]] for (uint j = 0; j < WORDS_W; j++) {
			if (TILE_N * RUNS_W % THREADS == 0 || u < TILE_N * RUNS_W) next_w[i * WORDS_W + j] = w_quads[(at + place_w[i]) * WORDS_W + j];
		}
	}
}

uvec4 operand_w(uint i) {
	if (W_TYPE == DTYPE_F16) return next_w[i];
	if (W_TYPE == DTYPE_F32) return to_half(uintBitsToFloat(next_w[i * WORDS_W]), uintBitsToFloat(next_w[i * WORDS_W + WORDS_W - 1]));
	return to_half(dtype_unpack(next_w[i].xy, W_TYPE), dtype_unpack(next_w[i].zw, W_TYPE));
}

void put_w() {
	[[unroll]] for (uint i = 0; i < LOADS_W; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (TILE_N * RUNS_W % THREADS == 0 || u < TILE_N * RUNS_W) stage[STAGE_W + u / RUNS_W * PITCH_W + u % RUNS_W] = operand_w(i);
	}
}

// Where an invocation's quads of a strip of matrices' results lie: quad e of it is that many quads of the strip further on.
const uint QUADS = MAT_M * (SUB_N / 4) / SUBGROUP;

// residual_strip reads what is added to a strip's results.
void residual_strip(out vec4 old[QUADS], uint row, uint col, uint phase_h, uint phase_w, uint n0) {
	[[unroll]] for (uint q = 0; q < QUADS; q++) {
		uint e = gl_SubgroupInvocationID + q * SUBGROUP;
		uint m = col + e / (SUB_N / 4), n = n0 + e % (SUB_N / 4) * 4;
		old[q] = vec4(0.0);
		if (row >= pc.rows || m >= pc.out_width || n >= pc.cols) continue;
		uint at = pc.residual_base + ((row * FH + phase_h) * pc.out_width * FW + m * FW + phase_w) * pc.cols + n;
		if (VEC_N) old[q] = residual_load4(at);
		else {
			[[unroll]] for (uint j = 0; j < 4; j++) {
				if (n + j < pc.cols) old[q][j] = residual_load(at + j);
			}
		}
	}
}

// finish_quad writes four neighbouring channels of a position.
void finish_quad(uint row, uint col, uint pixel, vec4 v, uint n) {
	if (row >= pc.rows || col >= pc.out_width || n >= pc.cols) return;
	uint at = pc.y_base + pixel * pc.cols + n;
	if (VEC_N) {
		y_store4(at, v);
		return;
	}
	[[unroll]] for (uint j = 0; j < 4; j++) {
		if (n + j < pc.cols) y_store(at + j, v[j]);
	}
}

vec4 bias_quad(uint n) {
	vec4 v = vec4(0.0);
	if (BIAS) {
		[[unroll]] for (uint j = 0; j < 4; j++) v[j] = bias_load(pc.bias_base + min(n + j, pc.cols - 1));
	}
	return v;
}

#define MATRIX_SUM coopmat<float, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator>

// Output channels are few and their weights stay in the cache, so workgroups side by side share positions.
void main() {
	uint n0 = gl_WorkGroupID.x * TILE_N;
	uint across = (pc.out_width + TILE_W - 1) / TILE_W;
	uint h0 = gl_WorkGroupID.y / across * TILE_H;
	uint w0 = gl_WorkGroupID.y % across * TILE_W;
	uint phase_h = gl_WorkGroupID.z / FW, phase_w = gl_WorkGroupID.z % FW;
	uint sub_m = gl_SubgroupID / SUBS_N * FRAGS_M;
	uint sub_n = gl_SubgroupID % SUBS_N * SUB_N;

	MATRIX_SUM sums[FRAGS_M * FRAGS_N];
	[[unroll]] for (uint i = 0; i < FRAGS_M * FRAGS_N; i++) sums[i] = MATRIX_SUM(0.0);
	coopmat<float16_t, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> a[FRAGS_M];
	coopmat<float16_t, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> b[FRAGS_N];
	uint at_a[FRAGS_M];
	[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
		at_a[i] = ((sub_m + i) / FRAGS_W * SH * PATCH_W + (sub_m + i) % FRAGS_W * MAT_M * SW) * PITCH;

	locate(h0, w0, FH == 2 ? 1 - phase_h : KH / 2, FW == 2 ? 1 - phase_w : KW / 2);
	locate_w(n0, gl_WorkGroupID.z);
	uint slices = pc.taps_t * (CHANNELS / SLICE);
	uint parity = 0;
	if (X_TYPE != DTYPE_F16) {
		if (gl_LocalInvocationIndex < 2) slice_top[gl_LocalInvocationIndex] = 0;
		down = uintBitsToFloat(uint(127 - power) << 23);
		barrier();
	}
	fetch(0);
	fetch_w(0, 0);
	for (uint slice = 0; slice < slices; slice++) {
		if (X_TYPE != DTYPE_F16) note_top(parity);
		[[unroll]] for (uint group = 0; group < GROUPS; group++) {
			barrier(); // all have done with what is there
			if (X_TYPE != DTYPE_F16 && group == 0) {
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
			if (group == 0) put();
			put_w();
			barrier();
			if (group + 1 < GROUPS) fetch_w(slice, group + 1);
			else if (slice + 1 < slices) fetch_w(slice + 1, 0);
			if (group == 0 && slice + 1 < slices) fetch(slice + 1);

			[[unroll]] for (uint s = 0; s < TAPS_W * DEPTH; s++) {
				uint tap = group * TAPS_W + s / DEPTH;
				uint at = (tap / KW * PATCH_W + tap % KW) * PITCH + s % DEPTH * (MAT_K / 8);
				[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
					coopMatLoad(a[i], stage, at_a[i] + at, SW * PITCH, gl_CooperativeMatrixLayoutRowMajor);
				[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
					coopMatLoad(b[j], stage, STAGE_W + (sub_n + j * MAT_N) * PITCH_W + s * (MAT_K / 8), PITCH_W, gl_CooperativeMatrixLayoutColumnMajor);
				[[unroll]] for (uint j = 0; j < FRAGS_N; j++) {
					[[unroll]] for (uint i = 0; i < FRAGS_M; i++)
						sums[i * FRAGS_N + j] = coopMatMulAdd(a[i], b[j], sums[i * FRAGS_N + j]);
				}
			}
		}
	}

	// The sums go through shared memory a strip of matrices at a time; a subgroup's strip is its own. What is added to a
	// strip is read while the one before is written.
	const bool same_quad = SUBGROUP % (SUB_N / 4) == 0; // an invocation's quads lie in the same columns
	vec4 old[2 * QUADS];
	vec4 strip_old[QUADS];
	vec4 offset = bias_quad(n0 + sub_n + gl_SubgroupInvocationID % (SUB_N / 4) * 4);
	uint strip = gl_SubgroupID * (MAT_M * PITCH_Y);
	if (RESIDUAL) {
		residual_strip(strip_old, h0 + sub_m / FRAGS_W, w0 + sub_m % FRAGS_W * MAT_M, phase_h, phase_w, n0 + sub_n);
		[[unroll]] for (uint q = 0; q < QUADS; q++) old[q] = strip_old[q];
	}
	barrier();
	[[unroll]] for (uint i = 0; i < FRAGS_M; i++) {
		uint row = h0 + (sub_m + i) / FRAGS_W, first = w0 + (sub_m + i) % FRAGS_W * MAT_M;
		if (RESIDUAL && i + 1 < FRAGS_M) {
			residual_strip(strip_old, h0 + (sub_m + i + 1) / FRAGS_W, w0 + (sub_m + i + 1) % FRAGS_W * MAT_M, phase_h, phase_w, n0 + sub_n);
			[[unroll]] for (uint q = 0; q < QUADS; q++) old[(i + 1) % 2 * QUADS + q] = strip_old[q];
		}
		[[unroll]] for (uint j = 0; j < FRAGS_N; j++)
			coopMatStore(sums[i * FRAGS_N + j], stage, strip + j * (MAT_N / 4), PITCH_Y, gl_CooperativeMatrixLayoutRowMajor);
		subgroupBarrier();
		[[unroll]] for (uint q = 0; q < QUADS; q++) {
			uint e = gl_SubgroupInvocationID + q * SUBGROUP;
			uint m = e / (SUB_N / 4), quad = e % (SUB_N / 4), n = n0 + sub_n + quad * 4;
			vec4 v = uintBitsToFloat(stage[strip + m * PITCH_Y + quad]);
			if (X_TYPE != DTYPE_F16) v *= uintBitsToFloat(uint(127 + power) << 23);
			v += same_quad ? offset : bias_quad(n);
			if (RESIDUAL) v += old[i % 2 * QUADS + q];
			finish_quad(row, first + m, (row * FH + phase_h) * pc.out_width * FW + (first + m) * FW + phase_w, v, n);
		}
		subgroupBarrier();
	}
}
