// Tensor bindings: one storage buffer seen as f32, bf16 or f16 elements, the type chosen by specialization constant.
//
//   layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;   // 0 = f32, 1 = bf16, 2 = f16, as engine.DType
//   layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
//   TENSOR_IN(0, x, X_TYPE)        float x_load(uint i)
//   TENSOR_OUT(1, y, Y_TYPE)       void  y_store(uint i, float v)
//   TENSOR_INOUT(2, r, R_TYPE)     both
//   TENSOR_IN_VEC(3, w, W_TYPE)    w_load, and vec4 w_load4(uint i) for elements i…i+3,
//                                  void w_load8(uint i, out vec4 lo, out vec4 hi) for elements i…i+7
//   TENSOR_OUT_VEC, TENSOR_INOUT_VEC   with y_store4(uint i, vec4 v), and y_load4 and y_load8
//
// The index i counts elements from the start of the bound range. Loads widen to f32 exactly. Stores round to nearest,
// ties to even; NaN stays NaN, infinity stays infinity, and a value beyond the target's range becomes infinity.
//
// The forms with 4 move 16 bytes (f32) or 8 bytes (bf16, f16) at once, load8 moves pieces of 16 bytes: i must be a
// multiple of 4 (of 8) and the bound range must start at a multiple of 16 bytes. Elements past the end of the range must
// not be asked for.
//
// Each macro declares several views of one binding, of which only those that the type needs are used. The views need
// storageBuffer16BitAccess and no 16-bit arithmetic. An invocation owns the 16-bit elements that it writes, so
// neighbours in one word may be written by different invocations.

#ifndef TENSOR_GLSL
#define TENSOR_GLSL

#extension GL_EXT_shader_16bit_storage : require

const uint DTYPE_F32 = 0;
const uint DTYPE_BF16 = 1;
const uint DTYPE_F16 = 2;

// bf16_to_f32 widens the bfloat16 pattern in the low half of h.
float bf16_to_f32(uint h) { return uintBitsToFloat(h << 16); }

// f16_to_f32 widens the binary16 pattern in the low half of h.
float f16_to_f32(uint h) { return unpackHalf2x16(h).x; }

