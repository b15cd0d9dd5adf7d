#version 450
// Linear layer for up to 8 rows, where reading w is all the work: y[m, n] = f(sum over k of x[m, k] w[n, k] + bias[n]);
// see include/linear.glsl.
//
// One workgroup computes COLS columns of y for all ROWS rows. Its invocations stride over K in runs of 8, so that
// neighbours read neighbouring runs of w, and add their partial sums in a tree in shared memory: the order of additions
// depends on the local size alone, not on the subgroup size.
//
// Limits: ROWS <= 8 and equal to the push constant rows. Shared memory: 4 · 64 · ROWS · COLS bytes.
//
// in: x (0), w (1), bias (2, optional), gate (4, f32, optional)       in and out: y (3)
//
//@variant matmul_gemv
//@variant matmul_gemv_nf4 NF4

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "linear.glsl"

layout(constant_id = 9) const uint ROWS = 1;

const uint COLS = 4;
const uint THREADS = 64;
layout(local_size_x = 64) in;

shared float partial[ROWS * COLS * THREADS];

void main() {
#ifdef NF4
	nf4_begin();
#endif
	uint t = gl_LocalInvocationIndex;
	uint first = gl_WorkGroupID.x * COLS;
	float acc[ROWS * COLS];
	[[unroll]] for (uint i = 0; i < ROWS * COLS; i++) acc[i] = 0.0;
	for (uint k = t * 8; k < pc.k; k += THREADS * 8) {
		vec4 w_lo[COLS], w_hi[COLS];
		[[unroll]] for (uint c = 0; c < COLS; c++) {
			uint col = min(first + c, pc.cols - 1); // a column too many is computed and not stored
			WEIGHT_RUN8(col * pc.k + k, pc.k - k, VEC_K, w_lo[c], w_hi[c]);
		}
		[[unroll]] for (uint r = 0; r < ROWS; r++) {
			vec4 lo, hi;
			x_run8(r * pc.k + k, pc.k - k, VEC_K, lo, hi);
			[[unroll]] for (uint c = 0; c < COLS; c++) acc[r * COLS + c] += dot(lo, w_lo[c]) + dot(hi, w_hi[c]);
		}
	}
	[[unroll]] for (uint i = 0; i < ROWS * COLS; i++) partial[i * THREADS + t] = acc[i];
	for (uint span = THREADS / 2; span > 0; span /= 2) {
		barrier();
		if (t < span) {
			[[unroll]] for (uint i = 0; i < ROWS * COLS; i++) partial[i * THREADS + t] += partial[i * THREADS + t + span];
		}
	}
	barrier();
	if (t < ROWS * COLS && first + t % COLS < pc.cols) finish_store(t / COLS, first + t % COLS, partial[t * THREADS]);
}
