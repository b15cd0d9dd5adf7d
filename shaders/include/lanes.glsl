// Rows of lanes: a workgroup of LANE_GROUP invocations split into rows of LANES invocations (a power of two), each row
// working on one row of a tensor. Needs before the include:
//
//   #define LANE_GROUP 128                         the workgroup's size along x
//   layout(constant_id = N) const uint LANES = …;  at most LANE_GROUP
//
// Every invocation of the workgroup must call lanes_sum: it holds barriers. The order of additions depends on LANES
// only, so a row's sum does not depend on which workgroup computes it.

#ifndef LANES_GLSL
#define LANES_GLSL

shared float lanes_cells[LANE_GROUP];

// lanes_group is the number of this workgroup in a grid folded over x and y.
uint lanes_group() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }

// lanes_row is the row of lanes that this invocation belongs to, over the whole dispatch.
uint lanes_row() { return lanes_group() * (LANE_GROUP / LANES) + gl_LocalInvocationIndex / LANES; }

// lanes_lane is this invocation's place in its row of lanes.
uint lanes_lane() { return gl_LocalInvocationIndex % LANES; }

// lanes_sum adds v over the row of lanes and gives every lane the result.
float lanes_sum(float v) {
	uint self = gl_LocalInvocationIndex;
	uint lane = self % LANES;
	barrier(); // the cells may still be read from the sum before
	lanes_cells[self] = v;
	barrier();
	for (uint width = LANES / 2; width > 0; width >>= 1) {
		if (lane < width) lanes_cells[self] += lanes_cells[self + width];
		barrier();
	}
	return lanes_cells[self - lane];
}

#endif
