#version 450
// Measures what the device's fp32 units give at most: every invocation computes nothing but fused multiply-adds in registers,
// 16 chains that do not depend on each other and are not the same: chain k starts at (k + invocation) / 16.
//
// in:  nothing       out (0): one word an invocation, the sum of its chains
//
//@variant ceiling_fma

#extension GL_EXT_control_flow_attributes : require

layout(local_size_x = 256) in;

layout(push_constant) uniform Push {
	uint rounds;
	float a;
	float b;
} pc;

layout(set = 0, binding = 0) writeonly buffer Out { float sums[]; };

const uint CHAINS = 16;

void main() {
	float x[CHAINS];
	[[unroll]] for (uint k = 0; k < CHAINS; ++k) x[k] = float(k + gl_LocalInvocationIndex) / 16;
	for (uint r = 0; r < pc.rounds; ++r) {
		[[unroll]] for (uint k = 0; k < CHAINS; ++k) x[k] = fma(x[k], pc.a, pc.b);
	}
	float sum = 0;
	[[unroll]] for (uint k = 0; k < CHAINS; ++k) sum += x[k];
	sums[gl_GlobalInvocationID.x] = sum;
}
