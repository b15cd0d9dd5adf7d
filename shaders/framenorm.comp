#version 450
// Pulls the statistics of single frames of x [frames, frame_size] towards a reference, in place, in fp32:
//
//   mu, s = mean and unbiased deviation of the frame;  M, S = those of the reference
//   M' = clamp(M, mu - mean_down, mu + mean_up),  S' = clamp(S, s - std_down, s + std_up)
//   x <- (x - mu) / s S' + M'
//
// kandinsky-5, kandinsky/i2v_pipeline.py (normalize_first_frame). One invocation changes one element; a dispatch covers some
// frames, with x and frame statistics bound from the first of them.
//
// bindings: 0 x, 1 frame statistics f32 [frames, 4], 2 reference statistics f32 [4] (count, mean, squares, unused)

#include "tensor.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;

layout(push_constant) uniform Push {
	uint frames;
	uint frame_size;
	float mean_down;
	float mean_up;
	float std_down;
	float std_up;
	uint x_base;
	uint frame_base;
	uint reference_base;
} pc;

TENSOR_INOUT(0, x, X_TYPE)
layout(set = 0, binding = 1, std430) readonly buffer Frames { float frame_stats[]; };
layout(set = 0, binding = 2, std430) readonly buffer Reference { float reference_stats[]; };

void main() {
	uint i = grid_index();
	uint frame = i / pc.frame_size;
	if (frame >= pc.frames) return;
	uint f = pc.frame_base + 4 * frame;
	uint r = pc.reference_base;
	float mean = frame_stats[f + 1];
	float deviation = sqrt(frame_stats[f + 2] / (frame_stats[f] - 1.0));
	float to_mean = clamp(reference_stats[r + 1], mean - pc.mean_down, mean + pc.mean_up);
	float to_deviation = sqrt(reference_stats[r + 2] / (reference_stats[r] - 1.0));
	to_deviation = clamp(to_deviation, deviation - pc.std_down, deviation + pc.std_up);
	x_store(pc.x_base + i, (x_load(pc.x_base + i) - mean) / deviation * to_deviation + to_mean);
}
