#version 450
// Attention with online softmax (Dao et al., FlashAttention; Milakov & Gimelshein, arXiv 1805.02867).
//
//   out[i, h, :] = sum_j p_ij v[h', j, :] / sum_j p_ij,   p_ij = exp(scale * q[h, i, :] . k[h', j, :] - max_j),   h' = h / group
//
// over the keys j that query i may see; a query that sees none gives zeros. All sums and the softmax are fp32.
//
// Work of one workgroup: ROWS * THREADS / LANES queries of one head against all their keys, 4 * LANES keys at a time.
// Invocations form a grid of LANES columns. Each holds ROWS queries x 4 keys of the scores and ROWS queries x
// HEAD_DIM / LANES channels of the result in registers. For a tile of keys
//   1. scores: q and k come through shared memory in slices of DEPTH channels, transposed so that reads are vec4;
//   2. the row maximum is taken over the columns through shared memory, and the result rescaled when it grew;
//      the sum of the weights stays a partial sum per invocation until the end;
//   3. the weights go to shared memory, v follows in slices of KEYS keys.
// Key tiles start at multiples of 4 * LANES and query tiles at multiples of their size, so the order of every sum
// is the same however the host cuts the queries and heads.
//
// MODE: which keys query i sees.
//   0 all   1 causal: j <= i + tk - tq   2 frames: j < (i / frame + 1) * frame   3 ranges[i].x <= j < ranges[i].y
//   4 blocks: those of the 64-token blocks in indices[h, i / 64, 0 ... counts[h, i / 64] - 1]
// With MASKED, additionally only keys with mask[j] != 0.
//
// Variant attention_half keeps the tiles in fp16 and multiplies in fp16; eight products at most are summed in fp16
// before they go to an fp32 sum. Powers of two bring the largest |q| and |k| of a head into [32, 64), the largest
// |v| into [1, 2) and the weights into [0, 2048]: eight products stay below 2^15, so nothing overflows whatever
// the size of the operands, and what underflows is below 2^-14 of the head's largest value.
//
// With INT8, queries and keys are signed bytes with scales, as attention_quantize.comp leaves them in order 0: products are summed as whole numbers,
// so a score is exact but for the rounding of its operands. They are multiplied in fp32, which holds 128 * 127^2 exactly, or four at a time with DOT.
// DEPTH then counts words of four channels.
//
// Limits: HEAD_DIM a multiple of 4, at most 4 * LANES * 4, with INT8 128. Rows and heads are elements [heads, rows, HEAD_DIM] from
// *_base on; bases are multiples of 4 elements. absmax, read by attention_half only: float bits of the largest
// magnitudes from attention_absmax, PEAKS words per head, [q heads | kv heads of k | kv heads of v].
//
//@variant attention
//@variant attention_half HALF
//@variant attention_int8 INT8
//@variant attention_int8_half INT8 HALF

#extension GL_EXT_control_flow_attributes : require
#ifdef HALF
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
#include "tensor.glsl"

layout(constant_id = 0) const uint THREADS = 128;
layout(constant_id = 1) const uint LANES = 16;
layout(constant_id = 2) const uint ROWS = 8;      // queries per invocation, a multiple of 4
layout(constant_id = 3) const uint HEAD_DIM = 128;
layout(constant_id = 4) const uint COLUMNS = 2;   // vec4 of the result per invocation: ceil(HEAD_DIM / (4 * LANES))
layout(constant_id = 5) const uint DEPTH = 16;    // channels per slice of q and k, a multiple of 4 (half: 8)
layout(constant_id = 6) const uint KEYS = 16;     // keys per slice of v, divides 4 * LANES (half: a multiple of 8)
layout(constant_id = 7) const uint STAGE = 544;   // vec4 of the staging area; the host knows the formula
layout(constant_id = 8) const uint MODE = 0;
layout(constant_id = 9) const bool MASKED = false;
layout(constant_id = 10) const uint Q_TYPE = 0;
layout(constant_id = 11) const uint K_TYPE = 0;
layout(constant_id = 12) const uint V_TYPE = 0;
layout(constant_id = 13) const uint OUT_TYPE = 0;
layout(local_size_x_id = 0) in; // = THREADS
layout(local_size_x = 128) in;

