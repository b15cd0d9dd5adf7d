#version 450
// Applies group normalisation to x [rows, C], given each group's statistics: y = (x - mean) rstd weight[C] + bias[C], then
// SiLU where asked, in fp32. The statistics come from moments.comp and moments_merge.comp.
//
// An invocation keeps one channel (VEC: four of one group) and goes through ROWS consecutive rows, so statistics and weights are
// read once; neighbours take neighbouring channels. VEC needs group_dim and all bases to be multiples of 4. y may be x.
//
// bindings: 0 x, 1 y, 2 weight, 3 bias, 4 stats f32 [groups, 4] (count, mean, squares, rstd)

#include "tensor.glsl"
#include "activation.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint WEIGHT_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint BIAS_TYPE = DTYPE_F32;
layout(constant_id = 4) const bool SILU = false;
layout(constant_id = 5) const bool VEC = false;
layout(constant_id = 6) const uint ROWS = 8;

layout(push_constant) uniform Push {
	uint rows;
	uint channels;
	uint group_dim;
	uint x_base;
	uint y_base;
	uint weight_base;
	uint bias_base;
	uint stats_base;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
TENSOR_OUT_VEC(1, y, Y_TYPE)
TENSOR_IN_VEC(2, weight, WEIGHT_TYPE)
TENSOR_IN_VEC(3, bias, BIAS_TYPE)
layout(set = 0, binding = 4, std430) readonly buffer Stats { float stats[]; };

float act(float v) { return SILU ? silu(v) : v; }

void main() {
	const uint step = VEC ? 4 : 1;
	uint i = grid_index();
	uint columns = pc.channels / step;
	uint c = (i % columns) * step;
	uint row = (i / columns) * ROWS;
	if (row >= pc.rows) return;
	uint end = min(row + ROWS, pc.rows);
	uint group = pc.stats_base + (c / pc.group_dim) * 4;
	float mean = stats[group + 1];
	float rstd = stats[group + 3];
	if (VEC) {
		vec4 w = rstd * weight_load4(pc.weight_base + c);
		vec4 b = bias_load4(pc.bias_base + c);
		for (; row < end; row++) {
			uint at = row * pc.channels + c;
			vec4 v = (x_load4(pc.x_base + at) - mean) * w + b;
			y_store4(pc.y_base + at, vec4(act(v.x), act(v.y), act(v.z), act(v.w)));
		}
	} else {
		float w = rstd * weight_load(pc.weight_base + c);
		float b = bias_load(pc.bias_base + c);
		for (; row < end; row++) {
			uint at = row * pc.channels + c;
			y_store(pc.y_base + at, act((x_load(pc.x_base + at) - mean) * w + b));
		}
	}
}
