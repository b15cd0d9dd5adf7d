#version 450
// Normalises rows: x [M, D] to y [M, D], in fp32.
//
//   CENTRE:   n = (x - mean(x)) / sqrt(var(x) + eps), biased variance, in two passes     (LayerNorm)
//   else:     n = x / sqrt(mean(x^2) + eps)                                              (RMSNorm)
//   WEIGHT:   n *= weight[D]        BIAS: n += bias[D]
//   MODULATE: n = n (1 + scale[D]) + shift[D]
//
// LANES invocations work on one row, a workgroup on 128 / LANES rows; sums are shared-memory trees whose order depends on
// D alone. VEC moves 4 elements at a time: D and all bases are multiples of 4. y may be x.
//
// bindings: 0 x, 1 y, 2 weight, 3 bias, 4 scale, 5 shift. Bases count elements from the start of the bound ranges.

#include "tensor.glsl"

#define LANE_GROUP 128
layout(local_size_x = LANE_GROUP) in;

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint WEIGHT_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint BIAS_TYPE = DTYPE_F32;
layout(constant_id = 4) const uint SCALE_TYPE = DTYPE_F32;
layout(constant_id = 5) const uint SHIFT_TYPE = DTYPE_F32;
layout(constant_id = 6) const uint LANES = 128;
layout(constant_id = 7) const bool CENTRE = false;
layout(constant_id = 8) const bool WEIGHT = false;
layout(constant_id = 9) const bool BIAS = false;
layout(constant_id = 10) const bool MODULATE = false;
layout(constant_id = 11) const bool VEC = false;

#include "lanes.glsl"

layout(push_constant) uniform Push {
	uint rows;
	uint dim;
	float eps;
	uint x_base;
	uint y_base;
	uint weight_base;
	uint bias_base;
	uint scale_base;
	uint shift_base;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
TENSOR_OUT_VEC(1, y, Y_TYPE)
TENSOR_IN_VEC(2, weight, WEIGHT_TYPE)
TENSOR_IN_VEC(3, bias, BIAS_TYPE)
TENSOR_IN_VEC(4, scale, SCALE_TYPE)
TENSOR_IN_VEC(5, shift, SHIFT_TYPE)

float row_sum(uint at) {
	float sum = 0.0;
	if (VEC) {
		for (uint i = 4 * lanes_lane(); i < pc.dim; i += 4 * LANES) {
			vec4 v = x_load4(at + i);
			sum += (v.x + v.y) + (v.z + v.w);
		}
	} else {
		for (uint i = lanes_lane(); i < pc.dim; i += LANES) sum += x_load(at + i);
	}
	return lanes_sum(sum);
}

// row_squares sums the squared differences from mean.
float row_squares(uint at, float mean) {
	float sum = 0.0;
	if (VEC) {
		for (uint i = 4 * lanes_lane(); i < pc.dim; i += 4 * LANES) {
			vec4 v = x_load4(at + i) - mean;
			sum += dot(v, v);
		}
	} else {
		for (uint i = lanes_lane(); i < pc.dim; i += LANES) {
			float v = x_load(at + i) - mean;
			sum += v * v;
		}
	}
	return lanes_sum(sum);
}

void main() {
	uint row = lanes_row();
	bool live = row < pc.rows;
	uint from = min(row, pc.rows - 1) * pc.dim; // idle lanes repeat the last row, because all must reach the barriers
	uint at = pc.x_base + from;
	float mean = 0.0;
	if (CENTRE) mean = row_sum(at) / float(pc.dim);
	float inv = 1.0 / sqrt(row_squares(at, mean) / float(pc.dim) + pc.eps);
	if (!live) return;
	if (VEC) {
		for (uint i = 4 * lanes_lane(); i < pc.dim; i += 4 * LANES) {
			vec4 v = (x_load4(at + i) - mean) * inv;
			if (WEIGHT) v *= weight_load4(pc.weight_base + i);
			if (BIAS) v += bias_load4(pc.bias_base + i);
			if (MODULATE) v = v * (1.0 + scale_load4(pc.scale_base + i)) + shift_load4(pc.shift_base + i);
			y_store4(pc.y_base + from + i, v);
		}
	} else {
		for (uint i = lanes_lane(); i < pc.dim; i += LANES) {
			float v = (x_load(at + i) - mean) * inv;
			if (WEIGHT) v *= weight_load(pc.weight_base + i);
			if (BIAS) v += bias_load(pc.bias_base + i);
			if (MODULATE) v = v * (1.0 + scale_load(pc.scale_base + i)) + shift_load(pc.shift_base + i);
			y_store(pc.y_base + from + i, v);
		}
	}
}
