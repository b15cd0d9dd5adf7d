#version 450
// Attention by cooperative matrices, with online softmax (Dao et al., FlashAttention; see attention.comp for the formula).
//
// One workgroup computes SUBS_M * FRAGS_Q * MAT_M queries of one head against all their keys, KEYS keys at a time. Its
// subgroups form a grid of SUBS_M x SUBS_N: a subgroup holds the queries of its row in registers and computes, for these,
// the scores of KEYS / SUBS_N keys and HEAD_DIM / SUBS_N channels of the result. For each tile of keys
//   1. k comes to shared memory and the scores are multiplied out of it;
//   2. the weights go to shared memory, converted, and v follows; both were fetched into registers a stage ahead;
//   3. weights times v is added to the result.
//
// A weight is exp2(score - shift) with a shift per query that is a maximum of scores, but not always the newest: it is
// raised, and the result rescaled, only when some score of the tile exceeds it by more than LAG, so that weights stay
// below 2^(LAG + BIAS). Nothing is lost by that, since a shift is never above the true maximum; and finding a row's
// maximum, for which a subgroup must look at the whole row, is left out nearly always. Sums and the softmax are fp32.
//
// What lies where in a matrix is unknown, but a matrix loaded with its own indices tells: place.
//
// MODE 0: all keys. MODE 4: the keys of the 64-token blocks in indices[h, i / 64, 0 ... counts[h, i / 64] - 1]. With
// MASKED, only keys with mask[j] != 0. Key tiles start at multiples of KEYS and query tiles at multiples of their size,
// so the order of every sum is the same however the host cuts the queries and heads.
//
// Variant attention_matrix_bf16 takes q, k and v in bf16 as they are and holds weights in bf16. attention_matrix_f16
// takes any types: powers of two bring the largest magnitudes of a head's q, k and v (see attention_absmax) into
// [2^14, 2^15), so that nothing overflows, and what underflows is below 2^-28 of the largest; weights are fp16.
//
// Limits: HEAD_DIM a multiple of 8, MAT_K and SUBS_N MAT_N; KEYS of MAT_K and SUBS_N MAT_N; MODE 4: the queries of a
// workgroup and KEYS divide 64. SUBS_M SUBS_N full subgroups of SUBGROUP invocations are the workgroup. q, k, v start at
// multiples of 16 bytes, and q_base, k_base, v_base are multiples of 8 elements. VEC_OUT: out is written in runs of 4.
// Shared memory: 16 STAGE + 4 (2 queries + KEYS + 4) bytes.
//
//@variant attention_matrix_bf16 BF16
//@variant attention_matrix_f16

#extension GL_KHR_cooperative_matrix : require
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

layout(constant_id = 0) const uint SUBS_M = 4;
layout(constant_id = 1) const uint SUBS_N = 1;
layout(constant_id = 2) const uint FRAGS_Q = 1;
layout(constant_id = 3) const uint HEAD_DIM = 128;
layout(constant_id = 4) const uint KEYS = 32;
layout(constant_id = 5) const uint SUBGROUP = 32;
layout(constant_id = 6) const uint MAT_M = 16;
layout(constant_id = 7) const uint MAT_N = 16;
layout(constant_id = 8) const uint MODE = 0;
layout(constant_id = 9) const bool MASKED = false;
layout(constant_id = 10) const uint Q_TYPE = 0;
layout(constant_id = 11) const uint K_TYPE = 0;
layout(constant_id = 12) const uint V_TYPE = 0;
layout(constant_id = 13) const uint OUT_TYPE = 0;
layout(constant_id = 14) const uint MAT_K = 16;
layout(constant_id = 15) const bool VEC_OUT = false;
layout(local_size_x_id = 16) in;
layout(local_size_x = 128) in;

const uint MODE_BLOCKS = 4;

#include "attention.glsl"

