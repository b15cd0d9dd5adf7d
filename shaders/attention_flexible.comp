#version 450
// Attention by the matrices of VK_NV_cooperative_matrix2, with online softmax (Dao et al., FlashAttention; see attention.comp for the formula).
//
// One workgroup computes SUBS * MAT queries of one head against all their keys, KEYS keys at a time. A subgroup owns MAT queries: it holds them,
// their scores, weights, sums and results in registers as matrices of MAT x MAT, so weights become operands of the second product without leaving
// them, and no subgroup waits for another's softmax. k and v pass through shared memory, fetched into registers one tile ahead; rows are 16
// bytes longer than they need be, so that rows read together lie in different banks.
//
// A weight is exp2(score - shift) with a shift per query that is a maximum of scores, but not always the newest: it is raised, and the result
// rescaled, only when some score of the subgroup's tile exceeds it by more than LAG + BIAS. Until a key is seen there is no shift; masks hide keys
// from all queries alike, so that is the same for all of them. Sums and the softmax are fp32.
//
// MODE 0: all keys. MODE 4: the keys of the 64-token blocks in indices[h, i / 64, 0 ... counts[h, i / 64] - 1]. With MASKED, only keys with
// mask[j] != 0. Key tiles start at multiples of KEYS and query tiles at multiples of their size, so the order of every sum is the same however the
// host cuts the queries and heads.
//
// Variant attention_flexible_bf16 takes q, k and v in bf16 as they are. attention_flexible_f16 takes any types, scaled by powers of two; see
// include/attention.glsl.
//
// Limits: MAT a multiple of the device's granularities and of 8; HEAD_DIM and KEYS of MAT; MODE 4: SUBS MAT and KEYS divide 64. SUBS full
// subgroups of SUBGROUP invocations are the workgroup. q, k, v start at multiples of 16 bytes, and q_base, k_base, v_base are multiples of 8
// elements. VEC_OUT: out is written in runs of 4. Shared memory: 16 STAGE + 4 KEYS bytes.
//
//@env vulkan1.3
//@variant attention_flexible_bf16 BF16
//@variant attention_flexible_f16

#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#ifdef BF16
#extension GL_EXT_bfloat16 : require
#define OPERAND bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define OPERAND float16_t
#endif
#include "tensor.glsl"

layout(constant_id = 0) const uint SUBS = 4;
layout(constant_id = 1) const uint HEAD_DIM = 128;
layout(constant_id = 2) const uint KEYS = 32;
layout(constant_id = 3) const uint SUBGROUP = 32;
layout(constant_id = 4) const uint MAT = 16;
layout(constant_id = 5) const uint MODE = 0;
layout(constant_id = 6) const bool MASKED = false;
layout(constant_id = 7) const uint Q_TYPE = 0;
layout(constant_id = 8) const uint K_TYPE = 0;
layout(constant_id = 9) const uint V_TYPE = 0;
layout(constant_id = 10) const uint OUT_TYPE = 0;
layout(constant_id = 11) const bool VEC_OUT = false;
layout(local_size_x_id = 12) in;
layout(local_size_x = 128) in;

const uint MODE_BLOCKS = 4;

#include "attention.glsl"

const uint THREADS = SUBS * SUBGROUP;
const uint TILE_Q = SUBS * MAT;
const uint FRAGS_K = KEYS / MAT;
const uint FRAGS_D = HEAD_DIM / MAT;
const uint RUNS = HEAD_DIM / 8;  // of 8 channels, 16 bytes in shared memory
const uint PITCH = RUNS + 1;     // of a token
const uint LOADS = (KEYS * RUNS + THREADS - 1) / THREADS;
const uint STRIP = HEAD_DIM % 64 == 0 ? 64 : HEAD_DIM; // channels of the result at a time through shared memory
const uint PITCH_O = STRIP / 4 + 1;

const uint AT_V = KEYS * PITCH;
const uint STAGE_LOOP = 2 * KEYS * PITCH;
const uint STAGE_Q = TILE_Q * PITCH;
const uint STAGE_O = TILE_Q * PITCH_O;
const uint STAGE_1 = STAGE_LOOP > STAGE_Q ? STAGE_LOOP : STAGE_Q;
const uint STAGE = STAGE_1 > STAGE_O ? STAGE_1 : STAGE_O;

shared uvec4 stage[STAGE];   // k and v; before the loop q, after it results
shared uint hidden[KEYS];    // 1 for keys of this tile that no query sees

#define SUM coopmat<float, gl_ScopeSubgroup, MAT, MAT, gl_MatrixUseAccumulator>
#define LEFT coopmat<OPERAND, gl_ScopeSubgroup, MAT, MAT, gl_MatrixUseA>
#define RIGHT coopmat<OPERAND, gl_ScopeSubgroup, MAT, MAT, gl_MatrixUseB>

LEFT queries[FRAGS_D];
SUM score[FRAGS_K];   // then the weights
SUM result[FRAGS_D];
SUM total;            // of the weights, each element the sum over its column in all tiles
SUM shift;            // the same in a row
bool started = false; // whether a key was seen

