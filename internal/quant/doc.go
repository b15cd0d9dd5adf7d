// Package quant codes numbers in eight bits or fewer and back: the block formats of ggml, 8-bit floats, and 8-bit integers
// with scales.
//
// Vocabulary. A block format codes 32 numbers that lie side by side in one record: a scale, in some formats a minimum, and
// a small integer for each number. Codes of one byte (int8, fp8) have their scales elsewhere; functions of this package give the
// codes' own values, and the caller multiplies.
//
// Decoding computes in float32, one rounding per operation, as the programs do that write such files. Encoding uses the
// scale as it will be stored, rounded to fp16 where the format has that, so that decoding is the exact inverse of the
// division. All functions are pure and safe for concurrent use; they panic when lengths do not fit each other, and give NaN
// or infinities where the scales of damaged data are not finite: the caller looks for those.
package quant
