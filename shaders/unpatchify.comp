#version 450
// Puts the patches of 1 x 2 x 2 that the output layer predicts back into a video latent: x [N, 4 C] to y [T, H, W, C],
// y[t, 2i + p_h, 2j + p_w, c] = x[token(t, i, j), c 4 + p_h 2 + p_w]. The channel is slowest here, other than in patchify.
// kandinsky-5, kandinsky/models/nn.py (OutLayer).
//
// Tokens are row-major in (t, i, j), with FRACTAL in NABLA's order. One invocation computes one element of y.
//
// bindings: 0 x [T H/2 W/2, 4 C], 1 y [T, H, W, C]

#include "tensor.glsl"
#include "fractal.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 2) const bool FRACTAL = false;

layout(push_constant) uniform Push {
	uint frames;
	uint height; // in latent rows
	uint width;
	uint channels;
	uint x_base;
	uint y_base;
} pc;

TENSOR_IN(0, x, X_TYPE)
TENSOR_OUT(1, y, Y_TYPE)

void main() {
	uint i = grid_index();
	uint c = i % pc.channels;
	uint pixel = i / pc.channels;
	uint column = pixel % pc.width;
	pixel /= pc.width;
	uint row = pixel % pc.height;
	uint t = pixel / pc.height;
	if (t >= pc.frames) return;
	uint token = token_index(uvec3(t, row / 2, column / 2), pc.height / 2, pc.width / 2, FRACTAL);
	y_store(pc.y_base + i, x_load(pc.x_base + (token * pc.channels + c) * 4 + (row % 2) * 2 + column % 2));
}
