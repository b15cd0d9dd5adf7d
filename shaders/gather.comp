#version 450
// Copies rows by number: y[n] = table[ids[n]], rows of D elements (embedding look-up, permutation of tokens).
//
// A table larger than one binding is bound piece by piece: a dispatch writes only the rows whose id lies in
// [first_id, first_id + table_rows), and the dispatch marked `last` also writes `missing` to rows whose id is in no piece.
// One invocation moves one element, with VEC four: D and bases are then multiples of 4.
//
// bindings: 0 table [table_rows, D], 1 ids u32 [N], 2 y [N, D]

#include "tensor.glsl"

layout(local_size_x = 128) in;
#include "grid.glsl"

layout(constant_id = 0) const uint TABLE_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 2) const bool VEC = false;

layout(push_constant) uniform Push {
	uint rows;
	uint dim;
	uint first_id;
	uint table_rows;
	uint last;
	float missing; // NaN, from outside: the optimiser folds a literal into a 16-bit constant, which needs Int16
	uint table_base;
	uint ids_base;
	uint y_base;
} pc;

TENSOR_IN_VEC(0, table, TABLE_TYPE)
layout(set = 0, binding = 1, std430) readonly buffer Ids { uint ids[]; };
TENSOR_OUT_VEC(2, y, Y_TYPE)

void main() {
	const uint step = VEC ? 4 : 1;
	uint i = grid_index();
	uint columns = pc.dim / step;
	uint n = i / columns;
	if (n >= pc.rows) return;
	uint c = (i % columns) * step;
	uint id = ids[pc.ids_base + n];
	uint to = pc.y_base + n * pc.dim + c;
	if (id >= pc.first_id && id - pc.first_id < pc.table_rows) {
		uint from = pc.table_base + (id - pc.first_id) * pc.dim + c;
		if (VEC) y_store4(to, table_load4(from));
		else y_store(to, table_load(from));
	} else if (pc.last != 0 && id >= pc.first_id) {
		if (VEC) y_store4(to, vec4(pc.missing));
		else y_store(to, pc.missing);
	}
}
