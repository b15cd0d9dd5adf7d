#version 450
// Weights that crossed the bus in eight bits: y[i] = codes[i] · scales[i / 128], in fp32, rounded to y's type.
//
// Codes are signed bytes, four in a word, the first in the lowest bits. One invocation computes the four elements of one
// word. count and bases are multiples of 4, those of y in elements, those of codes in words.
//
// bindings: 0 codes, 1 scales, 2 y

#include "tensor.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint Y_TYPE = DTYPE_F32;

layout(push_constant) uniform Push {
	uint count;
	uint codes_base;
	uint scales_base;
	uint y_base;
} pc;

layout(set = 0, binding = 0, std430) readonly buffer Codes { int codes[]; };
layout(set = 0, binding = 1, std430) readonly buffer Scales { float scales[]; };
TENSOR_OUT_VEC(2, y, Y_TYPE)

void main() {
	uint i = 4 * grid_index();
	if (i >= pc.count) return;
	int w = codes[pc.codes_base + (i >> 2)];
	// Extracting from a signed word extends the sign.
	ivec4 q = ivec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8), bitfieldExtract(w, 24, 8));
	y_store4(pc.y_base + i, vec4(q) * scales[pc.scales_base + (i >> 7)]);
}
