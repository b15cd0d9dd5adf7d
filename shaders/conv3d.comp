#version 450
// Causal 3-D convolution as a matrix product, channels last, one output frame (or some rows of it) a dispatch:
//
//   y[h, w, o] = bias[o] + residual[h, w, o] + sum over dt, dh, dw, c of x_dt[row(h, dh), col(w, dw), c] · w[o, dt, dh, dw, c]
//   row(h, dh) = clamp(h SH + dh − KH/2, 0, height FH − 1) / FH, and col alike
//
// x_dt is the source frame that tap dt of this output frame reads; the host picks it, replicating the first frame and
// doubling frames where the input is upsampled in time. FH and FW are factors of nearest-neighbour upsampling, folded into
// the addressing, so that the upsampled input never exists. The clamp is padding by replication.
//
// One workgroup computes TILE_M positions × TILE_N output channels (include/gemm.glsl); k runs over (dt, dh, dw, c) with
// c fastest. VEC_K: CHANNELS is a multiple of 8 and all x_base of 8; VEC_N: cols, y_base and residual_base are multiples
// of 4. Bound ranges start at multiples of 16 bytes then.
//
// SPLIT: the frames of the three taps are bound one by one (bindings 0, 1, 2), for frames so large that a range from the
// first to the last would pass the binding limit; otherwise all lie in binding 0. At most 3 taps in time.
//
// in: x (0, 1, 2), w (3) [cols, KT·KH·KW·CHANNELS], bias (4, optional), residual (5, optional)       out: y (6)
//
//@variant conv3d
//@variant conv3d_half HALF

#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "gemm.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint W_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint BIAS_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint RESIDUAL_TYPE = DTYPE_F32;
layout(constant_id = 4) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 5) const bool VEC_K = false;
layout(constant_id = 6) const bool VEC_N = false;
layout(constant_id = 7) const bool BIAS = false;
layout(constant_id = 8) const bool RESIDUAL = false;
layout(constant_id = 9) const bool SPLIT = false;
layout(constant_id = 10) const uint CHANNELS = 1;
layout(constant_id = 11) const uint KH = 1;
layout(constant_id = 12) const uint KW = 1;
layout(constant_id = 13) const uint SH = 1;
layout(constant_id = 14) const uint SW = 1;
layout(constant_id = 15) const uint FH = 1;
layout(constant_id = 16) const uint FW = 1;

layout(push_constant) uniform Push {
	uint rows;      // output positions in this dispatch, whole rows of pixels
	uint cols;      // output channels
	uint k;         // taps · CHANNELS
	uint height;    // of a source frame, pixels
	uint width;
	uint out_width;
	uint out_row;   // the frame's row of pixels that position 0 begins
	uint src_row;   // the source frame's row of pixels that x_base points to
	uint x_base[3]; // elements before source row src_row in the bound range, per tap in time
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
TENSOR_RUN8(w)

// source returns the tap in time of column k of the unfolded input and the index of its element for an output position.
uint source(uint position, uint k, out uint dt) {
	uint tap = k / CHANNELS, c = k % CHANNELS;
	uint dw = tap % KW, dh = tap / KW % KH;
	dt = tap / (KW * KH);
	uint row = (pc.out_row + position / pc.out_width) * SH + dh;
	uint col = position % pc.out_width * SW + dw;
	row = (clamp(row, KH / 2, pc.height * FH - 1 + KH / 2) - KH / 2) / FH - pc.src_row;
	col = (clamp(col, KW / 2, pc.width * FW - 1 + KW / 2) - KW / 2) / FW;
	return pc.x_base[dt] + (row * pc.width + col) * CHANNELS + c;
}

void gemm_load_a(uint row, uint k, out vec4 lo, out vec4 hi) {
	lo = hi = vec4(0.0);
	if (row >= pc.rows) return;
	uint dt;
	if (VEC_K) {
		if (k >= pc.k) return;
		uint at = source(row, k, dt);
		if (SPLIT && dt == 1) x1_load8(at, lo, hi);
		else if (SPLIT && dt == 2) x2_load8(at, lo, hi);
		else x0_load8(at, lo, hi);
		return;
	}
	for (uint j = 0; j < 8 && k + j < pc.k; j++) {
		uint at = source(row, k + j, dt);
		float v;
		if (SPLIT && dt == 1) v = x1_load(at);
		else if (SPLIT && dt == 2) v = x2_load(at);
		else v = x0_load(at);
		if (j < 4) lo[j] = v;
		else hi[j - 4] = v;
	}
}

void gemm_load_b(uint col, uint k, out vec4 lo, out vec4 hi) {
	w_run8(col * pc.k + k, col < pc.cols && k < pc.k ? pc.k - k : 0, VEC_K, lo, hi);
}

void gemm_store(uint row, uint col, vec4 v) {
	if (row >= pc.rows || col >= pc.cols) return;
	uint at = row * pc.cols + col;
	if (VEC_N) {
		if (BIAS) {
			[[unroll]] for (uint j = 0; j < 4; j++) v[j] += bias_load(pc.bias_base + col + j);
		}
		if (RESIDUAL) v += residual_load4(pc.residual_base + at);
		y_store4(pc.y_base + at, v);
		return;
	}
	[[unroll]] for (uint j = 0; j < 4; j++) {
		if (col + j < pc.cols) {
			if (BIAS) v[j] += bias_load(pc.bias_base + col + j);
			if (RESIDUAL) v[j] += residual_load(pc.residual_base + at + j);
			y_store(pc.y_base + at + j, v[j]);
		}
	}
}

// Output channels are few and their weights stay in the cache, so workgroups side by side share positions.
void main() { gemm(gl_WorkGroupID.y * TILE_M, gl_WorkGroupID.x * TILE_N, pc.k); }
