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
// PACK writes y as the packed operand of a linear layer (include/packed.glsl), left fragments of bf16: what reads them reads 16 bytes a lane, and so
// this writes them. It needs VEC, D a multiple of 16, another y than x, and y to have whole fragments of rows. A row's numbers are those without.
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
layout(constant_id = 12) const bool PACK = false;

#include "lanes.glsl"
#include "packed.glsl"

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

// row_scale returns what a row's differences from its mean are multiplied with.
float row_scale(uint at, float mean) { return 1.0 / sqrt(row_squares(at, mean) / float(pc.dim) + pc.eps); }

vec2 x_load2(uint i) {
	if (X_TYPE == DTYPE_F32) return uintBitsToFloat(x_pairs[i / 2]);
	return dtype_unpack(uvec2(x_words[i / 2], 0), X_TYPE).xy;
}

// normal_word returns columns i and i + 1 of a row that begins at element at.
uint normal_word(uint at, uint i, float mean, float inv) {
	vec2 v = (x_load2(at + i) - mean) * inv;
	if (WEIGHT) v *= vec2(weight_load(pc.weight_base + i), weight_load(pc.weight_base + i + 1));
	if (BIAS) v += vec2(bias_load(pc.bias_base + i), bias_load(pc.bias_base + i + 1));
	if (MODULATE) v = v * (1.0 + vec2(scale_load(pc.scale_base + i), scale_load(pc.scale_base + i + 1))) + vec2(shift_load(pc.shift_base + i), shift_load(pc.shift_base + i + 1));
	return bf16_from_f32(v.x) | bf16_from_f32(v.y) << 16;
}

// pack_rows does the work of lanes that take two rows, eight apart, of which a fragment's lane has elements.
void pack_rows() {
	uint pair = lanes_row(), first = pair / 8 * 16 + pair % 8;
	uint a = pc.x_base + min(first, pc.rows - 1) * pc.dim, b = pc.x_base + min(first + 8, pc.rows - 1) * pc.dim;
	float mean_a = 0.0, mean_b = 0.0;
	if (CENTRE) {
		mean_a = row_sum(a) / float(pc.dim);
		mean_b = row_sum(b) / float(pc.dim);
	}
	float inv_a = row_scale(a, mean_a), inv_b = row_scale(b, mean_b);
	if (first >= pc.rows) return;
	for (uint i = lanes_lane(); i < pc.dim / 4; i += LANES) {
		uint col = i / 4 * 16 + i % 4 * 2;
		y_quads[pc.y_base / 8 + fragment_at(first / 16, i / 4, pc.dim / 16) + first % 8 * 4 + i % 4] = uvec4(normal_word(a, col, mean_a, inv_a),
			normal_word(b, col, mean_b, inv_b), normal_word(a, col + 8, mean_a, inv_a), normal_word(b, col + 8, mean_b, inv_b));
	}
}

void main() {
	if (PACK) {
		pack_rows();
		return;
	}
	uint row = lanes_row();
	bool live = row < pc.rows;
	uint from = min(row, pc.rows - 1) * pc.dim; // idle lanes repeat the last row, because all must reach the barriers
	uint at = pc.x_base + from;
	float mean = 0.0;
	if (CENTRE) mean = row_sum(at) / float(pc.dim);
	float inv = row_scale(at, mean);
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