const uint THREADS = SUBS_M * SUBS_N * SUBGROUP;
const uint ROWS = FRAGS_Q * MAT_M;             // queries of a subgroup
const uint TILE_Q = SUBS_M * ROWS;
const uint KEYS_N = KEYS / SUBS_N;             // keys of a subgroup's scores
const uint FRAGS_K = KEYS_N / MAT_N;
const uint COLS = HEAD_DIM / SUBS_N;           // channels of a subgroup's result
const uint FRAGS_O = COLS / MAT_N;
const uint STEPS = HEAD_DIM / MAT_K;           // of a score's sum
const uint STEPS_O = KEYS / MAT_K;             // of a result's sum
const uint RUNS = HEAD_DIM / 8;                // of 8 channels, 16 bytes in shared memory
const uint PITCH = RUNS + 1;                   // of a token; the odd run keeps neighbouring tokens out of each other's banks
const uint PITCH_P = KEYS / 8 + 1;             // of a query's weights
const uint LOADS = (KEYS * RUNS + THREADS - 1) / THREADS;
const uint STRIP_COLS = COLS % 64 == 0 ? 64 : COLS; // of the result at a time through shared memory
const uint PITCH_O = STRIP_COLS / 4 + 1;

const uint AT_V = KEYS * PITCH;
const uint AT_P = 2 * KEYS * PITCH;
const uint AT_SCRATCH = AT_P + TILE_Q * PITCH_P;    // one matrix of sums for each subgroup
const uint STAGE_LOOP = AT_SCRATCH + SUBS_M * SUBS_N * (MAT_M * MAT_N / 4);
const uint STAGE_Q = TILE_Q * PITCH;
const uint STAGE_O = SUBS_M * SUBS_N * MAT_M * PITCH_O;
const uint STAGE_L = TILE_Q * SUBS_N * (MAT_N / 4);
const uint STAGE_1 = STAGE_LOOP > STAGE_Q ? STAGE_LOOP : STAGE_Q;
const uint STAGE_2 = STAGE_O > STAGE_L ? STAGE_O : STAGE_L;
const uint STAGE = STAGE_1 > STAGE_2 ? STAGE_1 : STAGE_2;

shared uvec4 stage[STAGE];      // k, v, weights, scratch; before the loop q, after it sums and results
shared uint tops[TILE_Q];       // largest score seen by a slow pass, as ordered() makes it; at the end 1 / sum of weights
shared uint hidden[KEYS];       // 1 for keys of this tile that no query sees
shared uint grown[2];           // whether a score exceeds its shift by too much, for even and odd tiles
shared uint seen;               // whether any key was seen so far

// ordered maps floats to words in the same order, restored is the inverse.
uint ordered(float v) {
	uint u = floatBitsToUint(v);
	return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}

float restored(uint u) { return uintBitsToFloat((u & 0x80000000u) != 0 ? u & 0x7fffffffu : ~u); }

#ifdef BF16
// pack rounds to nearest by itself: the language's conversion may truncate, and on NVIDIA's driver it does.
uint pack(float a, float b) { return bf16_from_f32(a) | (bf16_from_f32(b) << 16); }
#else
uint pack(float a, float b) { return packHalf2x16(vec2(a, b)); }
#endif

// Runs fetched for the next stage, as they lie in memory: one of f32 is two words.
uvec4 next_lo[LOADS];
uvec4 next_hi[LOADS];

// FETCH(tensor, type, base, key) brings KEYS tokens from key on into registers; tokens beyond the last repeat it.
#define FETCH(tensor, type, base, key) \
	[[unroll]] for (uint i = 0; i < LOADS; i++) { \
		uint u = gl_LocalInvocationIndex + i * THREADS; \
		if (KEYS * RUNS % THREADS == 0 || u < KEYS * RUNS) { \
			uint at = base + min(key + u / RUNS, pc.tk - 1) * HEAD_DIM + u % RUNS * 8; \
			if (type == DTYPE_F32) { \
				next_lo[i] = tensor##_quads[at / 4]; \
				next_hi[i] = tensor##_quads[at / 4 + 1]; \
			} else { \
				next_lo[i] = tensor##_quads[at / 8]; \
			} \
		} \
	}

