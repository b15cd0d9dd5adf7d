#version 450
// Attention from packed fragments, with online softmax (Dao et al., FlashAttention; see attention.comp for the formula).
//
// q, k and v lie in the order of include/fragments.glsl, q as left operands, k as right ones, v as right ones that are multiplied as they are:
// pack_fragments.comp puts them there in place. One workgroup computes SUBS * FRAGS * 16 queries of one head against all their keys, KEYS at a time.
// A subgroup owns FRAGS * 16 queries and holds their scores, weights, sums and results in registers: a lane knows which elements it has, so
// sums of the first product become operands of the second one where they are, and maxima and sums of a row need two exchanges between four lanes.
// k and v pass through shared memory as they are packed, fetched into registers one tile ahead. With Q_HELD the queries stay in registers too; else
// they are read anew for every tile, in a loop that is not unrolled: that leaves registers for two fragments of queries, for which every key is
// read from shared memory once instead of twice.
//
// A weight is exp2(score - shift), and the shift of a query never changes: bf16 and fp32 have the same exponents, so weights and sums are as exact
// whatever the shift is, as long as none overflows. It is the maximum over the first tile. Should a sum exceed 2^100 (scores have then grown by more
// than 69), the workgroup begins anew with the maximum over all keys, for which it first multiplies all of them. The softmax is
// fp32; weights are rounded to bf16 for the second product.
//
// MODE 0: all keys. MODE 4: the keys of the 64-token blocks in indices[h, i / 64, 0 ... counts[h, i / 64] - 1]. Key tiles start at multiples of KEYS
// and sums run over them in order, so a result does not depend on how the host cuts the queries and heads.
//
// With INT8 scores are products of signed bytes (include/byte_fragments.glsl), and q and k lie as attention_quantize.comp leaves them in orders 1 and
// 2, with a scale for each query and one for 16 keys. Their sums begin at a number whose bits, with the sum added, are a float's.
//
// Limits: head size 128; tq and tk multiples of 16; KEYS of 16, in MODE 4 a divisor of 64; MODE 4: SUBS FRAGS 16 = 64. Workgroups of SUBS * 32
// invocations, subgroups of 32; 16 KEYS a multiple of them, with INT8 8 KEYS. q_base, k_base and v_base are multiples of 2,048 elements. Shared memory: 512 KEYS +
// 4 bytes, with INT8 384 KEYS + 4, with EMULATED 1,152 SUBS more.
//
//@variant attention_fragments_emulated EMULATED
//@variant attention_fragments_int8_emulated EMULATED INT8
//@env vulkan1.3
//@variant attention_fragments
//@variant attention_fragments_int8 INT8

#extension GL_GOOGLE_include_directive : require
#define BF16
#include "tensor.glsl"

layout(constant_id = 0) const uint SUBS = 8;
layout(constant_id = 1) const uint FRAGS = 2;
layout(constant_id = 2) const uint KEYS = 32;
layout(constant_id = 3) const uint MODE = 0;
layout(constant_id = 4) const bool Q_HELD = false;
layout(constant_id = 5) const uint OUT_TYPE = 0;
layout(constant_id = 6) const bool PAIRS = false; // elements of out that lie in one word are written together
layout(constant_id = 8) const bool WHOLE = false; // tk is a multiple of KEYS
#ifdef INT8
layout(constant_id = 9) const uint LEFT_WORDS = 0x3120;
layout(constant_id = 10) const uint RIGHT_WORDS = 0x3210;
#endif
layout(local_size_x_id = 7) in;
layout(local_size_x = 256) in;

#include "fragments.glsl"
#ifdef INT8
#include "byte_fragments.glsl"
#endif

const uint Q_TYPE = DTYPE_BF16, K_TYPE = DTYPE_BF16, V_TYPE = DTYPE_BF16;
#include "attention.glsl"

layout(set = 0, binding = 0, std430) readonly restrict buffer QFragments { uvec4 q_fragments[]; };
layout(set = 0, binding = 1, std430) readonly restrict buffer KFragments { uvec4 k_fragments[]; };
layout(set = 0, binding = 2, std430) readonly restrict buffer VFragments { uvec4 v_fragments[]; };

