#version 450
// Decodes bf16 numbers whose exponents were coded (package internal/bf16z, which has the format).
//
// A workgroup of 128 invocations decodes a chunk of 2,048 numbers; an invocation the 16 of one word of first codes. How many second
// codes and exponents the invocations before it have tells where its own begin in the pool, which takes two sums over the workgroup.
// Numbers are put together from bits and written as words, so that they come back as they were, no-numbers too.
//
// Limits: the pool is bound whole. low and y start at multiples of 16 bytes of their bindings, at chunks. A matrix is a multiple of
// 16 numbers. Words beyond the pool are taken for its last, so that no content reads outside of it; so are widths of second codes beyond 4 bits for 4.
//
// in: index (0), low (1), codes (2), pool (3)    out: y (4)

#extension GL_EXT_control_flow_attributes : require

layout(local_size_x = 128) in;

layout(push_constant) uniform Push {
	uint chunks;      // of this piece
	uint words;       // of 16 numbers, of this piece
	uint first_chunk; // of the matrix
	uint index_base;  // words
	uint low_base;    // 16 bytes
	uint codes_base;  // words
	uint pool_base;   // words
	uint pool_words;
	uint y_base;      // 16 bytes
} pc;

layout(set = 0, binding = 0, std430) readonly buffer Index { uint head[]; };
layout(set = 0, binding = 1, std430) readonly buffer Low { uvec4 low[]; };
layout(set = 0, binding = 2, std430) readonly buffer Codes { uint codes[]; };
layout(set = 0, binding = 3, std430) readonly buffer Pool { uint pool[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Y { uvec4 y[]; };

const uint HEAD_WORDS = 8;
const uint ESCAPE = 3;
const uint RUN = 16; // invocations that add up alone

shared uint counts[128];
shared uint runs[128 / RUN];
shared uint named[32]; // exponents of first codes from 0, of second codes from 3 on

uint pool_word(uint at) { return pool[pc.pool_base + min(at, pc.pool_words - 1)]; }

uint pool_byte(uint at) { return bitfieldExtract(pool_word(at >> 2), int(at & 3) * 8, 8); }

// before returns the sum over the invocations before this one, and that over all.
uint before(uint count, out uint all) {
	uint t = gl_LocalInvocationIndex;
	barrier(); // the last sum has been read
	counts[t] = count;
	barrier();
	uint first = t & ~(RUN - 1), sum = 0;
	for (uint i = first; i < t; i++) sum += counts[i];
	if (t == first + RUN - 1) runs[t / RUN] = sum + count;
	barrier();
	all = 0;
	[[unroll]] for (uint i = 0; i < 128 / RUN; i++) {
		if (i == t / RUN) sum += all;
		all += runs[i];
	}
	return sum;
}

// bits64 returns 64 bits of the pool from bit `from` after a word on.
uvec2 bits64(uint word, uint from) {
	uint at = word + (from >> 5), shift = from & 31;
	uint a = pool_word(at), b = pool_word(at + 1), c = pool_word(at + 2);
	if (shift == 0) return uvec2(a, b);
	return uvec2(a >> shift | b << (32 - shift), b >> shift | c << (32 - shift));
}

// drop takes the lowest width bits away.
uvec2 drop(uvec2 s, uint width) {
	if (width == 0) return s;
	return uvec2(s.x >> width | s.y << (32 - width), s.y >> width);
}

void main() {
	uint chunk = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
	if (chunk >= pc.chunks) return; // all of a workgroup
	uint t = gl_LocalInvocationIndex;
	uint word = chunk * 128 + t;
	bool inside = word < pc.words;

	uint width = min(head[pc.index_base] & 0xff, 4);
	if (t < 32) {
		uint place = t + 1; // byte of the head
		named[t] = t < 4 * HEAD_WORDS - 1 ? bitfieldExtract(head[pc.index_base + (place >> 2)], int(place & 3) * 8, 8) : 0;
	}
	uint start = head[pc.index_base + HEAD_WORDS + pc.first_chunk + chunk];
	uint first = inside ? codes[pc.codes_base + word] : 0;

	uint escapes = bitCount(first & (first >> 1) & 0x55555555u), all;
	uint place = before(escapes, all);
	uint last = (1u << width) - 1;
	uvec2 second = bits64(start, place * width);
	uint raw = 0;
	uvec2 rest = second;
	for (uint i = 0; i < escapes; i++) {
		if ((rest.x & last) == last) raw++;
		rest = drop(rest, width);
	}
	uint unused;
	uint at = 4 * (start + (all * width + 31) / 32) + before(raw, unused);
	if (!inside) return;

	uvec4 bytes = low[pc.low_base + word];
	uvec4 result[2];
	[[unroll]] for (uint i = 0; i < 8; i++) {
		uint pair = 0;
		[[unroll]] for (uint k = 0; k < 2; k++) {
			uint j = 2 * i + k;
			uint code = bitfieldExtract(first, int(2 * j), 2);
			if (code == ESCAPE) {
				uint s = second.x & last;
				second = drop(second, width);
				code = ESCAPE + s;
				if (s == last) code = 0x100 | pool_byte(at++);
			}
			uint exponent = code < 0x100 ? named[code] : code & 0xff;
			uint b = bitfieldExtract(bytes[j / 4], int(j & 3) * 8, 8);
			pair |= ((b & 0x80) << 8 | exponent << 7 | b & 0x7f) << (16 * k);
		}
		result[i / 4][i & 3] = pair;
	}
	y[pc.y_base + 2 * word] = result[0];
	y[pc.y_base + 2 * word + 1] = result[1];
}
