#version 450
// Rounds rows to signed bytes: y[m, i] = round(r[m, i] / s[m]), s[m] = max over i of |r[m, i]| / 127, where r = x H, H an
// orthogonal matrix that spreads what is large in a few channels over a block of 8^STAGES of them: QuaRot (Ashkboos et al.,
// arXiv 2404.00456). Weights that were turned by the same H give the products of x and the weights as they were, but no
// channel is so much larger than others that these round to nothing.
//
// H is block diagonal, each block a Hadamard matrix over the root of its size, its columns in the order in which the stages
// below leave them: stage s transforms the s-th digit, to base 8, of a channel's number within its block, and of the last
// stage's results invocation t writes those of digits t to the places 8 t ... 8 t + 7. A block's numbers pass from stage
// to stage through shared memory.
//
// One workgroup of 128 invocations takes one row, 1,024 channels at a time, twice: for the maximum and for rounding. A row
// that is all zeros gets zeros and a scale of 0. One that holds an infinity or no number gets a scale that is no number,
// and so do its products.
//
// Limits: DIM a multiple of 8^STAGES; x starts at a multiple of 16 bytes, y at one of 8.
//
// in: x (0)    out: y (1, bytes), scale (2, f32)

#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint STAGES = 2;
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint dim;
	uint rows;
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) writeonly buffer Y { uvec2 y_pairs[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Scale { float scale[]; };

const uint CHUNK = 1024;
shared float exchange[CHUNK + CHUNK / 8]; // one in nine is left out, so that both directions spread over the banks
shared uint tops[128]; // largest magnitudes' bits, which have the order of the magnitudes, and infinity and NaN above them

const uint INFINITE = 0x7f800000u;

uint place(uint i) { return i + i / 8; }

// hadamard8 transforms eight numbers.
void hadamard8(inout float v[8]) {
	[[unroll]] for (uint half_ = 1; half_ < 8; half_ *= 2) {
		[[unroll]] for (uint i = 0; i < 8; i++) {
			if ((i & half_) == 0) {
				float a = v[i], b = v[i + half_];
				v[i] = a + b;
				v[i + half_] = a - b;
			}
		}
	}
}

// channel is the number, in a chunk, of the j-th of an invocation's channels in a stage.
uint channel(uint stage, uint t, uint j) {
	if (stage == 0) return t * 8 + j;
	if (stage == 1) return t / 8 * 64 + j * 8 + t % 8;
	return t / 64 * 512 + j * 64 + t % 64;
}

// turned returns eight channels of the row's chunk that begins at from, turned but for the factor 8^(-STAGES/2).
void turned(uint row, uint from, out float v[8]) {
	uint t = gl_LocalInvocationIndex;
	uint i = from + t * 8;
	vec4 lo = vec4(0.0), hi = vec4(0.0);
	if (i < pc.dim) x_load8(row * pc.dim + i, lo, hi);
	v = float[8](lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w);
	hadamard8(v);
	[[unroll]] for (uint stage = 1; stage < STAGES; stage++) {
		barrier();
		[[unroll]] for (uint j = 0; j < 8; j++) exchange[place(channel(stage - 1, t, j))] = v[j];
		barrier();
		[[unroll]] for (uint j = 0; j < 8; j++) v[j] = exchange[place(channel(stage, t, j))];
		hadamard8(v);
	}
}

uint packed(float a, float b, float c, float d) {
	ivec4 q = ivec4(roundEven(clamp(vec4(a, b, c, d), -127.0, 127.0))) & 0xff;
	return uint(q.x | q.y << 8 | q.z << 16 | q.w << 24);
}

void main() {
	uint row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	if (row >= pc.rows) return; // all of a workgroup
	uint t = gl_LocalInvocationIndex;
	float v[8];
	uint mine = 0;
	for (uint from = 0; from < pc.dim; from += CHUNK) {
		turned(row, from, v);
		[[unroll]] for (uint j = 0; j < 8; j++) mine = max(mine, floatBitsToUint(v[j]) & 0x7fffffffu);
	}
	tops[t] = mine;
	barrier();
	for (uint n = 64; n > 0; n /= 2) {
		if (t < n) tops[t] = max(tops[t], tops[t + n]);
		barrier();
	}
	uint top = tops[0];
	float most = top < INFINITE ? uintBitsToFloat(top) : 0.0;
	float inv = most > 0.0 ? 127.0 / most : 0.0;
	const float root = STAGES == 2 ? 0.125 : STAGES == 3 ? 0.04419417382415922 : 0.35355339059327373; // 8^(-STAGES/2)
	if (t == 0) scale[row] = top < INFINITE ? most / 127.0 * root : uintBitsToFloat(0x7fc00000u);
	for (uint from = 0; from < pc.dim; from += CHUNK) {
		turned(row, from, v);
		uint i = from + t * 8;
		if (i < pc.dim) y_pairs[(row * pc.dim + i) / 8] = uvec2(packed(v[0] * inv, v[1] * inv, v[2] * inv, v[3] * inv), packed(v[4] * inv, v[5] * inv, v[6] * inv, v[7] * inv));
	}
}
