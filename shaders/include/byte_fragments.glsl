// Products of signed bytes whose operands are built element by element, as fragments.glsl has them of bf16; include that first.
//
// A fragment is a matrix of 16 x 32 (left) or 32 x 16 (right), a step of 32 along k. With r = lane / 4 and t = lane % 4 a lane holds
//
//   of a left operand [row, k]:    x = (r, 4t), y = (r + 8, 4t), z = (r, 4t + 16), w = (r + 8, 4t + 16)
//   of a right operand [k, col]:   x = (4t, r), y = (4t + 16, r), z = (4t, r + 8), w = (4t + 16, r + 8)
//   of sums [row, col]:            the same elements as in fragments.glsl, 32-bit integers
//
// where a word holds four bytes, each one's k a step further. Which of an operand's 16 elements are whose word's is the driver's numbering: elements
// 4 g ... 4 g + 3 are those of word LEFT_WORDS >> 4 g & 3, and likewise RIGHT_WORDS, as byte_fragment_probe.comp found them.
//
// Sums may begin at MAGIC: as long as their magnitude stays below 2^22, which 256 products do, the bits of MAGIC + sum are those of the float
// 1.5 * 2^23 + sum, so that a conversion is one subtraction.
//
// Needs the constants LEFT_WORDS and RIGHT_WORDS.

const int MAGIC = 0x4b400000;

float of_magic(int sum) { return intBitsToFloat(sum) - 12582912.0; }

#ifdef EMULATED

#define BYTES_LEFT uvec4
#define BYTES_RIGHT uvec4
#define INTS int[8]

void emulated_bytes(inout int c[8], uvec4 a, uvec4 b) {
	uint first = SUBGROUP_ID * 2 * LANES;
	barrier();
	emulated_words[first + LANE] = a;
	emulated_words[first + LANES + LANE] = b;
	barrier();
	[[dont_unroll]] for (uint e = 0; e < 8; e++) {
		uint row = fragment_row(LANE, e), col = fragment_col(LANE, e);
		[[unroll]] for (uint k = 0; k < 8; k++) { // words of four
			ivec4 x = ivec4(emulated_words[first + row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]);
			ivec4 y = ivec4(emulated_words[first + LANES + col % 8 * 4 + k % 4][col / 8 * 2 + k / 4]);
			ivec4 product = ((x << ivec4(24, 16, 8, 0)) >> 24) * ((y << ivec4(24, 16, 8, 0)) >> 24);
			c[e] += product.x + product.y + product.z + product.w;
		}
	}
}

#define CLEAR_INTS(c, to) { [[dont_unroll]] for (uint clear_ = 0; clear_ < 8; clear_++) c[clear_] = to; }
#define SET_BYTES_LEFT(m, words) m = words;
#define SET_BYTES_RIGHT(m, words) m = words;
#define MULTIPLY_BYTES(c, a, b) emulated_bytes(c, a, b);

#else

#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require

#define BYTES_LEFT coopmat<int8_t, gl_ScopeSubgroup, 16, 32, gl_MatrixUseA>
#define BYTES_RIGHT coopmat<int8_t, gl_ScopeSubgroup, 32, 16, gl_MatrixUseB>
#define INTS coopmat<int, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>

#define CLEAR_INTS(c, to) c = INTS(to);
#define SET_BYTES(m, g, word) { uint set_ = word; m[4 * g] = int8_t(set_); m[4 * g + 1] = int8_t(set_ >> 8); m[4 * g + 2] = int8_t(set_ >> 16); m[4 * g + 3] = int8_t(set_ >> 24); }
#define SET_BYTES_LEFT(m, words) { \
	SET_BYTES(m, 0, words[LEFT_WORDS & 3]) SET_BYTES(m, 1, words[LEFT_WORDS >> 4 & 3]) \
	SET_BYTES(m, 2, words[LEFT_WORDS >> 8 & 3]) SET_BYTES(m, 3, words[LEFT_WORDS >> 12 & 3]) }
#define SET_BYTES_RIGHT(m, words) { \
	SET_BYTES(m, 0, words[RIGHT_WORDS & 3]) SET_BYTES(m, 1, words[RIGHT_WORDS >> 4 & 3]) \
	SET_BYTES(m, 2, words[RIGHT_WORDS >> 8 & 3]) SET_BYTES(m, 3, words[RIGHT_WORDS >> 12 & 3]) }
#define MULTIPLY_BYTES(c, a, b) c = coopMatMulAdd(a, b, c);

#endif
