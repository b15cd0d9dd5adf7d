#version 450
// Linear layer whose operands go straight from memory into matrices: y[m, n] = f(sum over k of x[m, k] w[n, k] + bias[n]); see
// include/linear.glsl and include/fragments.glsl.
//
// x and w are bf16 and were packed by pack_fragments.comp, x as left operands and w, whose rows are columns of y, as right ones, in groups of
// four below each other. A subgroup computes FRAGS_M × FRAGS_N matrices of 16 × 16 sums in fp32, SUBS_M × SUBS_N subgroups are a workgroup. Nothing
// goes through shared memory and no subgroup waits for another: operands of the next step of 16 along k are loaded into a second set of
// registers while the present ones are multiplied, and the cache serves what subgroups have in common. For that the loops are
// unrolled and the loads go into the operands as they are: a driver then needs no instruction between them.
//
// Each element is summed over k in the same order wherever it lies in a tile, so a result depends neither on the tile nor on how
// the rows and columns are cut into dispatches.
//
// Where a tile reaches beyond the packed operands, a subgroup takes the last of them that are there, and stores only what lies in its own place.
//
// Limits: K a multiple of 128; x and w start at multiples of 16 bytes and are packed up to a multiple of 64 rows; FRAGS_* at most 4. PAIRS: head and the
// columns are even and y starts at a multiple of two elements. PACK, which needs PAIRS and no ADD: y is bf16 and becomes a packed x of as many columns as pc.head
// says, a multiple of 16, up to whole fragments of rows.
//
// in: x (0), w (1), bias (2, optional), gate (4, f32, optional)       in and out: y (3)
//
//@variant matmul_fragments_emulated EMULATED
//@env vulkan1.3
//@variant matmul_fragments

#extension GL_GOOGLE_include_directive : require
layout(constant_id = 9) const bool PAIRS = false;
layout(constant_id = 10) const bool PACK = false;
layout(constant_id = 20) const uint FRAGS_M = 3;
layout(constant_id = 21) const uint FRAGS_N = 4;
layout(constant_id = 22) const uint SUBS_M = 2;
layout(constant_id = 23) const uint SUBS_N = 2;
layout(constant_id = 24) const uint K = 128;
layout(local_size_x_id = 25) in;
layout(local_size_x = 128) in;

const uint SUBS = SUBS_M * SUBS_N;
#include "fragments.glsl"
#include "packed.glsl"
#include "linear.glsl"

const uint STEPS = K / 16;              // along k
const uint ROW = STEPS * GROUP * LANES; // words of 16 bytes of a group of fragments, all along k

// last returns the first of count fragments that end with the last one of so many rows, packed.
uint last(uint rows, uint count) { return (rows + 16 * GROUP - 1) / (16 * GROUP) * GROUP - count; }

vec2 load_pair(uint at) {
	if (Y_TYPE == DTYPE_F32) return uintBitsToFloat(y_pairs[at / 2]);
	return dtype_unpack(uvec2(y_words[at / 2], 0), Y_TYPE).xy;
}

void store_pair(uint at, vec2 v) {
	if (Y_TYPE == DTYPE_F32) y_pairs[at / 2] = floatBitsToUint(v);
	else y_words[at / 2] = dtype_pack(vec4(v, 0.0, 0.0), Y_TYPE).x;
}

// finished is finish of linear.glsl with the column's bias and gate, which one invocation needs for many rows.
float finished(float v, float bias, float gate, float old) {
	if (BIAS) v += bias;
	if (ADD) return old + (GATE ? gate * v : v);
	return activate(v, ACTIVATION);
}

// store writes the two neighbours (row, col) and (row, col + 1), whose first lies at element at of y.
void store(uint row, uint col, uint at, vec2 v, vec2 bias, vec2 gate) {
	if (PAIRS) {
		vec2 old = vec2(0.0);
		if (ADD) old = load_pair(at);
		store_pair(at, vec2(finished(v.x, bias.x, gate.x, old.x), finished(v.y, bias.y, gate.y, old.y)));
		return;
	}
	finish_store(row, col, v.x);
	if (col + 1 < pc.cols) finish_store(row, col + 1, v.y);
}

// packed_pair is store for a packed y: the word of two neighbours.
uint packed_pair(vec2 v, vec2 bias) { return dtype_pack(vec4(finished(v.x, bias.x, 0.0, 0.0), finished(v.y, bias.y, 0.0, 0.0), 0.0, 0.0), DTYPE_BF16).x; }

