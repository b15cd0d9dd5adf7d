// What the kernels of attention by cooperative matrices have in common: push constants, bindings, and how operands become matrices of the
// operand type. BF16 chooses bf16 as it is, else powers of two bring heads into fp16's range. Needs tensor.glsl and the constants Q_TYPE, K_TYPE,
// V_TYPE and OUT_TYPE.

layout(push_constant) uniform Push {
	uint tq;           // queries of a head
	uint tk;           // keys of a head
	uint row;          // first query of this dispatch
	uint q_base;       // element of query 0 of the first head; may wrap below 0 when the binding starts at a later query
	uint k_base;
	uint v_base;
	uint out_base;     // element of out[0, first head, 0]; may wrap
	uint q_stride;     // elements from one head to the next
	uint kv_stride;
	uint out_stride;   // elements from one token of out to the next
	uint head;         // first query head of this dispatch
	uint kv_head;      // first bound kv head
	uint group;        // query heads per kv head
	uint blocks;       // blocks of 64 tokens per head (MODE 4)
	uint list_base;    // word of the first head's counts and
	uint index_base;   // of its indices (MODE 4)
	uint heads;        // query heads and
	uint kv_heads;     // kv heads in absmax
	float scale;
} pc;

TENSOR_IN_VEC(0, q, Q_TYPE)
TENSOR_IN_VEC(1, k, K_TYPE)
TENSOR_IN_VEC(2, v, V_TYPE)
TENSOR_OUT_VEC(3, o, OUT_TYPE)
layout(set = 0, binding = 4, std430) readonly buffer Mask { uint mask[]; };
layout(set = 0, binding = 6, std430) readonly buffer Counts { uint counts[]; };
layout(set = 0, binding = 7, std430) readonly buffer Indices { uint indices[]; };
#ifndef BF16
layout(set = 0, binding = 8, std430) readonly buffer Absmax { uint absmax[]; };
const uint PEAKS = 32; // as the host knows
#endif

// A masked score. Finite, because implementations may assume that infinities do not occur; below any real score.
const float NEVER = -3.0e38;
const float SEEN = -2.9e38;
const float LOG2E = 1.44269504088896341;
const float LAG = 8.0;
#ifdef BF16
const float BIAS = 0.0;
#else
const float BIAS = 5.0; // fp16 has more room above 1 than weights need, and less below it
#endif

#ifdef BF16
uvec4 operand(uvec4 lo, uvec4 hi, uint type, float by) { return lo; }
#else
// operand converts a run of 8 elements, times a power of two.
uvec4 operand(uvec4 lo, uvec4 hi, uint type, float by) {
	vec4 a = type == DTYPE_F32 ? uintBitsToFloat(lo) : dtype_unpack(lo.xy, type);
	vec4 b = type == DTYPE_F32 ? uintBitsToFloat(hi) : dtype_unpack(lo.zw, type);
	a *= by;
	b *= by;
	return uvec4(packHalf2x16(a.xy), packHalf2x16(a.zw), packHalf2x16(b.xy), packHalf2x16(b.zw));
}

// power_for returns the power of two that brings the largest magnitude of a head into [2^14, 2^15). Zero, infinity and
// NaN give a power that leaves them what they are.
float power_for(uint slot) {
	uint bits = 0;
	for (uint i = 0; i < PEAKS; i++) bits = max(bits, absmax[slot * PEAKS + i]);
	int e = int(bits >> 23) - 127;
	if (e == 128) return 1.0;
	return uintBitsToFloat(uint(clamp(127 + 14 - e, 1, 254)) << 23);
}
#endif