void put(uint to, uint type, float by) {
	[[unroll]] for (uint i = 0; i < LOADS; i++) {
		uint u = gl_LocalInvocationIndex + i * THREADS;
		if (KEYS * RUNS % THREADS == 0 || u < KEYS * RUNS) stage[to + u / RUNS * PITCH + u % RUNS] = operand(next_lo[i], next_hi[i], type, by);
	}
}

#define SUM coopmat<float, gl_ScopeSubgroup, MAT_M, MAT_N, gl_MatrixUseAccumulator>

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint sub_m = gl_SubgroupID / SUBS_N;
	uint sub_n = gl_SubgroupID % SUBS_N;
	uint head = pc.head + gl_WorkGroupID.y;
	uint kv = head / pc.group;
	uint first = pc.row + gl_WorkGroupID.x * TILE_Q;
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

	// Where this invocation's elements of a matrix of sums lie: row * MAT_N + column. pairs: two by two they are
	// neighbours in a row, so that weights can be packed where they are.
	uint scratch = AT_SCRATCH + gl_SubgroupID * (MAT_M * MAT_N / 4);
	for (uint i = gl_SubgroupInvocationID; i < MAT_M * MAT_N / 4; i += SUBGROUP)
		stage[scratch + i] = floatBitsToUint(vec4(4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3));
	subgroupBarrier();
	SUM place;
	coopMatLoad(place, stage, scratch, MAT_N / 4, gl_CooperativeMatrixLayoutRowMajor);
	bool pairs = place.length() % 2 == 0;
	for (uint i = 0; i + 1 < place.length(); i += 2)
		pairs = pairs && uint(place[i]) % 2 == 0 && place[i + 1] == place[i] + 1.0;
	pairs = subgroupAll(pairs);

	// The queries.
	barrier();
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
	for (uint i = tid; i < TILE_Q; i += THREADS) tops[i] = ordered(NEVER);
	if (tid < 2) grown[tid] = 0;
	if (tid == 2) seen = 0;
	barrier();
	coopmat<OPERAND, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> queries[FRAGS_Q * STEPS];
	[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
		[[unroll]] for (uint s = 0; s < STEPS; s++)
			coopMatLoad(queries[f * STEPS + s], stage, (sub_m * ROWS + f * MAT_M) * PITCH + s * (MAT_K / 8), PITCH, gl_CooperativeMatrixLayoutRowMajor);
	}
	barrier();

	SUM result[FRAGS_Q * FRAGS_O];
	SUM total[FRAGS_Q]; // of the weights, each element the sum over its column in all tiles
	SUM shift[FRAGS_Q]; // of an element's row
	[[unroll]] for (uint i = 0; i < FRAGS_Q * FRAGS_O; i++) result[i] = SUM(0.0);
	[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
		total[f] = SUM(0.0);
		shift[f] = SUM(0.0);
	}
	bool started = false;
	uint parity = 0;

	uint key = 0;
	if (tiles > 0) {
		if (MODE == MODE_BLOCKS) key = indices[list] * 64;
		FETCH(k, K_TYPE, k_head, key)
	}
	for (uint tile = 0; tile < tiles; tile++) {
		put(0, K_TYPE, k_power);
		bool partial = MASKED || key + KEYS > pc.tk;
		if (partial) {
			for (uint i = tid; i < KEYS; i += THREADS) {
				bool open = key + i < pc.tk;
				if (MASKED) open = open && mask[min(key + i, pc.tk - 1)] != 0;
				hidden[i] = open ? 0 : 1;
			}
		}
		barrier();
		if (tid == 0) grown[parity ^ 1] = 0;
		FETCH(v, V_TYPE, v_head, key)

		// Scores.
		SUM score[FRAGS_Q * FRAGS_K];
		[[unroll]] for (uint i = 0; i < FRAGS_Q * FRAGS_K; i++) score[i] = SUM(0.0);
		[[unroll]] for (uint s = 0; s < STEPS; s++) {
			[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
				coopmat<OPERAND, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> keys;
				coopMatLoad(keys, stage, (sub_n * KEYS_N + j * MAT_N) * PITCH + s * (MAT_K / 8), PITCH, gl_CooperativeMatrixLayoutColumnMajor);
				[[unroll]] for (uint f = 0; f < FRAGS_Q; f++)
					score[f * FRAGS_K + j] = coopMatMulAdd(queries[f * STEPS + s], keys, score[f * FRAGS_K + j]);
			}
		}

		// Their distance from the shift, and whether that has grown too large.
		float highest = NEVER;
		[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
			[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
				[[unroll]] for (uint i = 0; i < place.length(); i++) {
					float x = fma(score[f * FRAGS_K + j][i], score_scale, -shift[f][i]);
					if (partial) {
						if (hidden[sub_n * KEYS_N + j * MAT_N + uint(place[i]) % MAT_N] != 0) x = NEVER;
					}
					score[f * FRAGS_K + j][i] = x;
					highest = max(highest, x);
				}
			}
		}
		bool grew = !started || subgroupAny(highest > LAG + BIAS);

		if (grew && subgroupElect()) grown[parity] = 1;

		// Weights, in the place of the scores. A subgroup whose scores have grown waits for the new shift; what it stores in
		// the first round is void, but barriers must be met by all.
		for (uint round = 0; round < 2; round++) {
			[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
				[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
					if ((round == 1) == grew) {
						[[unroll]] for (uint i = 0; i < place.length(); i++) {
							float p = exp2(score[f * FRAGS_K + j][i]);
							score[f * FRAGS_K + j][i] = p;
							total[f][i] += p;
						}
					}
					uint row = sub_m * ROWS + f * MAT_M;
					uint column = sub_n * KEYS_N + j * MAT_N;
					if (pairs) {
						[[unroll]] for (uint i = 0; i + 1 < place.length(); i += 2) {
							uint at = uint(place[i]);
							uint to = column + at % MAT_N;
							stage[AT_P + (row + at / MAT_N) * PITCH_P + to / 8][to / 2 % 4] = pack(score[f * FRAGS_K + j][i], score[f * FRAGS_K + j][i + 1]);
						}
					} else {
						coopMatStore(score[f * FRAGS_K + j], stage, scratch, MAT_N / 4, gl_CooperativeMatrixLayoutRowMajor);
						subgroupBarrier();
						for (uint e = gl_SubgroupInvocationID; e < MAT_M * MAT_N / 8; e += SUBGROUP) {
							vec4 lo = uintBitsToFloat(stage[scratch + 2 * e]), hi = uintBitsToFloat(stage[scratch + 2 * e + 1]);
							stage[AT_P + (row + e / (MAT_N / 8)) * PITCH_P + column / 8 + e % (MAT_N / 8)] =
								uvec4(pack(lo.x, lo.y), pack(lo.z, lo.w), pack(hi.x, hi.y), pack(hi.z, hi.w));
						}
						subgroupBarrier();
					}
				}
			}
			if (round == 0) put(AT_V, V_TYPE, v_power);
			barrier();
			if (round == 1 || grown[parity] == 0) break;

			// Somewhere scores have grown: raise the shifts, and rescale what they concern.
			if (grew) {
				[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
					[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
						[[unroll]] for (uint i = 0; i < place.length(); i++) {
							float x = score[f * FRAGS_K + j][i];
							if (x <= SEEN) continue;
							x += shift[f][i];
							seen = 1;
							atomicMax(tops[sub_m * ROWS + f * MAT_M + uint(place[i]) / MAT_N], ordered(x));
						}
					}
				}
			}
			barrier();
			[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
				[[unroll]] for (uint i = 0; i < place.length(); i++) {
					float top = restored(tops[sub_m * ROWS + f * MAT_M + uint(place[i]) / MAT_N]);
					float old = shift[f][i];
					float raised = top <= SEEN ? old : top - BIAS;
					// What was seen so far has weight only if a shift was set before.
					float shrink = started ? exp2(old - raised) : 1.0;
					shift[f][i] = raised;
					total[f][i] *= shrink;
					[[unroll]] for (uint n = 0; n < FRAGS_O; n++) result[f * FRAGS_O + n][i] *= shrink;
					[[unroll]] for (uint j = 0; j < FRAGS_K; j++) {
						float x = score[f * FRAGS_K + j][i];
						if (!grew) x *= shrink;
						else if (!(x <= SEEN)) x += old - raised;
						score[f * FRAGS_K + j][i] = x;
					}
				}
			}
			started = started || seen != 0;
		}
		parity ^= 1;

		if (tile + 1 < tiles) {
			key = (tile + 1) * KEYS;
			if (MODE == MODE_BLOCKS) key = indices[list + (tile + 1) / PER_BLOCK] * 64 + (tile + 1) % PER_BLOCK * KEYS;
			FETCH(k, K_TYPE, k_head, key)
		}

		// result += weights * v
		[[unroll]] for (uint s = 0; s < STEPS_O; s++) {
			coopmat<OPERAND, gl_ScopeSubgroup, MAT_M, MAT_K, gl_MatrixUseA> weights[FRAGS_Q];
			[[unroll]] for (uint f = 0; f < FRAGS_Q; f++)
				coopMatLoad(weights[f], stage, AT_P + (sub_m * ROWS + f * MAT_M) * PITCH_P + s * (MAT_K / 8), PITCH_P, gl_CooperativeMatrixLayoutRowMajor);
			[[unroll]] for (uint n = 0; n < FRAGS_O; n++) {
				coopmat<OPERAND, gl_ScopeSubgroup, MAT_K, MAT_N, gl_MatrixUseB> values;
				coopMatLoad(values, stage, AT_V + s * MAT_K * PITCH + (sub_n * COLS + n * MAT_N) / 8, PITCH, gl_CooperativeMatrixLayoutRowMajor);
				[[unroll]] for (uint f = 0; f < FRAGS_Q; f++)
					result[f * FRAGS_O + n] = coopMatMulAdd(weights[f], values, result[f * FRAGS_O + n]);
			}
		}
	}

	// The sums of the weights.
	barrier();
	[[unroll]] for (uint f = 0; f < FRAGS_Q; f++)
		coopMatStore(total[f], stage, ((sub_m * ROWS + f * MAT_M) * SUBS_N + sub_n) * (MAT_N / 4), SUBS_N * (MAT_N / 4), gl_CooperativeMatrixLayoutRowMajor);
	barrier();
	for (uint row = tid; row < TILE_Q; row += THREADS) {
		vec4 sums = vec4(0);
		for (uint i = 0; i < SUBS_N * (MAT_N / 4); i++) sums += uintBitsToFloat(stage[row * (SUBS_N * (MAT_N / 4)) + i]);
		float sum = (sums.x + sums.y) + (sums.z + sums.w);
		tops[row] = floatBitsToUint(sum == 0.0 ? 0.0 : 1.0 / sum / v_power);
	}
	barrier();

	// The results go through shared memory a strip at a time; a subgroup's strip is its own.
	uint strip = gl_SubgroupID * (MAT_M * PITCH_O);
	[[unroll]] for (uint f = 0; f < FRAGS_Q; f++) {
		[[unroll]] for (uint part = 0; part < COLS / STRIP_COLS; part++) {
			[[unroll]] for (uint n = 0; n < STRIP_COLS / MAT_N; n++)
				coopMatStore(result[f * FRAGS_O + part * (STRIP_COLS / MAT_N) + n], stage, strip + n * (MAT_N / 4), PITCH_O, gl_CooperativeMatrixLayoutRowMajor);
			subgroupBarrier();
			for (uint e = gl_SubgroupInvocationID; e < MAT_M * (STRIP_COLS / 4); e += SUBGROUP) {
				uint row = e / (STRIP_COLS / 4), quad = e % (STRIP_COLS / 4);
				uint query = sub_m * ROWS + f * MAT_M + row;
				vec4 r = uintBitsToFloat(stage[strip + row * PITCH_O + quad]) * uintBitsToFloat(tops[query]);
				if (first + query < pc.tq) {
					uint to = pc.out_base + (first + query) * pc.out_stride + gl_WorkGroupID.y * HEAD_DIM + sub_n * COLS + part * STRIP_COLS + quad * 4;
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
}
