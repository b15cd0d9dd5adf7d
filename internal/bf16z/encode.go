package bf16z

import (
	"encoding/binary"
	"fmt"
)

// Encoder codes runs of whole chunks.
type Encoder struct {
	Starts []uint32 // of the chunks coded since Reset, in words from the first of Pool
	Pool   []byte   // what they have in the pool, whole words

	second [ChunkValues/2 + 8]byte // second codes of a chunk; 8 bytes are written at a time
	raw    [ChunkValues]byte       // and its exponents
}

// Reset forgets what was coded but keeps the memory.
func (e *Encoder) Reset() { e.Starts, e.Pool = e.Starts[:0], e.Pool[:0] }

// Encode codes values, bf16 little-endian, a multiple of 16 of them: it writes low and codes, once each and in order, and appends
// to Starts and Pool. Only the last run of a matrix may end within a chunk.
func (e *Encoder) Encode(c *Code, low, codes, values []byte) {
	n := len(values) / 2
	if len(values)%(2*WordValues) != 0 || len(low) != n || int64(len(codes)) != CodeBytes(int64(n)) {
		panic(fmt.Sprintf("bf16z: %d bytes of values, %d of low bytes and %d of codes do not fit", len(values), len(low), len(codes)))
	}
	for at := 0; at < n; at += ChunkValues {
		end := min(at+ChunkValues, n)
		e.chunk(c, low[at:end], codes[at/4:end/4], values[2*at:2*end])
	}
}

func (e *Encoder) chunk(c *Code, low, codes, values []byte) {
	e.Starts = append(e.Starts, uint32(len(e.Pool)/4))
	var (
		acc  uint64 // second codes that are not in e.second yet
		held uint   // how many bits of them
		at   int    // bytes of e.second
		raw  int    // bytes of e.raw
	)
	pairs := (*[1 << 16]entry)(c.pairs)
	for len(values) >= 2*WordValues && len(low) >= WordValues && len(codes) >= 4 {
		word := uint32(0)
		for k := 0; k < WordValues; k += 4 {
			x := binary.LittleEndian.Uint64(values[2*k : 2*k+8])
			m := x&0x007f007f007f007f | x>>8&0x0080008000800080
			m = (m | m>>8) & 0x0000ffff0000ffff
			binary.LittleEndian.PutUint32(low[k:k+4], uint32(m|m>>16))
			p, q := pairs[uint16(x>>7&0xff|x>>15&0xff00)], pairs[uint16(x>>39&0xff|x>>47&0xff00)]
			word = word>>8 | uint32(p&15|q&15<<4)<<24
			// The four second codes first, which does not wait for those before them.
			part := uint64(p.second()) | uint64(q.second())<<(p.bits()&63)
			acc |= part << (held & 63)
			held += p.bits() + q.bits()
			binary.LittleEndian.PutUint64(e.second[at:], acc)
			at += int(held >> 3)
			acc >>= held & 56
			held &= 7
			if (p|q)&entryRaw != 0 {
				raw += e.exponents(c, raw, x)
			}
		}
		binary.LittleEndian.PutUint32(codes, word)
		low, codes, values = low[WordValues:], codes[4:], values[2*WordValues:]
	}
	if held > 0 {
		at++
	}
	e.Pool = appendWords(e.Pool, e.second[:at])
	e.Pool = appendWords(e.Pool, e.raw[:raw])
}

// exponents keeps those of four numbers' exponents that neither code names, and returns how many there are.
func (e *Encoder) exponents(c *Code, at int, x uint64) int {
	n := 0
	for k := range 4 {
		if exponent := uint8(x >> (16*k + 7)); c.entries[exponent]&entryRaw != 0 {
			e.raw[at+n] = exponent
			n++
		}
	}
	return n
}

// appendWords appends bytes and zeros up to a whole word.
func appendWords(dst, src []byte) []byte {
	dst = append(dst, src...)
	for len(dst)%4 != 0 {
		dst = append(dst, 0)
	}
	return dst
}
