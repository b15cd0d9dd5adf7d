package quant

import (
	"encoding/binary"
	"fmt"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Block is a block format of ggml. The zero value is none.
type Block uint8

// The block formats, with the value of an integer code q from its record's scale d and minimum m. Numbers are
// little-endian; element j below 16 has the low half of byte j, element j+16 the high half (ggml, src/ggml-common.h and
// ggml-quants.c).
const (
	Q4_0 Block = iota + 1 // f16 d, 16 bytes: d·(q−8)
	Q4_1                  // f16 d, f16 m, 16 bytes: d·q + m
	Q5_0                  // f16 d, 32 fifth bits, 16 bytes: d·(q−16)
	Q5_1                  // f16 d, f16 m, 32 fifth bits, 16 bytes: d·q + m
	Q8_0                  // f16 d, 32 signed bytes: d·q
	Q4_K                  // the others: see kblock.go
	Q5_K
	Q6_K
)

// BlockLen is the number of elements of a record, in every format that is written; see Block.Len.
const BlockLen = 32

const halfLen = BlockLen / 2

// Bytes is the size of a record.
func (b Block) Bytes() int {
	switch b {
	case Q4_0:
		return 2 + halfLen
	case Q4_1:
		return 4 + halfLen
	case Q5_0:
		return 6 + halfLen
	case Q5_1:
		return 8 + halfLen
	case Q8_0:
		return 2 + BlockLen
	case Q4_K:
		return 4 + 12 + kLen/2
	case Q5_K:
		return 4 + 12 + kLen/8 + kLen/2
	case Q6_K:
		return kLen/2 + kLen/4 + kLen/16 + 2
	}
	return 0
}

// Len is the number of elements of a record.
func (b Block) Len() int {
	if b >= Q4_K {
		return kLen
	}
	return BlockLen
}

// Decode gives the values of whole records; len(dst) must be Len for each record of src.
func (b Block) Decode(dst []float32, src []byte) {
	size := b.mustFit("Decode", len(dst), len(src))
	for b >= Q4_K && len(dst) > 0 {
		out := (*[kLen]float32)(dst)
		switch b {
		case Q4_K:
			decodeQ4K(out, src)
		case Q5_K:
			decodeQ5K(out, src)
		case Q6_K:
			decodeQ6K(out, src)
		}
		dst, src = dst[kLen:], src[size:]
	}
	for len(dst) > 0 {
		out, in := (*[BlockLen]float32)(dst), src[:size]
		d := half(in)
		switch b {
		case Q4_0:
			decode4(out, in[2:], d, -8*d)
		case Q4_1:
			decode4(out, in[4:], d, half(in[2:]))
		case Q5_0:
			decode5(out, in[6:], in[2:], d, -16*d)
		case Q5_1:
			decode5(out, in[8:], in[4:], d, half(in[2:]))
		case Q8_0:
			for j, q := range (*[BlockLen]byte)(in[2:]) {
				out[j] = float32(int8(q)) * d
			}
		}
		dst, src = dst[BlockLen:], src[size:]
	}
}

func half(b []byte) float32 { return numeric.F32FromF16(binary.LittleEndian.Uint16(b)) }

// decode4 gives d·q + m. With m = −8·d that is d·(q−8) exactly: d has 11 bits and q four, so nothing is rounded.
func decode4(out *[BlockLen]float32, packed []byte, d, m float32) {
	var values [16]float32
	for q := range values {
		values[q] = float32(float32(q)*d) + m
	}
	for j, b := range (*[halfLen]byte)(packed) {
		out[j], out[j+halfLen] = values[b&15], values[b>>4]
	}
}

// decode5 is decode4 with fifth bits.
func decode5(out *[BlockLen]float32, packed, fifth []byte, d, m float32) {
	var values [32]float32
	for q := range values {
		values[q] = float32(float32(q)*d) + m
	}
	bits := binary.LittleEndian.Uint32(fifth)
	for j, b := range (*[halfLen]byte)(packed) {
		out[j] = values[uint32(b&15)|bits>>j&1<<4]
		out[j+halfLen] = values[uint32(b>>4)|bits>>(j+halfLen)&1<<4]
	}
}

// mustFit panics unless bytes are the records of elements; it returns a record's size.
func (b Block) mustFit(op string, elements, bytes int) int {
	size := b.Bytes()
	if size == 0 || elements%b.Len() != 0 || bytes != elements/b.Len()*size {
		panic(fmt.Sprintf("quant.%s: %d bytes are not %d elements of block format %d", op, bytes, elements, b))
	}
	return size
}
