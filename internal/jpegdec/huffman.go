package jpegdec

import "errors"

// errData is what broken entropy-coded data gives.
var errData = errors.New("jpegdec: the compressed data are broken or end too early")

// lookBits is the length of codes that are found by one look.
const lookBits = 9

// huffman is a table of codes (ITU-T T.81, annexes C and F).
type huffman struct {
	look   [1 << lookBits]uint16 // length<<8 | value of the code that bits begin with, 0 where it is longer
	most   [17]int32             // the largest code of a length, -1 where there is none
	offset [17]int32             // from a code of a length to the place of its value
	values []uint8
}

// newHuffman makes a table of how many codes there are of each length from 1 to 16, and their values.
func newHuffman(counts [16]uint8, values []uint8) (*huffman, error) {
	h := &huffman{values: values}
	code, place := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		n := int32(counts[length-1])
		h.most[length], h.offset[length] = -1, place-code
		if n > 0 {
			h.most[length] = code + n - 1
		}
		for range n {
			if code >= 1<<length {
				return nil, errData
			}
			if length <= lookBits {
				first := int(code) << (lookBits - length)
				for k := range 1 << (lookBits - length) {
					h.look[first+k] = uint16(length)<<8 | uint16(values[place])
				}
			}
			code, place = code+1, place+1
		}
		code <<= 1
	}
	return h, nil
}

// bitReader reads the entropy-coded data of a scan up to the next marker.
type bitReader struct {
	data []byte
	at   int
	acc  uint64 // the next bits, from bit n-1 down
	n    int
	past int // zeros that were taken behind the end of the data, in bits
}

// fill makes sure of 32 bits; behind the data they are zeros.
func (r *bitReader) fill() {
	for r.n <= 32 {
		b := byte(0)
		switch {
		case r.at >= len(r.data):
			r.past += 8
		case r.data[r.at] != 0xff:
			b = r.data[r.at]
			r.at++
		case r.at+1 < len(r.data) && r.data[r.at+1] == 0:
			b = 0xff
			r.at += 2
		default: // a marker
			r.past += 8
		}
		r.acc, r.n = r.acc<<8|uint64(b), r.n+8
	}
}

// short says whether bits were used that the data do not have.
func (r *bitReader) short() bool { return r.past > r.n }

// bits takes up to 16 bits.
func (r *bitReader) bits(n int) int32 {
	if r.n < n {
		r.fill()
	}
	r.n -= n
	return int32(r.acc>>r.n) & (1<<n - 1)
}

// extended takes a number of so many bits, of which the first says the sign (T.81, F.2.2.1, EXTEND).
func (r *bitReader) extended(n int) int32 {
	if n == 0 {
		return 0
	}
	v := r.bits(n)
	if v < 1<<(n-1) {
		v -= 1<<n - 1
	}
	return v
}

// symbol takes a code.
func (r *bitReader) symbol(h *huffman) (uint8, error) {
	if h == nil {
		return 0, errData
	}
	if r.n < 16 {
		r.fill()
	}
	if e := h.look[r.acc>>(r.n-lookBits)&(1<<lookBits-1)]; e != 0 {
		r.n -= int(e >> 8)
		return uint8(e), nil
	}
	for length := lookBits + 1; length <= 16; length++ {
		if code := int32(r.acc>>(r.n-length)) & (1<<length - 1); code <= h.most[length] {
			r.n -= length
			return h.values[code+h.offset[length]], nil
		}
	}
	return 0, errData
}

// restart goes to the data behind a restart marker.
func (r *bitReader) restart() error {
	if r.short() {
		return errData
	}
	r.acc, r.n, r.past = 0, 0, 0
	for r.at+1 < len(r.data) && r.data[r.at] == 0xff && r.data[r.at+1] == 0xff {
		r.at++ // fill bytes
	}
	if r.at+1 >= len(r.data) || r.data[r.at] != 0xff || r.data[r.at+1] < 0xd0 || r.data[r.at+1] > 0xd7 {
		return errData
	}
	r.at += 2
	return nil
}
