#version 450
// Writes one 32-bit pattern into a range of words, as vkCmdFillBuffer does, but from a compute queue and at
// any word offset. One invocation writes one word; each workgroup covers local_size_x words.
//
// in:  nothing       out: words[first … first + count − 1] = pattern
//
//@variant fill

layout(local_size_x_id = 0) in;
layout(local_size_x = 256) in;

layout(push_constant) uniform Push {
	uint first;
	uint count;
	uint pattern;
} pc;

layout(set = 0, binding = 0) writeonly buffer Words { uint words[]; };

void main() {
	uint i = gl_GlobalInvocationID.x;
	if (i < pc.count) {
		words[pc.first + i] = pc.pattern;
	}
}