float higher(const in float a, const in float b) { return max(a, b); }
float added(const in float a, const in float b) { return a + b; }
float hide(const in uint row, const in uint col, const in float x, const in uint first) { return hidden[first + col] != 0 ? NEVER : x; }

// Runs fetched for the next tile, as they lie in memory: one of f32 is two words.
uvec4 k_lo[LOADS], k_hi[LOADS], v_lo[LOADS], v_hi[LOADS];

// FETCH brings KEYS tokens from key on into registers; tokens beyond the last repeat it.
#define FETCH(tensor, type, base, key, lo, hi) \
	[[unroll]] for (uint i = 0; i < LOADS; i++) { \
		uint u = gl_LocalInvocationIndex + i * THREADS; \
		if (KEYS * RUNS % THREADS == 0 || u < KEYS * RUNS) { \
			uint at = base + min(key + u / RUNS, pc.tk - 1) * HEAD_DIM + u % RUNS * 8; \
			if (type == DTYPE_F32) { \
				lo[i] = tensor##_quads[at / 4]; \
				hi[i] = tensor##_quads[at / 4 + 1]; \
			} else { \
				lo[i] = tensor##_quads[at / 8]; \
			} \
		} \
	}

#define PUT(to, type, by, lo, hi) \
	[[unroll]] for (uint i = 0; i < LOADS; i++) { \
		uint u = gl_LocalInvocationIndex + i * THREADS; \
		if (KEYS * RUNS % THREADS == 0 || u < KEYS * RUNS) stage[to + u / RUNS * PITCH + u % RUNS] = operand(lo[i], hi[i], type, by); \
	}

// rounded is a weight as the operand type can hold it: the conversion then has nothing to round, and drivers that truncate give what others do.
float rounded(float p) {
#ifdef BF16
	return uintBitsToFloat(bf16_from_f32(p) << 16);
#else
	return p;
#endif
}

// raise makes the shifts those of the newest maxima, and rescales what was summed by the old ones.
void raise() {
	SUM top = score[0];
	[[unroll]] for (uint j = 1; j < FRAGS_K; j++) {
		[[unroll]] for (uint i = 0; i < top.length(); i++) top[i] = max(top[i], score[j][i]);
	}
	SUM up;
	coopMatReduceNV(up, top, gl_CooperativeMatrixReduceRowNV, higher);
	[[unroll]] for (uint i = 0; i < up.length(); i++) {
		float by = up[i] - BIAS;
		if (started) by = max(by, 0.0);
		up[i] = by;
		shift[i] += by;
	}
	[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
		[[unroll]] for (uint i = 0; i < up.length(); i++) {
			if (score[j][i] > SEEN) score[j][i] -= up[i];
		}
	}
	if (!started) return;
	[[unroll]] for (uint i = 0; i < up.length(); i++) up[i] = exp2(-up[i]);
	[[unroll]] for (uint i = 0; i < up.length(); i++) total[i] *= up[i];
	[[unroll]] for (uint n = 0; n < FRAGS_D; n++) {
		[[unroll]] for (uint i = 0; i < up.length(); i++) result[n][i] *= up[i];
	}
}

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint head = pc.head + gl_WorkGroupID.y;
	uint kv = head / pc.group;
	uint first = pc.row + gl_WorkGroupID.x * TILE_Q;
	uint mine = gl_SubgroupID * MAT; // first of this subgroup's queries in the tile
	uint q_head = pc.q_base + gl_WorkGroupID.y * pc.q_stride;
	uint k_head = pc.k_base + (kv - pc.kv_head) * pc.kv_stride;
	uint v_head = pc.v_base + (kv - pc.kv_head) * pc.kv_stride;

	float score_scale = pc.scale * LOG2E;
	float q_power = 1.0, k_power = 1.0, v_power = 1.0;
#ifndef BF16
	q_power = power_for(head);
	k_power = power_for(pc.heads + kv);
	v_power = power_for(pc.heads + pc.kv_heads + kv);
	score_scale = score_scale / q_power / k_power;