const uint MODE_CAUSAL = 1;
const uint MODE_FRAMES = 2;
const uint MODE_RANGES = 3;
const uint MODE_BLOCKS = 4;

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
	uint frame;        // tokens per frame (MODE 2)
	uint blocks;       // blocks of 64 tokens per head (MODE 4)
	uint list_base;    // word of the first head's counts and
	uint index_base;   // of its indices (MODE 4)
	uint heads;        // query heads and
	uint kv_heads;     // kv heads in absmax
	float scale;
} pc;

#ifdef INT8
layout(set = 0, binding = 0, std430) readonly buffer QWords { uint q_words[]; };
layout(set = 0, binding = 1, std430) readonly buffer KWords { uint k_words[]; };
const uint Q_SHIFT = Q_TYPE == DTYPE_F32 ? 0 : 1, K_SHIFT = K_TYPE == DTYPE_F32 ? 0 : 1; // of an element's number to that of its word
#else
TENSOR_IN_VEC(0, q, Q_TYPE)
TENSOR_IN_VEC(1, k, K_TYPE)
#endif
TENSOR_IN_VEC(2, v, V_TYPE)
TENSOR_OUT(3, o, OUT_TYPE)
layout(set = 0, binding = 4, std430) readonly buffer Mask { uint mask[]; };
layout(set = 0, binding = 5, std430) readonly buffer Ranges { uvec2 ranges[]; };
layout(set = 0, binding = 6, std430) readonly buffer Counts { uint counts[]; };
layout(set = 0, binding = 7, std430) readonly buffer Indices { uint indices[]; };
#ifdef HALF
layout(set = 0, binding = 8, std430) readonly buffer Absmax { uint absmax[]; };
#define REAL float16_t
#define REAL4 f16vec4
const uint PEAKS = 32; // as the host knows
const float WEIGHT_SCALE = 2048.0;
const uint SHORT = 8; // products summed in fp16
#else
#define REAL float
#define REAL4 vec4
#endif

const uint TILE_Q = ROWS * (THREADS / LANES);
const uint TILE_K = 4 * LANES;
const uint QUADS = ROWS / 4;
const uint Q_PITCH = TILE_Q / 4 + 1;  // one vec4 of padding against bank conflicts
const uint K_PITCH = LANES + 1;
const uint V_PITCH = COLUMNS * LANES;
const uint P_PITCH = Q_PITCH;
const uint D4 = HEAD_DIM / 4;

// A masked score. Finite, because implementations may assume that infinities do not occur; below any real score.
const float NEVER = -3.0e38;
const float SEEN = -2.9e38;
const float LOG2E = 1.44269504088896341;

shared REAL4 weights[TILE_K * P_PITCH]; // [key][query / 4]
shared REAL4 stage[STAGE];              // slices of q and k, then of v
#ifdef INT8
shared uvec4 words[DEPTH * (Q_PITCH + K_PITCH)]; // slices of q and k: a word of four tokens
shared vec4 key_scales[LANES];

vec4 signed_bytes(uvec4 w, uint i) { return vec4(bitfieldExtract(ivec4(w), int(8 * i), 8)); } // the i-th of each word
vec4 signed_bytes(uint w) { return vec4(bitfieldExtract(ivec4(w, w >> 8, w >> 16, w >> 24), 0, 8)); }
#endif
#ifdef HALF
shared vec4 columns[LANES * TILE_Q / 4];
#define COLUMN(i) columns[i]
#else
#define COLUMN(i) stage[i]
#endif

