#version 450
// Per-head RMSNorm and rotary position embedding, fused, either one optional: x (heads x tokens rows of d) to y, in fp32.
//
//   NORM:   u = x / sqrt(mean(x^2) + eps) * gain[d]
//   ROTATE: pair j of a row is turned by the angle whose (cos, sin) is table[token, j], j < d/2:
//           a' = a cos - b sin,  b' = b cos + a sin
//           SPLIT pairs element j with element j + d/2 (Qwen2.5-VL), else 2j with 2j + 1 (Kandinsky 5)
//
// LANES invocations work on one row, a workgroup on 128 / LANES rows, a lane on 4 elements (SPLIT: 4 + 4) at a time: d is
// a multiple of 4 (SPLIT: 8), and so are strides and bases. The row of head h and token t starts at base +
// h head_stride + t token_stride, so both [H, T, d] and slices of [T, H d] work; y may be x.
//
// bindings: 0 x, 1 y, 2 table f32 [tokens, d/2, 2], 3 gain [d]

#include "tensor.glsl"

#define LANE_GROUP 128
layout(local_size_x = LANE_GROUP) in;

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint GAIN_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint LANES = 32;
layout(constant_id = 4) const bool NORM = false;
layout(constant_id = 5) const bool ROTATE = false;
layout(constant_id = 6) const bool SPLIT = false;

#include "lanes.glsl"

layout(push_constant) uniform Push {
	uint heads;
	uint tokens;
	uint dim;
	float eps;
	uint x_base;
	uint x_head_stride;
	uint x_token_stride;
	uint y_base;
	uint y_head_stride;
	uint y_token_stride;
	uint table_base;
	uint gain_base;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
TENSOR_OUT_VEC(1, y, Y_TYPE)
TENSOR_IN_VEC(2, table, DTYPE_F32)
TENSOR_IN_VEC(3, gain, GAIN_TYPE)

float row_squares(uint at) {
	float sum = 0.0;
	for (uint i = 4 * lanes_lane(); i < pc.dim; i += 4 * LANES) {
		vec4 v = x_load4(at + i);
		sum += dot(v, v);
	}
	return lanes_sum(sum);
}

vec4 element(uint at, uint i, float inv) {
	vec4 v = x_load4(at + i);
	if (NORM) v = v * inv * gain_load4(pc.gain_base + i);
	return v;
}

void turn_adjacent(uint from, uint to, uint angles, float inv) {
	for (uint i = 4 * lanes_lane(); i < pc.dim; i += 4 * LANES) {
		vec4 v = element(from, i, inv);
		if (ROTATE) {
			vec4 cs = table_load4(angles + i); // cos, sin, cos, sin
			v = vec4(v.x * cs.x - v.y * cs.y, v.y * cs.x + v.x * cs.y, v.z * cs.z - v.w * cs.w, v.w * cs.z + v.z * cs.w);
		}
		y_store4(to + i, v);
	}
}

void turn_split(uint from, uint to, uint angles, float inv) {
	uint half_dim = pc.dim / 2;
	for (uint i = 4 * lanes_lane(); i < half_dim; i += 4 * LANES) {
		vec4 a = element(from, i, inv);
		vec4 b = element(from, half_dim + i, inv);
		vec4 p = table_load4(angles + 2 * i);
		vec4 q = table_load4(angles + 2 * i + 4);
		vec4 c = vec4(p.xz, q.xz);
		vec4 s = vec4(p.yw, q.yw);
		y_store4(to + i, a * c - b * s);
		y_store4(to + half_dim + i, b * c + a * s);
	}
}

void main() {
	uint row = lanes_row();
	bool live = row < pc.heads * pc.tokens;
	row = min(row, pc.heads * pc.tokens - 1); // idle lanes repeat the last row, because all must reach the barriers
	uint head = row / pc.tokens;
	uint token = row % pc.tokens;
	uint from = pc.x_base + head * pc.x_head_stride + token * pc.x_token_stride;
	uint to = pc.y_base + head * pc.y_head_stride + token * pc.y_token_stride;
	float inv = 1.0;
	if (NORM) inv = 1.0 / sqrt(row_squares(from) / float(pc.dim) + pc.eps);
	if (!live) return;
	uint angles = pc.table_base + token * pc.dim;
	if (SPLIT) turn_split(from, to, angles, inv);
	else turn_adjacent(from, to, angles, inv);
}
