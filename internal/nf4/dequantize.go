package nf4

import (
	"encoding/binary"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// DequantizeBF16 writes numbers from … from+len(dst)/2−1 of a matrix as bf16, little-endian.
func (l Layout) DequantizeBF16(dst, m []byte, from int) {
	var code [16]float32
	for i := range code {
		code[i] = float(m, i)
	}
	codes := l.Codes(m)
	for i := 0; i < len(dst)/2; {
		at := from + i
		scale := l.Scale(m, at/Block)
		var value [16]uint16
		for k, c := range code {
			value[k] = numeric.BF16FromF32(c * scale)
		}
		for n := min(Block-at%Block, len(dst)/2-i); n > 0; n-- {
			q := codes[at/2] >> 4
			if at%2 == 1 {
				q = codes[at/2] & 15
			}
			binary.LittleEndian.PutUint16(dst[2*i:], value[q])
			at++
			i++
		}
	}
}