#ifdef HALF
// power_for returns the power of two that brings the largest magnitude of a head into [2^to, 2^(to+1)). Zero, infinity
// and NaN give a power that leaves them what they are.
float power_for(uint slot, int to) {
	uint bits = 0;
	for (uint i = 0; i < PEAKS; i++) bits = max(bits, absmax[slot * PEAKS + i]);
	int e = int(bits >> 23) - 127;
	if (e == 128) return 1.0;
	return uintBitsToFloat(uint(clamp(127 + to - e, 1, 254)) << 23);
}
#endif

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint tx = tid % LANES;
	uint ty = tid / LANES;
	uint head = pc.head + gl_WorkGroupID.y;
	uint kv = head / pc.group;
	uint first = pc.row + gl_WorkGroupID.x * TILE_Q;
	uint q_head = pc.q_base + gl_WorkGroupID.y * pc.q_stride;
	uint k_head = pc.k_base + (kv - pc.kv_head) * pc.kv_stride;
	uint v_head = pc.v_base + (kv - pc.kv_head) * pc.kv_stride;

	float score_scale = pc.scale * LOG2E;
#ifdef HALF
#ifndef INT8
	float q_power = power_for(head, 5);
	float k_power = power_for(pc.heads + kv, 5);
#endif
	float v_power = power_for(pc.heads + pc.kv_heads + kv, 0);
#ifndef INT8
	score_scale = score_scale / q_power / k_power;
#endif
#endif

	// Keys low ... high - 1 of each of this invocation's queries, and of all queries of the workgroup.
	uint low[ROWS];
	uint high[ROWS];
	uint begin = 0;
	uint end = pc.tk;
#ifdef INT8
	float row_scale[ROWS];
