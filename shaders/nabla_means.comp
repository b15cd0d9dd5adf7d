#version 450
// Block means for NABLA (kandinsky-5, kandinsky/models/utils.py, nablaT_v2): y[h, b, :] = mean of x[h, 64 b + i, :],
// i = 0 ... 63, summed in fp32 in the order of i.
//
// One invocation makes four channels of one block's mean. x is [heads, 64 blocks, dim] from element base on; y is
// f32 [heads, blocks, dim]. dim, base and stride are multiples of 4. Groups: x over blocks * dim / 4, y over heads.
//
//@variant nabla_means

#include "tensor.glsl"

layout(constant_id = 0) const uint THREADS = 128;
layout(constant_id = 1) const uint X_TYPE = 0;
layout(local_size_x_id = 0) in; // = THREADS
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint base;
	uint stride; // elements of x from one head to the next
	uint blocks;
	uint dim;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) writeonly buffer Means { vec4 means[]; };

void main() {
	uint quads = pc.dim / 4;
	uint i = gl_GlobalInvocationID.x;
	if (i >= pc.blocks * quads) return;
	uint at = pc.base + gl_WorkGroupID.y * pc.stride + i / quads * 64 * pc.dim + i % quads * 4;
	vec4 sum = vec4(0);
	for (uint t = 0; t < 64; t++) sum += x_load4(at + t * pc.dim);
	means[gl_WorkGroupID.y * pc.blocks * quads + i] = sum * (1.0 / 64.0);
}
