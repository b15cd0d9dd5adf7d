#version 450
// Linear layer in 8-bit integers without matrix units:
//
//   y[m, n] = f(x_scale[m] w_scale[n] · sum over k of x[m, k] w[n, k] + bias[n]); see include/linear.glsl.
//
// x and w are signed bytes in [-127, 127], four in a word. Their products are multiplied and summed in fp32, at most 1,024
// of them at a time, 1,024 · 127² < 2^24, so that nothing is rounded; such sums are added up as integers. So the sum is
// exact, and the same bits as that of matmul_int8_matrix.comp.
//
// One workgroup of 128 invocations computes 64 × 64 outputs, each invocation 8 × 4 of them. Slices of 16 bytes of each
// row pass through shared memory.
//
// Limits: K a multiple of 64; x and w start at multiples of 16 bytes. VEC_N: head and the columns are multiples of 4 and y
// starts at a multiple of 16 bytes. Shared memory: 8,704 bytes.
//
// in: x (0), w (1), bias (2, optional), gate (4, f32, optional), x_scale (5, f32), w_scale (6, f32)    in and out: y (3)

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "linear.glsl"

layout(constant_id = 9) const bool VEC_N = false;
layout(local_size_x = 128) in;

TENSOR_IN(5, x_scale, DTYPE_F32)
TENSOR_IN_VEC(6, w_scale, DTYPE_F32)

const uint SLICE = 16; // of k
const uint EXACT = 1024;
const uint PITCH = 17; // quads of a k: 64 rows, and one so that stores spread over the banks

shared vec4 slice_x[SLICE * PITCH];
shared vec4 slice_w[SLICE * PITCH];

float signed_byte(uint word, uint i) { return float(bitfieldExtract(int(word), int(8 * i), 8)); }

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint m0 = gl_WorkGroupID.y * 64, n0 = gl_WorkGroupID.x * 64;
	uint tm = tid / 16 * 8, tn = tid % 16 * 4;
	uint mine = tid % 64; // the row of x, or of w, that this invocation brings
	uint from = (tid < 64 ? min(m0 + mine, pc.rows - 1) : min(n0 + mine, pc.cols - 1)) * (pc.k / 16);

	int sums[32];
	[[unroll]] for (uint i = 0; i < 32; i++) sums[i] = 0;
	for (uint k0 = 0; k0 < pc.k; k0 += EXACT) {
		vec4 part[8];
		[[unroll]] for (uint i = 0; i < 8; i++) part[i] = vec4(0.0);
		for (uint k = k0; k < min(k0 + EXACT, pc.k); k += SLICE) {
			barrier(); // all have done with the slice before
			if (tid < 64) {
				uvec4 run = x_quads[from + k / 16];
				[[unroll]] for (uint i = 0; i < 16; i++) slice_x[i * PITCH + mine / 4][mine % 4] = signed_byte(run[i / 4], i % 4);
			} else {
				uvec4 run = w_quads[from + k / 16];
				[[unroll]] for (uint i = 0; i < 16; i++) slice_w[i * PITCH + mine / 4][mine % 4] = signed_byte(run[i / 4], i % 4);
			}
			barrier();
			[[unroll]] for (uint i = 0; i < SLICE; i++) {
				vec4 lo = slice_x[i * PITCH + tm / 4], hi = slice_x[i * PITCH + tm / 4 + 1];
				vec4 w = slice_w[i * PITCH + tn / 4];
				[[unroll]] for (uint r = 0; r < 4; r++) {
					part[r] = fma(vec4(lo[r]), w, part[r]);
					part[r + 4] = fma(vec4(hi[r]), w, part[r + 4]);
				}
			}
		}
		[[unroll]] for (uint i = 0; i < 32; i++) sums[i] += int(part[i / 4][i % 4]);
	}

	uint col = n0 + tn;
	[[unroll]] for (uint r = 0; r < 8; r++) {
		uint row = m0 + tm + r;
		if (row >= pc.rows) continue;
		float by = x_scale_load(row);
		if (VEC_N) {
			if (col >= pc.cols) continue;
			uint at = y_index(row, col);
			vec4 old = vec4(0.0);
			if (ADD) old = y_load4(at);
			vec4 v = vec4(sums[4 * r], sums[4 * r + 1], sums[4 * r + 2], sums[4 * r + 3]) * (by * w_scale_load4(col));
			[[unroll]] for (uint j = 0; j < 4; j++) v[j] = finish(v[j], col + j, old[j]);
			y_store4(at, v);
		} else {
			[[unroll]] for (uint j = 0; j < 4; j++) {
				if (col + j < pc.cols) finish_store(row, col + j, float(sums[4 * r + j]) * (by * w_scale_load(col + j)));
			}
		}
	}
}
