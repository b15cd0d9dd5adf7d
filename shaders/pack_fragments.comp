#version 450
// Puts bf16 matrices in the order in which fragments lie in registers (include/fragments.glsl), so that kernels read them 16 bytes a lane.
//
// x is [heads, rows, COLS], row-major. ORDER says what it becomes:
//   0: left operands of 16 rows by 16 columns,        1: right operands, a row of x being a column of theirs (x is multiplied transposed),
//   2: right operands of 16 rows by 16 columns (x is multiplied as it is).
// Fragments are numbered ((row / 16 / GROUP) * (COLS / 16) + column / 16) * GROUP + row / 16 % GROUP within a head, 512 bytes each: GROUP of
// them that lie below each other follow each other, as a subgroup reads them. Rows beyond the last are zeros, up to out_rows, a multiple of 16 GROUP.
//
// With GROUP = 1, COLS = 128 a fragment row is the 4 KiB of 16 rows of x, so out may be x itself: a workgroup reads all of its 4 KiB before it
// writes any.
//
// x (0) and out (1) start at multiples of 16 bytes. One workgroup for 16 rows and 128 columns: x-axis of the dispatch and y-axis together are rows of
// fragments, z is head * (COLS / 128) + columns / 128.

layout(constant_id = 0) const uint COLS = 128; // a multiple of 128
layout(constant_id = 1) const uint GROUP = 1;
layout(constant_id = 2) const uint ORDER = 0;
layout(local_size_x = 256) in;

layout(push_constant) uniform Push {
	uint rows;     // of a head of x
	uint out_rows; // of a head of out
} pc;

layout(set = 0, binding = 0, std430) readonly buffer X { uvec4 x[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Out { uvec4 packed_words[]; };

const uint PITCH = 68; // words of a row of 128 columns in shared memory, 4 more than they need: neighbouring rows lie in other banks
shared uint tile[16 * PITCH];

uint half_at(uint row, uint col) { return tile[row * PITCH + col / 2] >> (col % 2 * 16) & 0xffffu; }
uint down(uint row, uint col) { return half_at(row, col) | half_at(row + 1, col) << 16; }

void main() {
	uint id = gl_LocalInvocationIndex, strip = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	if (strip * 16 >= pc.out_rows) return;
	uint head = gl_WorkGroupID.z / (COLS / 128), part = gl_WorkGroupID.z % (COLS / 128);
	uint row = id / 16, run = id % 16;
	uvec4 w = uvec4(0);
	if (strip * 16 + row < pc.rows) w = x[((head * pc.rows + strip * 16 + row) * COLS + part * 128) / 8 + run];
	for (uint i = 0; i < 4; i++) tile[row * PITCH + run * 4 + i] = w[i];
	barrier();
	uint lane = id % 32, column = id / 32, r = lane / 4, t = lane % 4 * 2, c = column * 16;
	if (ORDER == 2) {
		w = uvec4(down(t, c + r), down(t + 8, c + r), down(t, c + r + 8), down(t + 8, c + r + 8));
	} else {
		uint at = r * PITCH + (c + t) / 2, below = at + 8 * PITCH;
		w = uvec4(tile[at], tile[below], tile[at + 4], tile[below + 4]);
		if (ORDER == 1) w = w.xzyw;
	}
	uint fragment = (strip / GROUP * (COLS / 16) + part * 8 + column) * GROUP + strip % GROUP;
	packed_words[head * (pc.out_rows / 16) * (COLS / 16) * 32 + fragment * 32 + lane] = w;
}
