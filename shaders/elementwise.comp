#version 450
// One pass over up to three inputs, in fp32; alpha and beta are push constants.
//
//   OP 0  y = alpha a + beta                    cast, scale
//   OP 1  y = alpha a + beta b                  add, subtract, axpy
//   OP 2  y = alpha a b
//   OP 3  y = f(a)                              f by ACTIVATION
//   OP 4  y = f(a) b                            SwiGLU
//   OP 5  y = a + b c                           gated residual
//   OP 6  y = a + alpha (c + beta (b - c))      Euler step with classifier-free guidance
//
// All have count elements, except that with B_ROW (C_ROW) b (c) is one row of `row` elements, used again for every row.
// One invocation computes one element, with VEC four: count, row and bases are then multiples of 4. y may be any input of
// the same type and size.
//
// bindings: 0 a, 1 b, 2 c, 3 y

#include "tensor.glsl"
#include "activation.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint A_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint B_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint C_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 4) const uint OP = 0;
layout(constant_id = 5) const uint ACTIVATION = 0;
layout(constant_id = 6) const bool B_ROW = false;
layout(constant_id = 7) const bool C_ROW = false;
layout(constant_id = 8) const bool VEC = false;

layout(push_constant) uniform Push {
	uint count;
	uint row;
	float alpha;
	float beta;
	uint a_base;
	uint b_base;
	uint c_base;
	uint y_base;
} pc;

TENSOR_IN_VEC(0, a, A_TYPE)
TENSOR_IN_VEC(1, b, B_TYPE)
TENSOR_IN_VEC(2, c, C_TYPE)
TENSOR_OUT_VEC(3, y, Y_TYPE)

const bool USES_B = OP == 1 || OP == 2 || OP >= 4;
const bool USES_C = OP >= 5;

float combine(float a, float b, float c) {
	if (OP == 0) return pc.alpha * a + pc.beta;
	if (OP == 1) return pc.alpha * a + pc.beta * b;
	if (OP == 2) return pc.alpha * a * b;
	if (OP == 3) return activate(a, ACTIVATION);
	if (OP == 4) return activate(a, ACTIVATION) * b;
	if (OP == 5) return a + b * c;
	return a + pc.alpha * (c + pc.beta * (b - c));
}

void main() {
	uint i = grid_index();
	if (!VEC) {
		if (i >= pc.count) return;
		float a = a_load(pc.a_base + i);
		float b = USES_B ? b_load(pc.b_base + (B_ROW ? i % pc.row : i)) : 0.0;
		float c = USES_C ? c_load(pc.c_base + (C_ROW ? i % pc.row : i)) : 0.0;
		y_store(pc.y_base + i, combine(a, b, c));
		return;
	}
	i *= 4;
	if (i >= pc.count) return;
	vec4 a = a_load4(pc.a_base + i);
	vec4 b = USES_B ? b_load4(pc.b_base + (B_ROW ? i % pc.row : i)) : vec4(0.0);
	vec4 c = USES_C ? c_load4(pc.c_base + (C_ROW ? i % pc.row : i)) : vec4(0.0);
	y_store4(pc.y_base + i, vec4(combine(a.x, b.x, c.x), combine(a.y, b.y, c.y), combine(a.z, b.z, c.z), combine(a.w, b.w, c.w)));
}
