#version 450
// Means of heads over their tokens, in two dispatches and an order of sums that does not depend on the device.
//
// First one workgroup per head and PARTS-th of the tokens adds these up: invocation t takes channels 4 (t % QUADS) … + 3 of every
// (THREADS / QUADS)-th token, and the first QUADS invocations add up what the others have. Then, with FINISH, one workgroup per head adds up the
// parts and divides by the tokens.
//
// x (0) is [heads, rows, DIM] from element base on; base and DIM are multiples of 4, DIM at most 128. sums (1), from head slot on, holds
// (PARTS + 1) DIM floats a head: the parts, then the means.

#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"

layout(constant_id = 0) const uint DIM = 128;
layout(constant_id = 1) const uint X_TYPE = 0;
layout(constant_id = 2) const bool FINISH = false;
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint base;
	uint rows;
	uint slot;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) buffer Sums { float sums[]; };

const uint THREADS = 128;
const uint PARTS = 32; // as the host knows
const uint QUADS = DIM / 4;
const uint AT_A_TIME = THREADS / QUADS;

shared vec4 part[THREADS];

void main() {
	uint t = gl_LocalInvocationIndex, head = gl_WorkGroupID.y;
	uint to = (pc.slot + head) * (PARTS + 1) * DIM;
	if (FINISH) {
		if (t >= DIM) return;
		float sum = 0.0;
		for (uint i = 0; i < PARTS; i++) sum += sums[to + i * DIM + t];
		sums[to + PARTS * DIM + t] = sum / float(pc.rows);
		return;
	}
	uint each = (pc.rows + PARTS - 1) / PARTS, from = gl_WorkGroupID.x * each, end = min(from + each, pc.rows);
	vec4 sum = vec4(0.0);
	if (t < AT_A_TIME * QUADS) {
		for (uint row = from + t / QUADS; row < end; row += AT_A_TIME) sum += x_load4(pc.base + (head * pc.rows + row) * DIM + t % QUADS * 4);
	}
	part[t] = sum;
	barrier();
	if (t < QUADS) {
		for (uint i = 1; i < AT_A_TIME; i++) sum += part[t + i * QUADS];
		for (uint i = 0; i < 4; i++) sums[to + gl_WorkGroupID.x * DIM + t * 4 + i] = sum[i];
	}
}
