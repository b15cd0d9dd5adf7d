#version 450
// Measures what the device's matrix units give at most through VK_KHR_cooperative_matrix: every subgroup multiplies matrices
// that stay in registers, FRAGS_M · FRAGS_N products a round that do not depend on each other, sums in fp32, those of signed
// bytes (ceiling_matrix_i8) in 32-bit integers. The matrices come from memory, so that no two products are the same to a
// compiler; random ones make the units switch, and take power, as real work does.
//
// in (1): POOL matrices A, MAT_M · MAT_K row-major, then POOL matrices B, MAT_K · MAT_N row-major. Subgroup s multiplies A[(s + i) %
//         POOL] and B[(s + j) % POOL].
// out (0): a matrix a subgroup, MAT_M · MAT_N row-major: the sum of all products, rounds times; i8: 32-bit integers, which wrap
//
// Limits: the workgroup consists of full subgroups; FRAGS_M and FRAGS_N are at most POOL.
//
//@variant ceiling_matrix_bf16 BF16
//@variant ceiling_matrix_f16
//@variant ceiling_matrix_i8 I8

#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_control_flow_attributes : require
#ifdef BF16
#extension GL_EXT_bfloat16 : require
#define OPERAND bfloat16_t
#define SUM float
#define IN_WORD 2
#elif defined(I8)
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#define OPERAND int8_t
#define SUM int
#define IN_WORD 4
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define OPERAND float16_t
#define SUM float
#define IN_WORD 2
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
	uint pool;
} pc;

layout(set = 0, binding = 0) writeonly buffer Out { SUM sums[]; };
layout(set = 0, binding = 1) readonly buffer In { uint words[]; };

const uint A_WORDS = MAT_M * MAT_K / IN_WORD;
const uint B_WORDS = MAT_K * MAT_N / IN_WORD;

void main() {
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> a[FRAGS_M];
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> b[FRAGS_N];
	coopmat<SUM, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator> c[FRAGS_M * FRAGS_N];
	uint subgroup = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
	[[unroll]] for (uint i = 0; i < FRAGS_M; ++i) coopMatLoad(a[i], words, (subgroup + i) % pc.pool * A_WORDS, MAT_K / IN_WORD, gl_CooperativeMatrixLayoutRowMajor);
	[[unroll]] for (uint j = 0; j < FRAGS_N; ++j) coopMatLoad(b[j], words, pc.pool * A_WORDS + (subgroup + j) % pc.pool * B_WORDS, MAT_N / IN_WORD, gl_CooperativeMatrixLayoutRowMajor);
	[[unroll]] for (uint k = 0; k < FRAGS_M * FRAGS_N; ++k) c[k] = coopmat<SUM, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator>(SUM(0));
	for (uint r = 0; r < pc.rounds; ++r) {
		[[unroll]] for (uint i = 0; i < FRAGS_M; ++i) {
			[[unroll]] for (uint j = 0; j < FRAGS_N; ++j) c[i * FRAGS_N + j] = coopMatMulAdd(a[i], b[j], c[i * FRAGS_N + j]);
		}
	}
	[[unroll]] for (uint k = 1; k < FRAGS_M * FRAGS_N; ++k) c[0] += c[k];
	coopMatStore(c[0], sums, subgroup * MAT_M * MAT_N, MAT_N, gl_CooperativeMatrixLayoutRowMajor);
}