const uint MODE_BLOCKS = 4;
const uint STEPS = 8;                  // fragments of a head's channels
const uint STRIP = STEPS * LANES;      // runs of 16 bytes of 16 tokens
const uint FRAGS_K = KEYS / 16;
const uint TILE = FRAGS_K * STRIP;     // runs of a tile of k, and of v
const uint THREADS = SUBS * LANES;
const uint LOADS = TILE / THREADS;
#ifdef INT8
const uint STEPS_Q = 4;                // fragments of a head's channels in products of queries and keys
const uint STRIP_K = STEPS_Q * LANES;  // runs of 16 tokens' bytes
const uint TILE_K = FRAGS_K * STRIP_K;
const uint LOADS_K = TILE_K / THREADS;
#define LEFT_Q BYTES_LEFT
#define RIGHT_K BYTES_RIGHT
#define SCORES INTS
#define SET_Q SET_BYTES_LEFT
#define SET_K SET_BYTES_RIGHT
#define MULTIPLY_SCORES MULTIPLY_BYTES
#define CLEAR_SCORES(c) CLEAR_INTS(c, MAGIC)
#define SCORE(c, e) of_magic(c[e])
#define SCALE(i, of_keys) (row_scale[i] * (of_keys))
#else
#define STEPS_Q STEPS
#define TILE_K TILE
#define LOADS_K LOADS
#define LEFT_Q LEFT
#define RIGHT_K RIGHT
#define SCORES SUMS
#define SET_Q SET_LEFT
#define SET_K SET_RIGHT
#define MULTIPLY_SCORES MULTIPLY
#define CLEAR_SCORES CLEAR
#define SCORE(c, e) c[e]
#define SCALE(i, of_keys) scale
#endif
const float MOST = 1.2676506e30;       // of a sum: 2^100

#ifdef INT8
shared uvec4 stage[TILE_K + TILE]; // k, then v
#else
shared uvec4 stage[2 * TILE]; // k, then v
#endif
shared uint again;            // whether some query's sum was too large

LEFT_Q queries[FRAGS * STEPS_Q];
SCORES score[FRAGS * FRAGS_K];
SUMS result[FRAGS * STEPS];
float shift[FRAGS * 2]; // of the rows lane / 4 and lane / 4 + 8 of a fragment
float total[FRAGS * 2]; // of the weights that this lane holds
uvec4 next_k[LOADS_K], next_v[LOADS];
#ifdef INT8
float row_scale[FRAGS * 2];     // of the queries in those rows, times that of all scores
float key_scale[FRAGS_K], next_scale[FRAGS_K];
#endif

uint q_at[FRAGS], k_head, v_head, list, last;

// key_of returns the first key of a tile.
uint key_of(uint tile) {
	if (MODE != MODE_BLOCKS) return tile * KEYS;
	const uint PER_BLOCK = 64 / KEYS;
	return indices[list + tile / PER_BLOCK] * 64 + tile % PER_BLOCK * KEYS;
}

#define QUERY(f, d) q_fragments[q_at[f] + (d) * LANES]

// FETCH brings a tile into registers; what would lie beyond the last key repeats its fragment.
#ifdef INT8
#define SCALE_OF(key) uintBitsToFloat(k_fragments[k_head + (key) * (STRIP / 16) + STRIP_K].x)
#define FETCH(key) \
	UNROLL for (uint i = 0; i < LOADS_K; i++) { \
		uint n = gl_LocalInvocationIndex + i * THREADS; \
		uint at = ((key) / 16 + n / STRIP_K) * STRIP + n % STRIP_K; \
		if (!WHOLE && at >= last) at = last - STRIP + at % STRIP; \
		next_k[i] = k_fragments[k_head + at]; \
	} \
	UNROLL for (uint j = 0; j < FRAGS_K; j++) next_scale[j] = SCALE_OF(WHOLE ? (key) + j * 16 : min((key) + j * 16, pc.tk - 16)); \
	UNROLL for (uint i = 0; i < LOADS; i++) { \
		uint at = (key) * (STRIP / 16) + gl_LocalInvocationIndex + i * THREADS; \
		if (!WHOLE && at >= last) at = last - STRIP + at % STRIP; \
		next_v[i] = v_fragments[v_head + at]; \
	}
#else
#define FETCH(key) \
	UNROLL for (uint i = 0; i < LOADS; i++) { \
		uint at = (key) * (STRIP / 16) + gl_LocalInvocationIndex + i * THREADS; \
		if (!WHOLE && at >= last) at = last - STRIP + at % STRIP; \
		next_k[i] = k_fragments[k_head + at]; \
		next_v[i] = v_fragments[v_head + at]; \
	}
#endif

