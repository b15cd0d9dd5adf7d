#version 450
// Softmax of rows: y[m, i] = gain exp(scale x[m, i]) / sum over j of exp(scale x[m, j]), in fp32.
//
// A workgroup takes one row. First every lane goes through its share of the row with a running maximum and sum, which is
// rescaled when the maximum rises, and a tree merges the lanes; then the row is read again and written. The order of sums
// depends on D alone. VEC moves 4 elements at a time: D and the bases are multiples of 4. y may be x.
//
// x [M, D] (0), y [M, D] (1). Bases count elements from the start of the bound ranges.

#include "tensor.glsl"

#define LANE_GROUP 128
layout(local_size_x = LANE_GROUP) in;

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 2) const bool VEC = false;

layout(push_constant) uniform Push {
	uint rows;
	uint dim;
	float scale; // times log2(e)
	float gain;
	uint x_base;
	uint y_base;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
TENSOR_OUT_VEC(1, y, Y_TYPE)

const float LOWEST = -3.4028235e38; // not infinity, which would leave NaN when subtracted from itself

shared vec2 cells[LANE_GROUP]; // maximum, sum of powers of two of what is below it

vec2 join(vec2 a, vec2 b) {
	float top = max(a.x, b.x);
	return vec2(top, a.y * exp2(a.x - top) + b.y * exp2(b.x - top));
}

vec2 lane(uint at) {
	vec2 seen = vec2(LOWEST, 0.0);
	if (VEC) {
		for (uint i = 4 * gl_LocalInvocationIndex; i < pc.dim; i += 4 * LANE_GROUP) {
			vec4 v = x_load4(at + i) * pc.scale;
			float top = max(max(max(v.x, v.y), max(v.z, v.w)), seen.x);
			vec4 e = exp2(v - top);
			seen = vec2(top, seen.y * exp2(seen.x - top) + ((e.x + e.y) + (e.z + e.w)));
		}
	} else {
		for (uint i = gl_LocalInvocationIndex; i < pc.dim; i += LANE_GROUP) seen = join(seen, vec2(x_load(at + i) * pc.scale, 1.0));
	}
	return seen;
}

void main() {
	uint row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	if (row >= pc.rows) return; // the whole workgroup
	uint self = gl_LocalInvocationIndex;
	uint at = pc.x_base + row * pc.dim;
	cells[self] = lane(at);
	barrier();
	for (uint width = LANE_GROUP / 2; width > 0; width >>= 1) {
		if (self < width) cells[self] = join(cells[self], cells[self + width]);
		barrier();
	}
	float top = cells[0].x, part = pc.gain / cells[0].y;
	uint to = pc.y_base + row * pc.dim;
	if (VEC) {
		for (uint i = 4 * self; i < pc.dim; i += 4 * LANE_GROUP) y_store4(to + i, part * exp2(x_load4(at + i) * pc.scale - top));
	} else {
		for (uint i = self; i < pc.dim; i += LANE_GROUP) y_store(to + i, part * exp2(x_load(at + i) * pc.scale - top));
	}
}
