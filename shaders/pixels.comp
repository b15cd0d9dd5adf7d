#version 450
// Turns decoded video into bytes: y = trunc((clamp(x, -1, 1) + 1) 127.5), NaN giving 0; the order of elements is kept, so
// channels-last video [T, H, W, 3] becomes packed RGB. kandinsky-5, kandinsky/generation_utils.py.
//
// One invocation computes four bytes, one word; bytes past the last element are 0.
//
// bindings: 0 x [count], 1 y, ceil(count / 4) words

#include "tensor.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;

layout(push_constant) uniform Push {
	uint count;
	uint x_base;
	uint y_base; // in words
} pc;

TENSOR_IN(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) writeonly buffer Bytes { uint words[]; };

void main() {
	uint i = grid_index();
	if (i >= (pc.count + 3) / 4) return;
	uint word = 0;
	for (uint k = 0; k < 4; k++) {
		if (4 * i + k >= pc.count) break;
		float v = x_load(pc.x_base + 4 * i + k);
		if (isnan(v)) continue;
		word |= uint((clamp(v, -1.0, 1.0) + 1.0) * 127.5) << (8 * k);
	}
	words[pc.y_base + i] = word;
}
