#version 450
// Moves the rows of a [T, H, W] grid of tokens into or out of NABLA's order (kandinsky-5, kandinsky/models/utils.py,
// fractal_flatten and fractal_unflatten): 64 consecutive tokens are an 8 x 8 patch of one frame.
//
// The permutation stays within a band of 8 token rows: in raster order position i * W + 8 b + j, in fractal order
// 64 b + 8 i + j, for patch b, row i and column j of the patch. So bands are copied one by one and the host may cut
// between any two.
//
// One invocation moves one unit of a row: 16 bytes with QUADS, else 4. Ranges start at a band and hold whole bands.
// With INVERSE, x is in fractal order and y in raster order.
//
//@variant fractal_order

layout(constant_id = 0) const uint THREADS = 128;
layout(constant_id = 1) const bool QUADS = false;
layout(constant_id = 2) const bool INVERSE = false;
layout(local_size_x_id = 0) in; // = THREADS
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint width; // tokens, a multiple of 8
	uint units; // per row
	uint total; // units to move
} pc;

layout(set = 0, binding = 0, std430) readonly buffer XWords { uint x_words[]; };
layout(set = 0, binding = 0, std430) readonly buffer XQuads { uvec4 x_quads[]; };
layout(set = 0, binding = 1, std430) writeonly buffer YWords { uint y_words[]; };
layout(set = 0, binding = 1, std430) writeonly buffer YQuads { uvec4 y_quads[]; };

void main() {
	uint to = gl_GlobalInvocationID.x;
	if (to >= pc.total) return;
	uint row = to / pc.units;
	uint band = row / (8 * pc.width) * (8 * pc.width);
	uint in_band = row - band;
	uint other;
	if (INVERSE) {
		uint i = in_band / pc.width;
		uint x = in_band % pc.width;
		other = x / 8 * 64 + i * 8 + x % 8;
	} else {
		uint b = in_band / 64;
		uint i = in_band % 64 / 8;
		other = i * pc.width + b * 8 + in_band % 8;
	}
	uint from = (band + other) * pc.units + to % pc.units;
	if (QUADS) y_quads[to] = x_quads[from];
	else y_words[to] = x_words[from];
}