// Workgroups run in bands of pc.band row tiles, as in matmul_matrix.comp.
void main() {
	uint id = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	uint first = id / (pc.band * gl_NumWorkGroups.x) * pc.band;
	uint high = min(pc.band, gl_NumWorkGroups.y - first);
	uint within = id - first * gl_NumWorkGroups.x;
	uint tile_m = ((first + within % high) * SUBS_M + SUBGROUP_ID % SUBS_M) * FRAGS_M;
	uint tile_n = (within / high * SUBS_N + SUBGROUP_ID / SUBS_M) * FRAGS_N;
	uint m = min(tile_m, last(pc.rows, FRAGS_M)), n = min(tile_n, last(pc.cols, FRAGS_N));

	SUMS sums[FRAGS_M * FRAGS_N];
	UNROLL for (uint i = 0; i < FRAGS_M * FRAGS_N; i++) CLEAR(sums[i])
	uint at_x = m / GROUP * ROW + LANE, at_w = n / GROUP * ROW + LANE;
	m %= GROUP;
	n %= GROUP;
	uvec4 next_x[2][FRAGS_M], next_w[2][FRAGS_N];

#define LOAD(set, step) { \
	UNROLL for (uint i = 0; i < FRAGS_M; i++) \
		next_x[set][i] = x_quads[at_x + (m + i) / GROUP * ROW + (m + i) % GROUP * LANES + (step) * (GROUP * LANES)]; \
	UNROLL for (uint j = 0; j < FRAGS_N; j++) \
		next_w[set][j] = w_quads[at_w + (n + j) / GROUP * ROW + (n + j) % GROUP * LANES + (step) * (GROUP * LANES)]; }
#define WORK(set) { \
	RIGHT right[FRAGS_N]; \
	UNROLL for (uint j = 0; j < FRAGS_N; j++) { uvec4 held = next_w[set][j]; SET_RIGHT(right[j], held) } \
	UNROLL for (uint i = 0; i < FRAGS_M; i++) { \
		LEFT left; \
		uvec4 held = next_x[set][i]; \
		SET_LEFT(left, held) \
		UNROLL for (uint j = 0; j < FRAGS_N; j++) MULTIPLY(sums[i * FRAGS_N + j], left, right[j]) \
	} }

	LOAD(0, 0)
	for (uint step = 0; step < STEPS; step += 2) {
		LOAD(1, step + 1)
		WORK(0)
		LOAD(0, min(step + 2, STEPS - 1))
		WORK(1)
	}

	// A lane has two neighbouring columns in each half of a matrix, in rows that are 8 apart. m and n are again where the matrices lie.
	// (A continue in these loops would make NVIDIA's compiler index the sums at run time, out of memory: 31 TFLOP/s instead of 434.)
	m = at_x / ROW * GROUP + m;
	n = at_w / ROW * GROUP + n;
	UNROLL for (uint j = 0; j < FRAGS_N; j++) {
		uint cols[2], base[2];
		vec2 bias[2], gate[2];
		UNROLL for (uint half_ = 0; half_ < 2; half_++) {
			uint col = (n + j) * 16 + fragment_col(LANE, 2 * half_);
			cols[half_] = col;
			base[half_] = y_index(0, col);
			bias[half_] = gate[half_] = vec2(0.0);
			if (PAIRS && BIAS && col < pc.cols) bias[half_] = vec2(bias_load(pc.bias_base + col), bias_load(pc.bias_base + col + 1));
			if (PAIRS && GATE && col < pc.cols) gate[half_] = vec2(gate_load(pc.gate_base + col), gate_load(pc.gate_base + col + 1));
		}
		UNROLL for (uint i = 0; i < FRAGS_M; i++) {
			// Sums lie as a left operand does, so a lane has all of its 16 bytes.
			if (PACK && n + j >= tile_n && m + i >= tile_m && (m + i) * 16 < pc.rows && (n + j) * 16 < pc.cols) {
#define PAIR(e, half_) packed_pair(vec2(sums[i * FRAGS_N + j][e], sums[i * FRAGS_N + j][e + 1]), bias[half_])
				uvec4 words = uvec4(PAIR(0, 0), PAIR(4, 0), PAIR(2, 1), PAIR(6, 1));
				y_quads[fragment_at(m + i, n + j + pc.y_col / 16, pc.head / 16) + LANE] = words;
			}
			UNROLL for (uint e = 0; e < 8; e += 2) {
				uint row = (m + i) * 16 + fragment_row(LANE, e), half_ = e / 2 % 2;
				if (!PACK && n + j >= tile_n && m + i >= tile_m && row < pc.rows && cols[half_] < pc.cols)
					store(row, cols[half_], base[half_] + row * pc.head, vec2(sums[i * FRAGS_N + j][e], sums[i * FRAGS_N + j][e + 1]), bias[half_], gate[half_]);
			}
		}
	}
}
