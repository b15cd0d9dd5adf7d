// Package bf16z codes bf16 numbers in about two thirds of their bytes, without loss, in a form that a GPU decodes in parallel.
//
// A weight's sign and mantissa are noise, but its exponent is nearly always one of a few: about 2.6 of its eight bits say
// something. Sign and mantissa are therefore kept as a byte, and exponents are coded in three levels of fixed width, so that nothing is decoded
// bit after bit as in a Huffman code, at a cost of about a tenth of a bit more:
//
//   - the first code has 2 bits: one of the matrix's three most frequent exponents, or 3, which says that the second code follows;
//   - the second code has width bits, 0 to 4, as is best for the matrix: one of the 2^width − 1 exponents that are next in
//     frequency, or all ones, which says that the exponent itself follows;
//   - the exponent itself is a byte.
//
// Every bf16 number has a code, infinities and NaNs with their payload among them; decoding returns all bits.
//
// The parts. Numbers are taken in chunks of 2,048, of which the last may be shorter, and chunks in words of 16; a matrix is a
// multiple of 16 numbers. All words are 32 bits, little-endian.
//
//	low     n bytes: sign (bit 7) and mantissa (bits 0 to 6) of each number
//	codes   n/16 words: the first codes of 16 numbers, that of the first in the lowest bits
//	index   8 words of head, then for each chunk the word of the pool where what it has there begins
//	head    byte 0: width; bytes 1 to 3: the exponents of first codes 0 to 2; bytes 4 to 18: those of second codes 0, 1, …; then zeros
//	pool    for each chunk: second codes in the order of their numbers, lowest bits first, up to a whole word; then exponents,
//	        one a byte, up to a whole word
//
// How long the pool gets is known only when a matrix has been coded. Matrices may share one: an index counts from the pool's first word.
//
// An Encoder is used by one goroutine at a time; a Code may be shared. Encoding trusts its caller, Decode trusts nothing.
package bf16z
