#version 450
// Copies a box of up to four axes between tensors of any float types and strides: crop, concatenate, permute, cast, and
// with BLEND a linear cross-fade along one axis of the box:
//
//   plain:  dst[p] = src[p]
//   BLEND:  dst[p] = src[p] (1 - i/E) + dst[p] (i/E),  i = blend_first + p[blend_axis], E = blend_extent
//
// p runs over size[0] x size[1] x size[2] x size[3], the last fastest; element p lies at base + sum of p[k] stride[k]. One
// invocation moves one element, with VEC four along the last axis: size[3], bases and strides are then multiples of 4,
// except the last strides, which are 1, and blend_axis is not 3.
//
// bindings: 0 src, 1 dst

#include "tensor.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint SRC_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint DST_TYPE = DTYPE_F32;
layout(constant_id = 2) const bool BLEND = false;
layout(constant_id = 3) const bool VEC = false;

layout(push_constant) uniform Push {
	uvec4 size;
	uvec4 src_stride;
	uvec4 dst_stride;
	uint src_base;
	uint dst_base;
	uint blend_axis;
	uint blend_first;
	uint blend_extent;
} pc;

TENSOR_IN_VEC(0, src, SRC_TYPE)
TENSOR_INOUT_VEC(1, dst, DST_TYPE)

void main() {
	const uint step = VEC ? 4 : 1;
	uint i = grid_index();
	uint columns = pc.size.w / step;
	uvec4 p;
	p.w = (i % columns) * step;
	i /= columns;
	p.z = i % pc.size.z;
	i /= pc.size.z;
	p.y = i % pc.size.y;
	p.x = i / pc.size.y;
	if (p.x >= pc.size.x) return;
	uvec4 s = p * pc.src_stride;
	uvec4 d = p * pc.dst_stride;
	uint from = pc.src_base + s.x + s.y + s.z + s.w;
	uint to = pc.dst_base + d.x + d.y + d.z + d.w;
	float part = 0.0;
	if (BLEND) part = float(pc.blend_first + p[pc.blend_axis]) / float(pc.blend_extent);
	if (VEC) {
		vec4 v = src_load4(from);
		if (BLEND) v = v * (1.0 - part) + dst_load4(to) * part;
		dst_store4(to, v);
	} else {
		float v = src_load(from);
		if (BLEND) v = v * (1.0 - part) + dst_load(to) * part;
		dst_store(to, v);
	}
}
