#version 450
// Joins the channels of a video latent and cuts it into patches of 1 x 2 x 2: rows y [N, 4 C], one per token, element
// ((p_h 2) + p_w) C + c holding channel c at row 2i + p_h, column 2j + p_w of the token's place (t, i, j).
// kandinsky-5, kandinsky/models/nn.py (VisualEmbeddings).
//
// The C channels are: latent_channels of latents, cond_channels of cond (0 without COND), and mask_channels (0 or 1) that
// are 1 on frames before mask_frames and 0 after. Tokens are row-major in (t, i, j), with FRACTAL in NABLA's order.
//
// A dispatch covers some frames, the first being first_frame; latents, cond and y are bound from those frames on. One
// invocation computes one element of y.
//
// bindings: 0 latents [T, H, W, latent_channels], 1 cond [T, H, W, cond_channels], 2 y [T H/2 W/2, 4 C]

#include "tensor.glsl"
#include "fractal.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint LATENTS_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint COND_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 3) const bool COND = false;
layout(constant_id = 4) const bool FRACTAL = false;

layout(push_constant) uniform Push {
	uint frames;
	uint height; // in latent rows
	uint width;
	uint latent_channels;
	uint cond_channels;
	uint mask_channels;
	uint mask_frames;
	uint first_frame;
	uint latents_base;
	uint cond_base;
	uint y_base;
} pc;

TENSOR_IN(0, latents, LATENTS_TYPE)
TENSOR_IN(1, cond, COND_TYPE)
TENSOR_OUT(2, y, Y_TYPE)

void main() {
	uint i = grid_index();
	uint channels = pc.latent_channels + pc.cond_channels + pc.mask_channels;
	uint token = i / (4 * channels);
	uint patch_h = pc.height / 2;
	uint patch_w = pc.width / 2;
	if (token >= pc.frames * patch_h * patch_w) return;
	uint feature = i % (4 * channels);
	uint corner = feature / channels;
	uint c = feature % channels;
	uvec3 place = token_place(token, patch_h, patch_w, FRACTAL);
	uint pixel = (place.x * pc.height + 2 * place.y + corner / 2) * pc.width + 2 * place.z + corner % 2;
	float v = 0.0;
	if (c < pc.latent_channels) {
		v = latents_load(pc.latents_base + pixel * pc.latent_channels + c);
	} else if (c < pc.latent_channels + pc.cond_channels) {
		if (COND) v = cond_load(pc.cond_base + pixel * pc.cond_channels + c - pc.latent_channels);
	} else {
		v = pc.first_frame + place.x < pc.mask_frames ? 1.0 : 0.0;
	}
	y_store(pc.y_base + i, v);
}