#endif

	uint tiles = (pc.tk + KEYS - 1) / KEYS;
	uint list = 0;
	const uint PER_BLOCK = MODE == MODE_BLOCKS ? 64 / KEYS : 1;
	if (MODE == MODE_BLOCKS) {
		uint row = gl_WorkGroupID.y * pc.blocks + first / 64;
		tiles = counts[pc.list_base + row] * PER_BLOCK;
		list = pc.index_base + row * pc.blocks;
	}

	// The queries.
	for (uint u = tid; u < TILE_Q * RUNS; u += THREADS) {
		uint at = q_head + min(first + u / RUNS, pc.tq - 1) * HEAD_DIM + u % RUNS * 8;
		uvec4 lo, hi = uvec4(0);
		if (Q_TYPE == DTYPE_F32) {
			lo = q_quads[at / 4];
			hi = q_quads[at / 4 + 1];
		} else {
			lo = q_quads[at / 8];
		}
		stage[u / RUNS * PITCH + u % RUNS] = operand(lo, hi, Q_TYPE, q_power);
	}
	barrier();
	[[unroll]] for (uint n = 0; n < FRAGS_D; n++) {
		coopMatLoad(queries[n], stage, mine * PITCH + n * (MAT / 8), PITCH, gl_CooperativeMatrixLayoutRowMajor);
		result[n] = SUM(0.0);
	}
	total = SUM(0.0);
	shift = SUM(0.0);

	uint key = 0;
	if (tiles > 0) {
		if (MODE == MODE_BLOCKS) key = indices[list] * 64;
		FETCH(k, K_TYPE, k_head, key, k_lo, k_hi)
		FETCH(v, V_TYPE, v_head, key, v_lo, v_hi)
	}
	for (uint tile = 0; tile < tiles; tile++) {
		barrier(); // all have done with the tile before
		PUT(0, K_TYPE, k_power, k_lo, k_hi)
		PUT(AT_V, V_TYPE, v_power, v_lo, v_hi)
		bool partial = MASKED || key + KEYS > pc.tk;
		if (partial) {
			for (uint i = tid; i < KEYS; i += THREADS) {
				bool open = key + i < pc.tk;
				if (MASKED) open = open && mask[min(key + i, pc.tk - 1)] != 0;
				hidden[i] = open ? 0 : 1;
			}
		}
		barrier();
		if (tile + 1 < tiles) {
			key = (tile + 1) * KEYS;
			if (MODE == MODE_BLOCKS) key = indices[list + (tile + 1) / PER_BLOCK] * 64 + (tile + 1) % PER_BLOCK * KEYS;
			FETCH(k, K_TYPE, k_head, key, k_lo, k_hi)
			FETCH(v, V_TYPE, v_head, key, v_lo, v_hi)
		}

		// Scores.
		[[unroll]] for (uint j = 0; j < FRAGS_K; j++) score[j] = SUM(0.0);
		[[unroll]] for (uint n = 0; n < FRAGS_D; n++) {
			[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
				RIGHT keys;
				coopMatLoad(keys, stage, j * MAT * PITCH + n * (MAT / 8), PITCH, gl_CooperativeMatrixLayoutColumnMajor);
				score[j] = coopMatMulAdd(queries[n], keys, score[j]);
			}
		}

		// Their distance from the shift, and whether that has grown too large.
		float highest = NEVER;
		[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
			[[unroll]] for (uint i = 0; i < total.length(); i++) score[j][i] = fma(score[j][i], score_scale, -shift[i]);
			if (partial) coopMatPerElementNV(score[j], score[j], hide, j * MAT);
			[[unroll]] for (uint i = 0; i < total.length(); i++) highest = max(highest, score[j][i]);
		}
		if (started ? subgroupAny(highest > LAG + BIAS) : subgroupAny(highest > SEEN)) {
			raise();
			started = true;
		}

		// result += weights * v
		[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
			[[unroll]] for (uint i = 0; i < total.length(); i++) {
				float p = exp2(score[j][i]);
				total[i] += p; // also what is no number, which rounding may lose
				score[j][i] = rounded(p);
			}
			LEFT weights = LEFT(score[j]);
			[[unroll]] for (uint n = 0; n < FRAGS_D; n++) {
				RIGHT values;
				coopMatLoad(values, stage, AT_V + j * MAT * PITCH + n * (MAT / 8), PITCH, gl_CooperativeMatrixLayoutRowMajor);
				result[n] = coopMatMulAdd(weights, values, result[n]);
			}
		}
	}

	SUM sums;
	coopMatReduceNV(sums, total, gl_CooperativeMatrixReduceRowNV, added);
	[[unroll]] for (uint i = 0; i < sums.length(); i++) sums[i] = sums[i] == 0.0 ? 0.0 : 1.0 / sums[i] / v_power;
	[[unroll]] for (uint n = 0; n < FRAGS_D; n++) {
		[[unroll]] for (uint i = 0; i < sums.length(); i++) result[n][i] *= sums[i];
	}

	// The results go through shared memory a strip at a time; a subgroup's strip is its own.
	barrier();
	uint strip = mine * PITCH_O;
	[[unroll]] for (uint part = 0; part < HEAD_DIM / STRIP; part++) {
		[[unroll]] for (uint n = 0; n < STRIP / MAT; n++)
			coopMatStore(result[part * (STRIP / MAT) + n], stage, strip + n * (MAT / 4), PITCH_O, gl_CooperativeMatrixLayoutRowMajor);
		subgroupBarrier();
		for (uint e = gl_SubgroupInvocationID; e < MAT * (STRIP / 4); e += SUBGROUP) {
			uint row = e / (STRIP / 4), quad = e % (STRIP / 4);
			uint query = first + mine + row;
			if (query < pc.tq) {
				vec4 r = uintBitsToFloat(stage[strip + row * PITCH_O + quad]);
				uint to = pc.out_base + query * pc.out_stride + gl_WorkGroupID.y * HEAD_DIM + part * STRIP + quad * 4;
				if (VEC_OUT) {
					o_store4(to, r);
				} else {
					[[unroll]] for (uint n = 0; n < 4; n++) o_store(to + n, r[n]);
				}
			}
		}
		subgroupBarrier();
	}
}
