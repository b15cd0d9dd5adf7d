#version 450
// Scores between block means for NABLA: a[h, i, j] = scale * q[h, i, :] . k[h, j, :], all f32.
//
// One workgroup of 256 makes a 64 x 64 tile, each invocation 4 x 4 of it; q and k come through shared memory in slices
// of 16 channels, transposed. q and k are [heads, blocks, dim], a is [heads, blocks, blocks]; dim is a multiple of 4.
// Groups: tiles of j, tiles of i, heads.
//
//@variant nabla_scores

#extension GL_EXT_control_flow_attributes : require

layout(local_size_x = 256) in;

layout(push_constant) uniform Push {
	uint blocks;
	uint dim;
	float scale;
} pc;

layout(set = 0, binding = 0, std430) readonly buffer Queries { vec4 queries[]; };
layout(set = 0, binding = 1, std430) readonly buffer Keys { vec4 keys[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Scores { float scores[]; };

const uint PITCH = 17;
shared vec4 q_slice[16 * PITCH];
shared vec4 k_slice[16 * PITCH];

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint tx = tid % 16;
	uint ty = tid / 16;
	uint quads = pc.dim / 4;
	uint head = gl_WorkGroupID.z * pc.blocks;
	uint i0 = gl_WorkGroupID.y * 64;
	uint j0 = gl_WorkGroupID.x * 64;
	vec4 sum[4];
	[[unroll]] for (uint r = 0; r < 4; r++) sum[r] = vec4(0);
	for (uint c0 = 0; c0 < quads; c0 += 4) {
		barrier();
		if (tid < 128) {
			// 4 rows x 4 channels, transposed on the way; half of the invocations idle here.
			bool is_q = tid < 64;
			uint row = tid % 64 / 4 * 4;
			uint quad = tid % 4;
			mat4 m;
			[[unroll]] for (uint r = 0; r < 4; r++) {
				uint block = (is_q ? i0 : j0) + row + r;
				vec4 x = vec4(0);
				if (block < pc.blocks && c0 + quad < quads) {
					uint at = (head + block) * quads + c0 + quad;
					if (is_q) x = queries[at]; else x = keys[at];
				}
				m[r] = x;
			}
			m = transpose(m);
			[[unroll]] for (uint r = 0; r < 4; r++) {
				uint to = (quad * 4 + r) * PITCH + row / 4;
				if (is_q) q_slice[to] = m[r]; else k_slice[to] = m[r];
			}
		}
		barrier();
		for (uint c = 0; c < 16; c++) {
			vec4 q = q_slice[c * PITCH + ty];
			vec4 k = k_slice[c * PITCH + tx];
			sum[0] += q.x * k;
			sum[1] += q.y * k;
			sum[2] += q.z * k;
			sum[3] += q.w * k;
		}
	}
	[[unroll]] for (uint r = 0; r < 4; r++) {
		uint i = i0 + ty * 4 + r;
		[[unroll]] for (uint c = 0; c < 4; c++) {
			uint j = j0 + tx * 4 + c;
			if (i < pc.blocks && j < pc.blocks) scores[(head + i) * pc.blocks + j] = sum[r][c] * pc.scale;
		}
	}
}
