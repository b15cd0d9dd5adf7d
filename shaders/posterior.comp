#version 450
// Draws from the VAE's posterior: y = (mean + exp(clamp(logvar, -30, 20) / 2) noise) scale, in fp32, where a row of
// moments holds C means, then C logarithms of variances. Without NOISE y = mean scale.
// diffusers, models/autoencoders/vae.py (DiagonalGaussianDistribution). One invocation computes one element of y.
//
// bindings: 0 moments [rows, 2 C], 1 noise [rows, C], 2 y [rows, C]

#include "tensor.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint MOMENTS_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint NOISE_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 3) const bool NOISE = false;

layout(push_constant) uniform Push {
	uint rows;
	uint channels;
	float scale;
	uint moments_base;
	uint noise_base;
	uint y_base;
} pc;

TENSOR_IN(0, moments, MOMENTS_TYPE)
TENSOR_IN(1, noise, NOISE_TYPE)
TENSOR_OUT(2, y, Y_TYPE)

void main() {
	uint i = grid_index();
	uint row = i / pc.channels;
	if (row >= pc.rows) return;
	uint at = pc.moments_base + row * 2 * pc.channels + i % pc.channels;
	float v = moments_load(at);
	if (NOISE) {
		float logvar = clamp(moments_load(at + pc.channels), -30.0, 20.0);
		v += exp(0.5 * logvar) * noise_load(pc.noise_base + i);
	}
	y_store(pc.y_base + i, v * pc.scale);
}
