#version 450
// Linear layer for many rows: y[m, n] = f(sum over k of x[m, k] w[n, k] + bias[n]); see include/linear.glsl.
//
// One workgroup computes TILE_M × TILE_N outputs (include/gemm.glsl). VEC_N: head and the columns are multiples of 4 and
// y starts at a multiple of 16 bytes. Without it and VEC_K elements move one by one, and any K and N will do.
//
// in: x (0), w (1), bias (2, optional), gate (4, f32, optional)       in and out: y (3)
//
//@variant matmul
//@variant matmul_half HALF
//@variant matmul_nf4 NF4
//@variant matmul_half_nf4 HALF NF4

#extension GL_GOOGLE_include_directive : require
#include "linear.glsl"
#include "gemm.glsl"

layout(constant_id = 9) const bool VEC_N = false;

void gemm_load_a(uint row, uint k, out vec4 lo, out vec4 hi) {
	x_run8(row * pc.k + k, row < pc.rows && k < pc.k ? pc.k - k : 0, VEC_K, lo, hi);
}

void gemm_load_b(uint col, uint k, out vec4 lo, out vec4 hi) {
	WEIGHT_RUN8(col * pc.k + k, col < pc.cols && k < pc.k ? pc.k - k : 0, VEC_K, lo, hi);
}

void gemm_store(uint row, uint col, vec4 v) {
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

// Workgroups run in bands of 8 row tiles, down the rows first: those at work at one time share rows of x and of w, which
// then come from the cache.
const uint BAND = 8;

void main() {
#ifdef NF4
	nf4_begin();
#endif
	uint id = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	uint first = id / (BAND * gl_NumWorkGroups.x) * BAND;
	uint high = min(BAND, gl_NumWorkGroups.y - first);
	uint within = id - first * gl_NumWorkGroups.x;
	gemm((first + within % high) * TILE_M, within / high * TILE_N, pc.k);
}