void main() {
	uint head = pc.head + gl_WorkGroupID.y;
	uint kv = head / pc.group - pc.kv_head;
	uint first = pc.row + (gl_WorkGroupID.x * SUBS + SUBGROUP_ID) * (FRAGS * 16); // of this subgroup's queries
	k_head = (pc.k_base + kv * pc.kv_stride) / 8;
	v_head = (pc.v_base + kv * pc.kv_stride) / 8;
	last = pc.tk * (STRIP / 16);
	UNROLL for (uint f = 0; f < FRAGS; f++) // queries beyond the last repeat the last 16
		q_at[f] = (pc.q_base + gl_WorkGroupID.y * pc.q_stride + min(first + f * 16, pc.tq - 16) * 128) / 8 + LANE;
	float scale = pc.scale * LOG2E;
#ifdef INT8
	UNROLL for (uint i = 0; i < FRAGS * 2; i++)
		row_scale[i] = scale * uintBitsToFloat(q_words[(q_at[i / 2] - LANE + STRIP_K) * 4 + LANE / 4 + i % 2 * 8]);
#endif

	uint tiles = (pc.tk + KEYS - 1) / KEYS;
	if (MODE == MODE_BLOCKS) {
		uint row = gl_WorkGroupID.y * pc.blocks + (pc.row + gl_WorkGroupID.x * (SUBS * FRAGS * 16)) / 64;
		tiles = counts[pc.list_base + row] * (64 / KEYS);
		list = pc.index_base + row * pc.blocks;
	}
	if (Q_HELD) {
		UNROLL for (uint n = 0; n < FRAGS * STEPS_Q; n++) {
			uvec4 w = QUERY(n / STEPS_Q, n % STEPS_Q);
			SET_Q(queries[n], w)
		}
	}

	for (uint attempt = 0; attempt < 2; attempt++) {
		UNROLL for (uint n = 0; n < FRAGS * STEPS; n++) CLEAR(result[n])
		UNROLL for (uint i = 0; i < FRAGS * 2; i++) {
			total[i] = 0.0;
			shift[i] = tiles == 0 ? 0.0 : NEVER;
		}
		// The shifts: maxima over the first tile, the second time over all.
		uint looked = attempt == 0 ? min(tiles, 1) : tiles;
		for (uint n = 0; n < looked * FRAGS_K; n++) {
			uint key = min(key_of(n / FRAGS_K) + n % FRAGS_K * 16, pc.tk - 16);
			SCORES seen[FRAGS];
			UNROLL for (uint f = 0; f < FRAGS; f++) CLEAR_SCORES(seen[f])
			[[dont_unroll]] for (uint d = 0; d < STEPS_Q; d++) {
				RIGHT_K keys;
				uvec4 w = k_fragments[k_head + key * (STRIP / 16) + d * LANES + LANE];
				SET_K(keys, w)
				UNROLL for (uint f = 0; f < FRAGS; f++) {
					LEFT_Q some;
					uvec4 u = QUERY(f, d);
					SET_Q(some, u)
					MULTIPLY_SCORES(seen[f], some, keys)
				}
			}
#ifdef INT8
			float of_keys = SCALE_OF(key);
#endif
			UNROLL for (uint f = 0; f < FRAGS; f++) {
				UNROLL for (uint e = 0; e < 8; e++) shift[f * 2 + e / 4] = max(shift[f * 2 + e / 4], SCORE(seen[f], e) * SCALE(f * 2 + e / 4, of_keys));
			}
		}
		UNROLL for (uint i = 0; i < FRAGS * 2; i++) {
			shift[i] = max(shift[i], FROM_LANE(shift[i], 1));
			shift[i] = max(shift[i], FROM_LANE(shift[i], 2));
		}

		uint key = 0;
		if (tiles > 0) {
			key = key_of(0);
			FETCH(key)
		}
		for (uint tile = 0; tile < tiles; tile++) {
			barrier(); // all have done with the tile before
#ifdef INT8
			UNROLL for (uint i = 0; i < LOADS_K; i++) stage[gl_LocalInvocationIndex + i * THREADS] = next_k[i];
			UNROLL for (uint i = 0; i < LOADS; i++) stage[TILE_K + gl_LocalInvocationIndex + i * THREADS] = next_v[i];
			UNROLL for (uint j = 0; j < FRAGS_K; j++) key_scale[j] = next_scale[j];
#else
			UNROLL for (uint i = 0; i < LOADS; i++) {
				stage[gl_LocalInvocationIndex + i * THREADS] = next_k[i];
				stage[TILE + gl_LocalInvocationIndex + i * THREADS] = next_v[i];
			}
#endif
			barrier();
			uint present = key;
			if (tile + 1 < tiles) {
				key = key_of(tile + 1);
				FETCH(key)
			}

			// Scores.
			UNROLL for (uint n = 0; n < FRAGS * FRAGS_K; n++) CLEAR_SCORES(score[n])
			if (Q_HELD) {
				UNROLL for (uint d = 0; d < STEPS_Q; d++) {
					UNROLL for (uint j = 0; j < FRAGS_K; j++) {
						RIGHT_K keys;
						uvec4 w = stage[(j * STEPS_Q + d) * LANES + LANE];
						SET_K(keys, w)
						UNROLL for (uint f = 0; f < FRAGS; f++) MULTIPLY_SCORES(score[f * FRAGS_K + j], queries[f * STEPS_Q + d], keys)
					}
				}
			} else {
				[[dont_unroll]] for (uint d = 0; d < STEPS_Q; d += 2) {
					LEFT_Q some[FRAGS * 2];
					UNROLL for (uint n = 0; n < FRAGS * 2; n++) {
						uvec4 w = QUERY(n / 2, d + n % 2);
						SET_Q(some[n], w)
					}
					UNROLL for (uint e = 0; e < 2; e++) {
						UNROLL for (uint j = 0; j < FRAGS_K; j++) {
							RIGHT_K keys;
							uvec4 w = stage[(j * STEPS_Q + d + e) * LANES + LANE];
							SET_K(keys, w)
							UNROLL for (uint f = 0; f < FRAGS; f++) MULTIPLY_SCORES(score[f * FRAGS_K + j], some[f * 2 + e], keys)
						}
					}
				}
			}

			// result += weights * v
			UNROLL for (uint j = 0; j < FRAGS_K; j++) {
				float hidden = WHOLE || present + j * 16 < pc.tk ? 0.0 : NEVER;
				LEFT weights[FRAGS];
				UNROLL for (uint f = 0; f < FRAGS; f++) {
					float p[8];
					UNROLL for (uint e = 0; e < 8; e++) {
						p[e] = exp2(fma(SCORE(score[f * FRAGS_K + j], e), SCALE(f * 2 + e / 4, key_scale[j]), WHOLE ? -shift[f * 2 + e / 4] : hidden - shift[f * 2 + e / 4]));
						total[f * 2 + e / 4] += p[e];
					}
					WEIGHTS(weights[f], p)
				}
				UNROLL for (uint d = 0; d < STEPS; d++) {
					RIGHT values;
					uvec4 w = stage[TILE_K + (j * STEPS + d) * LANES + LANE];
					SET_RIGHT(values, w)
					UNROLL for (uint f = 0; f < FRAGS; f++) MULTIPLY(result[f * STEPS + d], weights[f], values)
				}
			}
		}

		bool large = false;
		UNROLL for (uint i = 0; i < FRAGS * 2; i++) {
			total[i] += FROM_LANE(total[i], 1);
			total[i] += FROM_LANE(total[i], 2);
			if (!(total[i] < MOST)) large = true;
		}
		barrier();
		if (gl_LocalInvocationIndex == 0) again = 0;
		barrier();
		if (large) again = 1;
		barrier();
		if (again == 0) break;
	}

	UNROLL for (uint f = 0; f < FRAGS; f++) {
		UNROLL for (uint i = 0; i < 2; i++) total[f * 2 + i] = total[f * 2 + i] == 0.0 ? 0.0 : 1.0 / total[f * 2 + i];
		if (first + f * 16 >= pc.tq) break;
		uint to = pc.out_base + gl_WorkGroupID.y * 128;
		UNROLL for (uint d = 0; d < STEPS; d++) {
			UNROLL for (uint e = 0; e < 8; e += 2) {
				uint at = to + (first + f * 16 + fragment_row(LANE, e)) * pc.out_stride + d * 16 + fragment_col(LANE, e);
				float a = result[f * STEPS + d][e] * total[f * 2 + e / 4], b = result[f * STEPS + d][e + 1] * total[f * 2 + e / 4];
				if (PAIRS && OUT_TYPE != DTYPE_F32) {
					o_words[at / 2] = dtype_pack(vec4(a, b, 0.0, 0.0), OUT_TYPE).x;
				} else {
					o_store(at, a);
					o_store(at + 1, b);
				}
			}
		}
	}
}
