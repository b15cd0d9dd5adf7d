#version 450
// Merges the moments of consecutive chunks: the second pass of group normalisation and of per-frame statistics.
//
// Result (s, g) covers the segment_chunks chunks from chunk s segment_chunks on, for group g. One workgroup computes one
// result: a lane merges every 128th chunk in turn, then the lanes are merged by a tree, so the order depends on
// segment_chunks alone. eps is added to the biased variance for the reciprocal deviation.
//
// bindings: 0 moments f32 [chunks, groups, 4] as moments.comp writes them,
//           1 stats f32 [segments, groups, 4] (count, mean, squares, 1/sqrt(squares/count + eps))

#include "moments.glsl"

#define LANE_GROUP 128
layout(local_size_x = LANE_GROUP) in;

layout(push_constant) uniform Push {
	uint segments;
	uint segment_chunks;
	uint groups;
	float eps;
	uint moments_base;
	uint stats_base;
} pc;

layout(set = 0, binding = 0, std430) readonly buffer Moments { float moments[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Stats { float stats[]; };

shared vec3 cells[LANE_GROUP];

void main() {
	uint work = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	if (work >= pc.segments * pc.groups) return; // the whole workgroup
	uint lane = gl_LocalInvocationIndex;
	uint first = (work / pc.groups) * pc.segment_chunks;
	vec3 all = vec3(0.0);
	for (uint c = lane; c < pc.segment_chunks; c += LANE_GROUP) {
		uint at = pc.moments_base + ((first + c) * pc.groups + work % pc.groups) * 4;
		all = moments_join(all, vec3(moments[at], moments[at + 1], moments[at + 2]));
	}
	cells[lane] = all;
	barrier();
	for (uint width = LANE_GROUP / 2; width > 0; width >>= 1) {
		if (lane < width) cells[lane] = moments_join(cells[lane], cells[lane + width]);
		barrier();
	}
	if (lane == 0) {
		vec3 sum = cells[0];
		uint to = pc.stats_base + work * 4;
		stats[to] = sum.x;
		stats[to + 1] = sum.y;
		stats[to + 2] = sum.z;
		stats[to + 3] = 1.0 / sqrt(sum.z / sum.x + pc.eps);
	}
}