// bf16_from_f32 rounds v to bfloat16, in the low half of the result.
uint bf16_from_f32(float v) {
	uint u = floatBitsToUint(v);
	if ((u & 0x7fffffffu) > 0x7f800000u) return (u >> 16) | 0x40u; // NaN, quieted
	return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

// f16_from_f32 rounds v to binary16, in the low half of the result. packHalf2x16 would leave the rounding mode to the
// driver, and some truncate.
uint f16_from_f32(float v) {
	uint u = floatBitsToUint(v);
	uint sign = (u >> 16) & 0x8000u;
	u &= 0x7fffffffu;
	if (u > 0x7f800000u) return sign | 0x7e00u | ((u >> 13) & 0x3ffu);
	if (u >= 0x477ff000u) return sign | 0x7c00u; // 65520 and above
	if (u < 0x38800000u) {
		// Below 2^-14 the result is subnormal: its bits are round(|v| * 2^24), and the adder does the rounding.
		precise float aligned = uintBitsToFloat(u) + 0.5;
		return sign | (floatBitsToUint(aligned) - 0x3f000000u);
	}
	return sign | ((u - 0x38000000u + 0xfffu + ((u >> 13) & 1u)) >> 13);
}

// dtype_round returns v as a tensor of the given type would hold it.
float dtype_round(float v, uint type) {
	if (type == DTYPE_BF16) return bf16_to_f32(bf16_from_f32(v));
	if (type == DTYPE_F16) return f16_to_f32(f16_from_f32(v));
	return v;
}

// dtype_unpack widens the four 16-bit elements of two words.
vec4 dtype_unpack(uvec2 w, uint type) {
	if (type == DTYPE_BF16) {
		return uintBitsToFloat(uvec4(w.x << 16, w.x & 0xffff0000u, w.y << 16, w.y & 0xffff0000u));
	}
	return vec4(unpackHalf2x16(w.x), unpackHalf2x16(w.y));
}

// dtype_pack rounds four values to a 16-bit type.
uvec2 dtype_pack(vec4 v, uint type) {
	if (type == DTYPE_BF16) {
		return uvec2(bf16_from_f32(v.x) | (bf16_from_f32(v.y) << 16), bf16_from_f32(v.z) | (bf16_from_f32(v.w) << 16));
	}
	return uvec2(f16_from_f32(v.x) | (f16_from_f32(v.y) << 16), f16_from_f32(v.z) | (f16_from_f32(v.w) << 16));
}

#define TENSOR_VIEWS(b, name, access) \
	layout(set = 0, binding = b, std430) access buffer name##_Words { uint name##_words[]; }; \
	layout(set = 0, binding = b, std430) access buffer name##_Halves { uint16_t name##_halves[]; };

#define TENSOR_VEC_VIEWS(b, name, access) \
	layout(set = 0, binding = b, std430) access buffer name##_Quads { uvec4 name##_quads[]; }; \
	layout(set = 0, binding = b, std430) access buffer name##_Pairs { uvec2 name##_pairs[]; };

#define TENSOR_LOAD(name, type) \
	float name##_load(uint i) { \
		if (type == DTYPE_F32) return uintBitsToFloat(name##_words[i]); \
		if (type == DTYPE_BF16) return bf16_to_f32(uint(name##_halves[i])); \
		return f16_to_f32(uint(name##_halves[i])); \
	}

#define TENSOR_LOAD4(name, type) \
	vec4 name##_load4(uint i) { \
		if (type == DTYPE_F32) return uintBitsToFloat(name##_quads[i >> 2]); \
		return dtype_unpack(name##_pairs[i >> 2], type); \
	}

#define TENSOR_LOAD8(name, type) \
	void name##_load8(uint i, out vec4 lo, out vec4 hi) { \
		if (type == DTYPE_F32) { \
			lo = uintBitsToFloat(name##_quads[i >> 2]); \
			hi = uintBitsToFloat(name##_quads[(i >> 2) + 1]); \
		} else { \
			uvec4 w = name##_quads[i >> 3]; \
			lo = dtype_unpack(w.xy, type); \
			hi = dtype_unpack(w.zw, type); \
		} \
	}

#define TENSOR_STORE4(name, type) \
	void name##_store4(uint i, vec4 v) { \
		if (type == DTYPE_F32) name##_quads[i >> 2] = floatBitsToUint(v); \
		else name##_pairs[i >> 2] = dtype_pack(v, type); \
	}

#define TENSOR_STORE(name, type) \
	void name##_store(uint i, float v) { \
		if (type == DTYPE_F32) name##_words[i] = floatBitsToUint(v); \
		else if (type == DTYPE_BF16) name##_halves[i] = uint16_t(bf16_from_f32(v)); \
		else name##_halves[i] = uint16_t(f16_from_f32(v)); \
	}

// TENSOR_RUN8(name) adds name_run8, which reads the first left of 8 elements from i on and puts zeros in the place of the
// others. With vec, i and left are multiples of 8 and whole vectors are read.
#define TENSOR_RUN8(name) \
	void name##_run8(uint i, uint left, bool vec, out vec4 lo, out vec4 hi) { \
		lo = hi = vec4(0.0); \
		if (vec) { \
			if (left > 0) name##_load8(i, lo, hi); \
			return; \
		} \
		for (uint j = 0; j < 4; j++) { \
			if (j < left) lo[j] = name##_load(i + j); \
			if (j + 4 < left) hi[j] = name##_load(i + j + 4); \
		} \
	}

#define TENSOR_IN(b, name, type) TENSOR_VIEWS(b, name, readonly) TENSOR_LOAD(name, type)
#define TENSOR_OUT(b, name, type) TENSOR_VIEWS(b, name, writeonly) TENSOR_STORE(name, type)
#define TENSOR_INOUT(b, name, type) TENSOR_VIEWS(b, name, ) TENSOR_LOAD(name, type) TENSOR_STORE(name, type)
#define TENSOR_IN_VEC(b, name, type) \
	TENSOR_IN(b, name, type) TENSOR_VEC_VIEWS(b, name, readonly) TENSOR_LOAD4(name, type) TENSOR_LOAD8(name, type)
#define TENSOR_OUT_VEC(b, name, type) \
	TENSOR_OUT(b, name, type) TENSOR_VEC_VIEWS(b, name, writeonly) TENSOR_STORE4(name, type)
#define TENSOR_INOUT_VEC(b, name, type) \
	TENSOR_INOUT(b, name, type) TENSOR_VEC_VIEWS(b, name, ) TENSOR_LOAD4(name, type) TENSOR_LOAD8(name, type) \
	TENSOR_STORE4(name, type)

#endif
