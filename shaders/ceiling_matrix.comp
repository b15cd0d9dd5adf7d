#version 450
// Measures what the device's matrix units give at most through VK_KHR_cooperative_matrix: every subgroup multiplies matrices
// that stay in registers, FRAGS_M · FRAGS_N products a round that do not depend on each other, sums in fp32, those of signed
// bytes (ceiling_matrix_i8) in 32-bit integers.
//
// in:  nothing       out (0): one word an invocation, the sum of one element of each product's sums:
//                    FRAGS_M · FRAGS_N · rounds · MAT_K · a · b
//
// Limits: the workgroup consists of full subgroups of SUBGROUP invocations.
//
//@variant ceiling_matrix_bf16 BF16
//@variant ceiling_matrix_f16
//@variant ceiling_matrix_i8 I8

#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_control_flow_attributes : require
#ifdef BF16
#extension GL_EXT_bfloat16 : require
#define OPERAND bfloat16_t
#define SUM float
#elif defined(I8)
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#define OPERAND int8_t
#define SUM int
#else
#define SUM float
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define OPERAND float16_t
#endif

layout(constant_id = 0) const uint FRAGS_M = 2;
layout(constant_id = 1) const uint FRAGS_N = 4;
layout(constant_id = 26) const uint MAT_M = 16;
layout(constant_id = 27) const uint MAT_N = 16;
layout(constant_id = 28) const uint MAT_K = 16;
layout(local_size_x_id = 31) in;
layout(local_size_x = 256) in;

layout(push_constant) uniform Push {
	uint rounds;
	float a;
	float b;
} pc;

layout(set = 0, binding = 0) writeonly buffer Out { float sums[]; };

void main() {
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> a[FRAGS_M];
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> b[FRAGS_N];
	coopmat<SUM, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator> c[FRAGS_M * FRAGS_N];
	[[unroll]] for (uint i = 0; i < FRAGS_M; ++i) a[i] = coopmat<OPERAND, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA>(OPERAND(pc.a));
	[[unroll]] for (uint j = 0; j < FRAGS_N; ++j) b[j] = coopmat<OPERAND, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB>(OPERAND(pc.b));
	[[unroll]] for (uint k = 0; k < FRAGS_M * FRAGS_N; ++k) c[k] = coopmat<SUM, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator>(SUM(0));
	for (uint r = 0; r < pc.rounds; ++r) {
		[[unroll]] for (uint i = 0; i < FRAGS_M; ++i) {
			[[unroll]] for (uint j = 0; j < FRAGS_N; ++j) c[i * FRAGS_N + j] = coopMatMulAdd(a[i], b[j], c[i * FRAGS_N + j]);
		}
	}
	float sum = 0;
	[[unroll]] for (uint k = 0; k < FRAGS_M * FRAGS_N; ++k) sum += float(c[k][0]);
	sums[gl_GlobalInvocationID.x] = sum;
}
