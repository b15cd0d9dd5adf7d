package bf16z

import (
	"encoding/binary"
	"fmt"
)

// Decode writes the numbers that were coded to dst, bf16 little-endian, 2 bytes for each byte of low. It is what kernels must give. Parts that do
// not fit each other, or point out of the pool, are an error.
func Decode(dst, low, codes, index, pool []byte) error {
	n := len(low)
	if n%WordValues != 0 || len(dst) != 2*n || int64(len(codes)) != CodeBytes(int64(n)) || int64(len(index)) != IndexBytes(int64(n)) {
		return fmt.Errorf("bf16z: %d numbers with %d bytes of low bytes, %d of codes and %d of index", len(dst)/2, n, len(codes), len(index))
	}
	c, err := parseHead(index)
	if err != nil {
		return err
	}
	for at := 0; at < n; at += ChunkValues {
		end := min(at+ChunkValues, n)
		start := int64(binary.LittleEndian.Uint32(index[headBytes+at/ChunkValues*4:])) * 4
		if start > int64(len(pool)) {
			return fmt.Errorf("bf16z: chunk %d begins at byte %d of a pool of %d", at/ChunkValues, start, len(pool))
		}
		if err := c.decodeChunk(dst[2*at:2*end], low[at:end], codes[at/4:end/4], pool[start:]); err != nil {
			return fmt.Errorf("bf16z: chunk %d: %w", at/ChunkValues, err)
		}
	}
	return nil
}

func (c *Code) decodeChunk(dst, low, codes, pool []byte) error {
	first := func(i int) byte { return codes[i/4] >> (i % 4 * 2) & 3 }
	escapes := 0
	for i := range low {
		if first(i) == escape {
			escapes++
		}
	}
	bits := escapes * int(c.width)
	raw := (bits + 31) / 32 * 4 // the next exponent
	if raw > len(pool) {
		return fmt.Errorf("%d second codes of %d bits do not fit into %d bytes", escapes, c.width, len(pool))
	}
	bit := 0
	for i := range low {
		e := byte(0)
		if f := first(i); f != escape {
			e = c.first[f]
		} else {
			s := 0
			for k := range int(c.width) {
				s |= int(pool[bit/8]>>(bit%8)&1) << k
				bit++
			}
			switch {
			case s < 1<<c.width-1:
				e = c.second[s]
			case raw < len(pool):
				e = pool[raw]
				raw++
			default:
				return fmt.Errorf("exponents beyond %d bytes of pool", len(pool))
			}
		}
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(low[i]&0x80)<<8|uint16(e)<<7|uint16(low[i]&0x7f))
	}
	return nil
}
