#version 450
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
layout(local_size_x_id = 0, local_size_y = 2) in;
layout(local_size_x = 64) in;
layout(constant_id = 1) const uint TILE = 8;
layout(constant_id = 2) const float EPS = 0.5;
layout(constant_id = 3) const bool FLAG = false;
layout(constant_id = 4) const int LOW = -3;
layout(push_constant, scalar) uniform Push {
	uint count;
	layout(offset = 16) vec3 v;
	float alpha;
	int shift;
	uint strides[5];
	uint64_t big;
} pc;
layout(set = 0, binding = 0) readonly buffer A { float16_t a[]; };
layout(set = 0, binding = 1) writeonly buffer B { float b[]; } outp;
layout(set = 0, binding = 2) buffer Unused { float c[]; };
layout(set = 0, binding = 3) buffer D { uint total; float d[]; } acc;
void main() {
	uint i = gl_GlobalInvocationID.x;
	if (i < pc.count) {
		outp.b[i] = float(a[i]) * pc.alpha + TILE + EPS + (FLAG ? 1.0 : 0.0) + pc.v.y + LOW + pc.shift;
		acc.d[i + pc.strides[1] + uint(pc.big)] += 1;
	}
}
