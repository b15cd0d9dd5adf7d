#version 450
// Key blocks that a query block attends to under NABLA (kandinsky-5, kandinsky/models/utils.py, nablaT_v2 and
// fast_sta_nabla), from its row of block scores:
//   p = softmax(row); sorted ascending, with the running sum c: keep the entries with c >= 1 - P; and keep the blocks
//   of the window around the query block.
// The kept blocks go out as an ascending list with its length, and on request as a 0/1 mask.
//
// One workgroup handles one row (x: row, y: head). It does not sort. Probabilities become integers in units of 2^-31,
// whose sums do not depend on the order, so the result is the same on every run and device that agrees on the
// integers; rounding moves a running sum by at most blocks * 2^-32. The threshold value is then found bit by bit: the
// largest w for which the entries below w sum to less than 1 - P. Entries above w are kept, entries below are not,
// and of those equal to w the ones with the lowest indices are dropped, as if the sort were stable.
//
// Shared memory: CAPACITY >= blocks words for the row. A row with a NaN keeps every block.
//
//@variant nabla_select

#extension GL_KHR_memory_scope_semantics : require

layout(constant_id = 0) const uint THREADS = 128;
layout(constant_id = 1) const uint CAPACITY = 3840;
layout(constant_id = 2) const bool MASK = false;
layout(local_size_x_id = 0) in; // = THREADS
layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint blocks;
	uint rows_y;     // blocks along y and x of a frame
	uint rows_x;
	uint reach_t;    // the window: blocks at most so far away on each axis
	uint reach_y;
	uint reach_x;
	uint threshold;  // 1 - P in units of 2^-31, rounded up
	uint count_base; // word of the first head's first count,
	uint index_base; // list entry
	uint mask_base;  // and mask entry
} pc;

layout(set = 0, binding = 0, std430) readonly buffer Scores { float scores[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Counts { uint counts[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Indices { uint indices[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Mask { uint mask[]; };

const uint ONE = 0x80000000u;

shared uint entry[CAPACITY];
shared float partial[THREADS];
shared uint tally[THREADS];
shared uint sums[33];

uint distance(uint a, uint b) { return a > b ? a - b : b - a; }

// add adds to a sum of the workgroup. The scope is named because plain atomics ask for that of the device.
void add(uint i, uint v) { atomicAdd(sums[i], v, gl_ScopeWorkgroup, 0, gl_SemanticsRelaxed); }

// before returns the sum of the values of the invocations before this one. The next use needs a barrier in between.
uint before(uint own) {
	tally[gl_LocalInvocationIndex] = own;
	barrier();
	uint sum = 0;
	for (uint i = 0; i < gl_LocalInvocationIndex; i++) sum += tally[i];
	return sum;
}

void main() {
	uint tid = gl_LocalInvocationIndex;
	uint n = pc.blocks;
	uint a = gl_WorkGroupID.x;
	uint row = gl_WorkGroupID.y * n + a;

	for (uint i = tid; i < 33; i += THREADS) sums[i] = 0;

	// Softmax. The partial sums are added in the order of the invocations.
	float top = scores[row * n];
	for (uint j = tid; j < n; j += THREADS) {
		float s = scores[row * n + j];
		entry[j] = floatBitsToUint(s);
		top = max(top, s);
	}
	partial[tid] = top;
	barrier();
	for (uint i = 0; i < THREADS; i++) top = max(top, partial[i]);
	barrier();
	float own = 0;
	for (uint j = tid; j < n; j += THREADS) {
		float e = exp(uintBitsToFloat(entry[j]) - top);
		entry[j] = floatBitsToUint(e);
		own += e;
	}
	partial[tid] = own;
	barrier();
	float total = 0;
	for (uint i = 0; i < THREADS; i++) total += partial[i];
	uint whole = 0;
	for (uint j = tid; j < n; j += THREADS) {
		float p = uintBitsToFloat(entry[j]) / total * 2147483648.0 + 0.5;
		// A NaN fails the comparison: the row then sums to less than any threshold and is kept whole.
		uint u = p >= 0.0 ? uint(min(p, 2147483648.0)) : 0;
		entry[j] = u;
		whole += u;
	}
	add(32, whole);
	barrier();

	// The threshold value, and the sum of what is below it.
	bool broken = !(total > 0.0);
	uint threshold = broken ? 0 : min(pc.threshold, sums[32]);
	uint value = 0;
	uint below = 0;
	if (threshold > 0) {
		for (int bit = 31; bit >= 0; bit--) {
			uint candidate = value | (1u << bit);
			uint part = 0;
			for (uint j = tid; j < n; j += THREADS) part += entry[j] < candidate ? entry[j] : 0;
			add(bit, part);
			barrier();
			if (sums[bit] < threshold) {
				value = candidate;
				below = sums[bit];
			}
		}
	}
	uint dropped = value > 0 ? (threshold - below + value - 1) / value - 1 : 0;

	// Each invocation owns consecutive entries, an odd number of them to spread over the banks.
	uint span = ((n + THREADS - 1) / THREADS) | 1u;
	uint first = min(tid * span, n);
	uint last = min(first + span, n);
	uint ties = 0;
	for (uint j = first; j < last; j++) ties += entry[j] == value ? 1 : 0;
	uint tie = before(ties);
	uint frame = pc.rows_y * pc.rows_x;
	uint at = a / frame;
	uint ay = a % frame / pc.rows_x;
	uint ax = a % pc.rows_x;
	uint kept = 0;
	for (uint j = first; j < last; j++) {
		bool keep = entry[j] > value;
		if (entry[j] == value) {
			keep = tie >= dropped;
			tie++;
		}
		keep = keep || (distance(at, j / frame) <= pc.reach_t && distance(ay, j % frame / pc.rows_x) <= pc.reach_y &&
			distance(ax, j % pc.rows_x) <= pc.reach_x);
		entry[j] = keep ? 1 : 0;
		kept += entry[j];
	}
	barrier();
	uint slot = before(kept);
	if (tid == THREADS - 1) counts[pc.count_base + row] = slot + kept;
	for (uint j = first; j < last; j++) {
		if (entry[j] != 0) {
			indices[pc.index_base + row * n + slot] = j;
			slot++;
		}
	}
	if (MASK) {
		barrier();
		for (uint j = tid; j < n; j += THREADS) mask[pc.mask_base + row * n + j] = entry[j];
	}
}