#endif
	[[unroll]] for (uint r = 0; r < ROWS; r++) {
		uint i = min(first + ty * ROWS + r, pc.tq - 1);
		low[r] = 0;
		high[r] = pc.tk;
#ifdef INT8
		row_scale[r] = score_scale * uintBitsToFloat(q_words[((q_head + i * HEAD_DIM) >> Q_SHIFT) + D4]);
#endif
		if (MODE == MODE_CAUSAL) high[r] = uint(clamp(int(i + 1) + int(pc.tk) - int(pc.tq), 0, int(pc.tk)));
		if (MODE == MODE_FRAMES) high[r] = min((i / pc.frame + 1) * pc.frame, pc.tk);
		if (MODE == MODE_RANGES) {
			uvec2 range = ranges[i];
			low[r] = range.x;
			high[r] = min(range.y, pc.tk);
		}
	}
	uint last = min(first + TILE_Q, pc.tq) - 1;
	if (MODE == MODE_CAUSAL) end = uint(clamp(int(last + 1) + int(pc.tk) - int(pc.tq), 0, int(pc.tk)));
	if (MODE == MODE_FRAMES) end = min((last / pc.frame + 1) * pc.frame, pc.tk);
	if (MODE == MODE_RANGES) {
		begin = pc.tk;
		end = 0;
		for (uint i = first; i <= last; i++) {
			uvec2 range = ranges[i];
			if (range.x < range.y) {
				begin = min(begin, range.x);
				end = max(end, min(range.y, pc.tk));
			}
		}
		begin = begin / TILE_K * TILE_K;
	}
	uint tiles = end > begin ? (end - begin + TILE_K - 1) / TILE_K : 0;
	uint list = 0;
	if (MODE == MODE_BLOCKS) {
		uint row = gl_WorkGroupID.y * pc.blocks + first / 64;
		tiles = counts[pc.list_base + row] * (64 / TILE_K);
		list = pc.index_base + row * pc.blocks;
	}

	vec4 result[ROWS * COLUMNS];
	vec4 top[QUADS];   // running maximum, in units of log2
	vec4 total[QUADS]; // this invocation's part of the sum of the weights
	[[unroll]] for (uint i = 0; i < ROWS * COLUMNS; i++) result[i] = vec4(0);
	[[unroll]] for (uint i = 0; i < QUADS; i++) {
		top[i] = vec4(NEVER);
		total[i] = vec4(0);
	}

	for (uint tile = 0; tile < tiles; tile++) {
		uint key = begin + tile * TILE_K;
		if (MODE == MODE_BLOCKS) {
			const uint PER_BLOCK = 64 / TILE_K;
			key = indices[list + tile / PER_BLOCK] * 64 + tile % PER_BLOCK * TILE_K;
		}

		// Scores of ROWS queries x 4 keys.
		vec4 s[ROWS];
		[[unroll]] for (uint r = 0; r < ROWS; r++) s[r] = vec4(0);
#ifdef INT8
		for (uint depth = 0; depth < D4; depth += DEPTH) {
			barrier();
			for (uint n = tid; n < (TILE_Q + TILE_K) * DEPTH; n += THREADS) {
				uint token = n / DEPTH, at = n % DEPTH, word = 0;
				bool is_q = token < TILE_Q;
				if (!is_q) token -= TILE_Q;
				if (depth + at < D4) {
					if (is_q && first + token < pc.tq) word = q_words[((q_head + (first + token) * HEAD_DIM) >> Q_SHIFT) + depth + at];
					if (!is_q && key + token < pc.tk) word = k_words[((k_head + (key + token) * HEAD_DIM) >> K_SHIFT) + depth + at];
				}
				words[(is_q ? at * Q_PITCH : DEPTH * Q_PITCH + at * K_PITCH) + token / 4][token % 4] = word;
			}
			if (depth == 0 && tid < TILE_K) key_scales[tid / 4][tid % 4] = uintBitsToFloat(k_words[((k_head + min(key + tid, pc.tk - 1) * HEAD_DIM) >> K_SHIFT) + D4]);
			barrier();
			for (uint c = 0; c < DEPTH; c++) {
				uvec4 ks = words[DEPTH * Q_PITCH + c * K_PITCH + tx];
				vec4 b0 = signed_bytes(ks, 0), b1 = signed_bytes(ks, 1), b2 = signed_bytes(ks, 2), b3 = signed_bytes(ks, 3);
				[[unroll]] for (uint r = 0; r < ROWS; r += 4) {
					uvec4 qs = words[c * Q_PITCH + ty * QUADS + r / 4];
					[[unroll]] for (uint i = 0; i < 4; i++) {
						vec4 q = signed_bytes(qs[i]);
						s[r + i] += q.x * b0 + q.y * b1 + q.z * b2 + q.w * b3;
					}
				}
			}
		}
		[[unroll]] for (uint r = 0; r < ROWS; r++) s[r] *= row_scale[r] * key_scales[tx];
#else
		for (uint depth = 0; depth < HEAD_DIM; depth += DEPTH) {
			barrier();
			const uint Q_PATCHES = TILE_Q / 4 * (DEPTH / 4);
			const uint PATCHES = Q_PATCHES + LANES * (DEPTH / 4);
			for (uint patch_id = tid; patch_id < PATCHES; patch_id += THREADS) {
				// 4 tokens x 4 channels, transposed on the way.
				bool is_q = patch_id < Q_PATCHES;
				uint p = is_q ? patch_id : patch_id - Q_PATCHES;
				uint quad = p / (DEPTH / 4);
				uint at = p % (DEPTH / 4) * 4;
				uint channel = depth + at;
				mat4 m;
				[[unroll]] for (uint i = 0; i < 4; i++) {
					vec4 x = vec4(0);
					if (is_q) {
						uint token = first + quad * 4 + i;
						if (token < pc.tq && channel < HEAD_DIM) x = q_load4(q_head + token * HEAD_DIM + channel);
					} else {
						uint token = key + quad * 4 + i;
						if (token < pc.tk && channel < HEAD_DIM) x = k_load4(k_head + token * HEAD_DIM + channel);
					}
					m[i] = x;
				}
				m = transpose(m);
#ifdef HALF
				m *= is_q ? q_power : k_power;
#endif
				uint to = is_q ? at * Q_PITCH + quad : DEPTH * Q_PITCH + at * K_PITCH + quad;
				uint pitch = is_q ? Q_PITCH : K_PITCH;
				[[unroll]] for (uint i = 0; i < 4; i++) stage[to + i * pitch] = REAL4(m[i]);
			}
			barrier();
#ifdef HALF
			for (uint c0 = 0; c0 < DEPTH; c0 += SHORT) {
				f16vec4 part[ROWS];
				[[unroll]] for (uint r = 0; r < ROWS; r++) part[r] = f16vec4(0);
				[[unroll]] for (uint c = 0; c < SHORT; c++) {
					f16vec4 ks = stage[DEPTH * Q_PITCH + (c0 + c) * K_PITCH + tx];
					[[unroll]] for (uint r = 0; r < ROWS; r += 4) {
						f16vec4 qs = stage[(c0 + c) * Q_PITCH + ty * QUADS + r / 4];
						part[r] += qs.x * ks;
						part[r + 1] += qs.y * ks;
						part[r + 2] += qs.z * ks;
						part[r + 3] += qs.w * ks;
					}
				}
				[[unroll]] for (uint r = 0; r < ROWS; r++) s[r] += vec4(part[r]);
			}
#else
			for (uint c = 0; c < DEPTH; c++) {
				vec4 ks = stage[DEPTH * Q_PITCH + c * K_PITCH + tx];
				[[unroll]] for (uint r = 0; r < ROWS; r += 4) {
					vec4 qs = stage[c * Q_PITCH + ty * QUADS + r / 4];
					s[r] += qs.x * ks;
					s[r + 1] += qs.y * ks;
					s[r + 2] += qs.z * ks;
					s[r + 3] += qs.w * ks;
				}
			}
#endif
		}
#endif

		// Masks and the maximum over this invocation's keys.
		uint j = key + tx * 4;
		bvec4 open = lessThan(uvec4(j, j + 1, j + 2, j + 3), uvec4(pc.tk));
		if (MASKED) {
			[[unroll]] for (uint i = 0; i < 4; i++) open[i] = open[i] && mask[min(j + i, pc.tk - 1)] != 0;
		}
		vec4 best[QUADS];
		[[unroll]] for (uint r = 0; r < ROWS; r++) {
			[[unroll]] for (uint i = 0; i < 4; i++) {
				bool seen = open[i] && j + i < high[r] && j + i >= low[r];
				#ifdef INT8
				s[r][i] = seen ? s[r][i] : NEVER;
#else
				s[r][i] = seen ? s[r][i] * score_scale : NEVER;
#endif
			}
			best[r / 4][r % 4] = max(max(s[r].x, s[r].y), max(s[r].z, s[r].w));
		}
		barrier();
		[[unroll]] for (uint i = 0; i < QUADS; i++) COLUMN(tx * (TILE_Q / 4) + ty * QUADS + i) = best[i];
		barrier();
		[[unroll]] for (uint i = 0; i < QUADS; i++) {
			best[i] = top[i];
			for (uint x = 0; x < LANES; x++) best[i] = max(best[i], COLUMN(x * (TILE_Q / 4) + ty * QUADS + i));
			vec4 shrink = exp2(top[i] - best[i]);
			top[i] = best[i];
			total[i] *= shrink;
			[[unroll]] for (uint r = 0; r < 4; r++) {
				[[unroll]] for (uint c = 0; c < COLUMNS; c++) result[(i * 4 + r) * COLUMNS + c] *= shrink[r];
			}
		}

		// Weights, stored transposed: [key][query].
		[[unroll]] for (uint r = 0; r < ROWS; r++) {
			vec4 p = exp2(s[r] - top[r / 4][r % 4]);
			// A NaN score compares false and stays NaN.
			[[unroll]] for (uint i = 0; i < 4; i++) s[r][i] = s[r][i] <= SEEN ? 0.0 : p[i];
			total[r / 4][r % 4] += (s[r].x + s[r].y) + (s[r].z + s[r].w);
#ifdef HALF
			s[r] *= WEIGHT_SCALE;
#endif
		}
		[[unroll]] for (uint i = 0; i < 4; i++) {
			[[unroll]] for (uint r = 0; r < QUADS; r++) {
				weights[(tx * 4 + i) * P_PITCH + ty * QUADS + r] =
					REAL4(s[r * 4][i], s[r * 4 + 1][i], s[r * 4 + 2][i], s[r * 4 + 3][i]);
			}
		}

		// result += weights * v
		for (uint slice = 0; slice < TILE_K; slice += KEYS) {
			barrier();
			for (uint i = tid; i < KEYS * D4; i += THREADS) {
				uint token = key + slice + i / D4;
				vec4 x = vec4(0);
				if (token < pc.tk) x = v_load4(v_head + token * HEAD_DIM + i % D4 * 4);
#ifdef HALF
				x *= v_power;
#endif
				stage[i / D4 * V_PITCH + i % D4] = REAL4(x);
			}
			barrier();
#ifdef HALF
			for (uint n0 = 0; n0 < KEYS; n0 += SHORT) {
				f16vec4 part[ROWS * COLUMNS];
				[[unroll]] for (uint i = 0; i < ROWS * COLUMNS; i++) part[i] = f16vec4(0);
				for (uint n = n0; n < n0 + SHORT; n++) {
					[[unroll]] for (uint r = 0; r < ROWS; r += 4) {
						f16vec4 ps = weights[(slice + n) * P_PITCH + ty * QUADS + r / 4];
						[[unroll]] for (uint c = 0; c < COLUMNS; c++) {
							f16vec4 vs = stage[n * V_PITCH + c * LANES + tx];
							part[r * COLUMNS + c] += ps.x * vs;
							part[(r + 1) * COLUMNS + c] += ps.y * vs;
							part[(r + 2) * COLUMNS + c] += ps.z * vs;
							part[(r + 3) * COLUMNS + c] += ps.w * vs;
						}
					}
				}
				[[unroll]] for (uint i = 0; i < ROWS * COLUMNS; i++) result[i] += vec4(part[i]);
			}
#else
			for (uint n = 0; n < KEYS; n++) {
				vec4 vs[COLUMNS];
				[[unroll]] for (uint c = 0; c < COLUMNS; c++) vs[c] = stage[n * V_PITCH + c * LANES + tx];
				[[unroll]] for (uint r = 0; r < ROWS; r += 4) {
					vec4 ps = weights[(slice + n) * P_PITCH + ty * QUADS + r / 4];
					[[unroll]] for (uint c = 0; c < COLUMNS; c++) {
						result[r * COLUMNS + c] += ps.x * vs[c];
						result[(r + 1) * COLUMNS + c] += ps.y * vs[c];
						result[(r + 2) * COLUMNS + c] += ps.z * vs[c];
						result[(r + 3) * COLUMNS + c] += ps.w * vs[c];
					}
				}
			}
#endif
		}
	}

	// The sum of the weights over the columns.
	barrier();
	[[unroll]] for (uint i = 0; i < QUADS; i++) COLUMN(tx * (TILE_Q / 4) + ty * QUADS + i) = total[i];
	barrier();
	[[unroll]] for (uint i = 0; i < QUADS; i++) {
		vec4 sum = vec4(0);
		for (uint x = 0; x < LANES; x++) sum += COLUMN(x * (TILE_Q / 4) + ty * QUADS + i);
		[[unroll]] for (uint r = 0; r < 4; r++) {
			uint token = first + ty * ROWS + i * 4 + r;
			float unit = sum[r] == 0.0 ? 0.0 : 1.0 / sum[r];
#ifdef HALF
			unit = unit / WEIGHT_SCALE / v_power;
#endif
			[[unroll]] for (uint c = 0; c < COLUMNS; c++) {
				uint channel = (c * LANES + tx) * 4;
				if (token < pc.tq && channel < HEAD_DIM) {
					uint to = pc.out_base + token * pc.out_stride + gl_WorkGroupID.y * HEAD_DIM + channel;
					[[unroll]] for (uint n = 0; n < 4; n++) o_store(to + n, result[(i * 4 + r) * COLUMNS + c][n] * unit);
				}
			}
		}
	}
}
