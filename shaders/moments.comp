#version 450
// Moments (count, mean, sum of squared differences) of groups of channels, over chunks of rows: the first pass of group
// normalisation and of per-frame statistics.
//
// x [rows, C] is a sequence of segments of segment_rows rows, each cut into chunks of CHUNK rows (the last may be
// shorter). One workgroup takes one chunk and 128 / LANES groups of group_dim neighbouring channels; a lane takes every
// LANES-th row of the chunk for one group. Within a lane values are shifted by the first ones seen, and one at a time the
// update is Welford's; lanes are merged by a tree. So a chunk's moments do not depend on which dispatch computes them.
//
// A dispatch covers `chunks` chunks from chunk number first_chunk on; x is bound from the first row of that chunk on, moments from
// its first entry on. VEC takes four channels at a time: group_dim and the base are multiples of 4.
//
// bindings: 0 x, 1 moments f32 [all chunks, groups, 4] (count, mean, squares, 0)

#include "tensor.glsl"
#include "moments.glsl"

#define LANE_GROUP 128
layout(local_size_x = LANE_GROUP) in;

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint LANES = 128;
layout(constant_id = 2) const uint CHUNK = 256;
layout(constant_id = 3) const bool VEC = false;

layout(push_constant) uniform Push {
	uint chunks;
	uint first_chunk;
	uint segment_rows;
	uint segment_chunks;
	uint groups;
	uint group_dim;
	uint x_base;
	uint moments_base;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) writeonly buffer Moments { float moments[]; };

shared vec3 cells[LANE_GROUP];

// chunk_row is the first row of a chunk, over all segments.
uint chunk_row(uint chunk) {
	return (chunk / pc.segment_chunks) * pc.segment_rows + (chunk % pc.segment_chunks) * CHUNK;
}

vec3 lane_scalar(uint at, uint stride, uint rows) {
	float shift = x_load(at);
	float n = 0.0, mean = 0.0, squares = 0.0;
	for (uint r = 0; r < rows; r++, at += stride) {
		for (uint i = 0; i < pc.group_dim; i++) {
			float v = x_load(at + i) - shift;
			n += 1.0;
			float d = v - mean;
			mean += d / n;
			squares += d * (v - mean);
		}
	}
	return vec3(n, mean + shift, squares);
}

// lane_vec adds up differences from the mean of the lane's first four values and their squares, four rows at a time so
// that loads do not wait for each other. Of at most a few hundred values near each other little cancels.
vec3 lane_vec(uint at, uint stride, uint rows) {
	float shift = dot(x_load4(at), vec4(0.25));
	vec4 sum = vec4(0.0), squares = vec4(0.0);
	uint r = 0;
	for (; r + 4 <= rows; r += 4, at += 4 * stride) {
		for (uint i = 0; i < pc.group_dim; i += 4) {
			vec4 v[4];
			for (uint k = 0; k < 4; k++) v[k] = x_load4(at + k * stride + i);
			for (uint k = 0; k < 4; k++) {
				v[k] -= shift;
				sum += v[k];
				squares += v[k] * v[k];
			}
		}
	}
	for (; r < rows; r++, at += stride) {
		for (uint i = 0; i < pc.group_dim; i += 4) {
			vec4 v = x_load4(at + i) - shift;
			sum += v;
			squares += v * v;
		}
	}
	float n = float(rows * pc.group_dim);
	float mean = ((sum.x + sum.y) + (sum.z + sum.w)) / n;
	// What is left of the squares of each of the four places after their own mean, then of the places' means.
	vec4 place = sum * (4.0 / n);
	vec4 rest = squares - sum * place;
	vec4 apart = place - mean;
	float left = (rest.x + rest.y) + (rest.z + rest.w);
	return vec3(n, mean + shift, (left < 0.0 ? 0.0 : left) + dot(apart, apart) * (n * 0.25)); // NaN stays
}

void main() {
	const uint group_lanes = LANE_GROUP / LANES; // groups side by side in this workgroup
	uint tiles = (pc.groups + group_lanes - 1) / group_lanes;
	uint work = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	uint chunk = pc.first_chunk + work / tiles;
	if (work / tiles >= pc.chunks) return; // the whole workgroup
	uint self = gl_LocalInvocationIndex;
	uint group = (work % tiles) * group_lanes + self % group_lanes;
	uint lane = self / group_lanes;
	uint channels = pc.groups * pc.group_dim;
	uint rows = min(CHUNK, pc.segment_rows - (chunk % pc.segment_chunks) * CHUNK);
	uint mine = lane < rows ? (rows - lane + LANES - 1) / LANES : 0;
	vec3 all = vec3(0.0);
	if (group < pc.groups && mine > 0) {
		uint row = chunk_row(chunk) - chunk_row(pc.first_chunk) + lane;
		uint at = pc.x_base + row * channels + group * pc.group_dim;
		if (VEC) all = lane_vec(at, LANES * channels, mine);
		else all = lane_scalar(at, LANES * channels, mine);
	}
	cells[self] = all;
	barrier();
	for (uint width = LANES / 2; width > 0; width >>= 1) {
		if (lane < width) cells[self] = moments_join(cells[self], cells[self + width * group_lanes]);
		barrier();
	}
	if (lane == 0 && group < pc.groups) {
		uint to = pc.moments_base + ((work / tiles) * pc.groups + group) * 4;
		vec3 sum = cells[self];
		moments[to] = sum.x;
		moments[to + 1] = sum.y;
		moments[to + 2] = sum.z;
		moments[to + 3] = 0.0;
	}
}
