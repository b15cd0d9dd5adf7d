package bf16z

import (
	"cmp"
	"fmt"
	"slices"
)

// Sizes of the format.
const (
	WordValues  = 16   // numbers whose first codes share a word
	ChunkValues = 2048 // numbers that are decoded together
	HeadWords   = 8    // of an index, before its chunks
)

const (
	firstCodes = 3 // exponents that a first code names
	mostWidth  = 4
	secondAt   = 1 + firstCodes // byte of the head
	headBytes  = 4 * HeadWords
	escape     = firstCodes
)

// Chunks returns the number of chunks of n numbers.
func Chunks(n int64) int64 { return (n + ChunkValues - 1) / ChunkValues }

// IndexBytes returns the size of the index of n numbers.
func IndexBytes(n int64) int64 { return headBytes + 4*Chunks(n) }

// CodeBytes returns the size of the first codes of n numbers.
func CodeBytes(n int64) int64 { return n / WordValues * 4 }

// Histogram counts exponents.
type Histogram [256]uint64

// Add counts the exponents of bf16 numbers, little-endian.
func (h *Histogram) Add(values []byte) {
	for i := 0; i+2 <= len(values); i += 2 {
		h[exponent(values[i], values[i+1])]++
	}
}

func exponent(low, high byte) byte { return high<<1 | low>>7 }

// Code says which exponents have which codes.
type Code struct {
	width  uint
	first  [firstCodes]byte
	second [1<<mostWidth - 1]byte

	entries [256]entry
	pairs   []entry // of two numbers, by the second's exponent and the first's: 256 KiB, of which a matrix needs little
}

// entry is what an exponent becomes, or two: first codes from bit 0 on, whether an exponent follows in bit 4, second codes from bit
// 8 on, and how many bits of them there are from bit 16 on.
type entry uint32

const entryRaw = 1 << 4

func (e entry) second() uint8 { return uint8(e >> 8) }
func (e entry) bits() uint    { return uint(e >> 16) }
func (e entry) raw() uint64   { return uint64(e >> 4 & 1) }

// NewCode returns the code that takes the least for exponents of these frequencies. Others have codes too.
func NewCode(h *Histogram) *Code {
	order := make([]int, len(h))
	for e := range order {
		order[e] = e
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(h[b], h[a]) })
	c := &Code{}
	for i := range c.first {
		c.first[i] = byte(order[i])
	}
	best := ^uint64(0)
	for w := range uint(mostWidth + 1) {
		named := firstCodes + 1<<w - 1
		var escapes, raw uint64
		for i, e := range order {
			if i >= firstCodes {
				escapes += h[e]
			}
			if i >= named {
				raw += h[e]
			}
		}
		if bits := escapes*uint64(w) + raw*8; bits < best {
			best, c.width = bits, w
		}
	}
	for i := range 1<<c.width - 1 {
		c.second[i] = byte(order[firstCodes+i])
	}
	c.fill()
	return c
}

// fill makes the entries of all exponents. Of codes that name the same exponent the lowest counts.
func (c *Code) fill() {
	last := uint32(1<<c.width - 1)
	for e := range c.entries {
		c.entries[e] = entry(escape | last<<8 | uint32(c.width)<<16 | entryRaw)
	}
	for i := int(last) - 1; i >= 0; i-- {
		c.entries[c.second[i]] = entry(escape | uint32(i)<<8 | uint32(c.width)<<16)
	}
	for i := firstCodes - 1; i >= 0; i-- {
		c.entries[c.first[i]] = entry(i)
	}
	c.pairs = make([]entry, 1<<16)
	for b, q := range c.entries {
		for a, p := range c.entries {
			second := uint32(p.second()) | uint32(q.second())<<p.bits()
			c.pairs[b<<8|a] = p&3 | q&3<<2 | (p|q)&entryRaw | entry(second<<8) | entry(p.bits()+q.bits())<<16
		}
	}
}

// Head writes the head of an index.
func (c *Code) Head(index []byte) {
	var head [headBytes]byte
	head[0] = byte(c.width)
	copy(head[1:], c.first[:])
	copy(head[secondAt:], c.second[:1<<c.width-1])
	copy(index, head[:])
}

// parseHead reads the head of an index.
func parseHead(index []byte) (*Code, error) {
	if len(index) < headBytes {
		return nil, fmt.Errorf("bf16z: an index of %d bytes has no head of %d", len(index), headBytes)
	}
	c := &Code{width: uint(index[0])}
	if c.width > mostWidth {
		return nil, fmt.Errorf("bf16z: second codes of %d bits, at most %d can be", c.width, mostWidth)
	}
	copy(c.first[:], index[1:])
	copy(c.second[:1<<c.width-1], index[secondAt:])
	return c, nil
}

// Bits returns how many bits the exponents of these frequencies take of codes and pool, without what fills up words.
func (c *Code) Bits(h *Histogram) uint64 {
	var bits uint64
	for e, n := range h {
		x := c.entries[e]
		bits += n * (2 + uint64(x.bits()) + 8*x.raw())
	}
	return bits
}
