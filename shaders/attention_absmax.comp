#version 450
// Largest magnitudes of heads, as float bits: peak[slot + h, g] = max |x[h, i]| over every PEAKS-th stretch of 4 * THREADS
// elements i, from the g-th on. Magnitudes order like their bits, so an integer maximum serves, and a NaN counts as
// larger than infinity. attention_half takes the maximum of the PEAKS words and chooses its powers of two by it.
//
// Groups: PEAKS of each head (x: stretch, y: head). x is [heads, stride] from element base on; base, stride and count
// are multiples of 4. A head too large for one binding comes in several dispatches, all but the first with more = 1.
//
//@variant attention_absmax

#include "tensor.glsl"

layout(constant_id = 0) const uint THREADS = 128;
layout(constant_id = 1) const uint X_TYPE = 0;
layout(local_size_x_id = 0) in; // = THREADS
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint base;
	uint stride; // elements from one head to the next
	uint count;  // elements per head
	uint slot;   // index in peak of the first head
	uint more;   // 1: keep what peak holds if it is larger
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) buffer Peak { uint peak[]; };

shared uint part[THREADS];

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint step = gl_NumWorkGroups.x * THREADS * 4;
	uint best = 0;
	for (uint i = (gl_WorkGroupID.x * THREADS + tid) * 4; i < pc.count; i += step) {
		uvec4 u = floatBitsToUint(x_load4(pc.base + gl_WorkGroupID.y * pc.stride + i)) & 0x7fffffffu;
		best = max(best, max(max(u.x, u.y), max(u.z, u.w)));
	}
	part[tid] = best;
	barrier();
	if (tid == 0) {
		for (uint i = 1; i < THREADS; i++) best = max(best, part[i]);
		uint to = (pc.slot + gl_WorkGroupID.y) * gl_NumWorkGroups.x + gl_WorkGroupID.x;
		peak[to] = pc.more != 0 ? max(peak[to], best) : best;
	}
}
