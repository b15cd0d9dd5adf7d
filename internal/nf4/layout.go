package nf4

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Sizes of the format.
const (
	Block       = 64  // numbers that share a scale
	NestedBlock = 256 // scales that share a scale of their own
)

// The header holds the code points, the map and the mean; the parts after it begin at multiples of 16 bytes.
const (
	mapWord    = 16
	meanWord   = mapWord + 256
	headerWord = (meanWord + 4) &^ 3
)

// Layout is the place of the parts of a matrix in one run of bytes: header, scales of scales, scales, codes.
type Layout struct {
	Rows, Cols int
	Plain      bool // scales are fp32 themselves: no double quantization
}

// Elements is the number of numbers.
func (l Layout) Elements() int { return l.Rows * l.Cols }

// Blocks is the number of scales.
func (l Layout) Blocks() int { return (l.Elements() + Block - 1) / Block }

// nested is the number of scales of scales.
func (l Layout) nested() int {
	if l.Plain {
		return 0
	}
	return (l.Blocks() + NestedBlock - 1) / NestedBlock
}

// NestedWord is where the scales of scales begin, in words of 4 bytes.
func (l Layout) NestedWord() int { return headerWord }

// ScaleWord is where the scales begin, in words of 4 bytes: bytes with double quantization, else words.
func (l Layout) ScaleWord() int { return headerWord + (l.nested()+3)&^3 }

// CodeWord is where the codes begin, in words of 4 bytes: the first number in the upper half of the first byte.
func (l Layout) CodeWord() int {
	if l.Plain {
		return l.ScaleWord() + (l.Blocks()+3)&^3
	}
	return l.ScaleWord() + (l.Blocks()+15)/16*4
}

// Bytes is the size of the whole, a multiple of 16.
func (l Layout) Bytes() int64 { return 4 * int64(l.CodeWord()+(l.Elements()+31)/32*4) }

func (l Layout) String() string {
	if l.Plain {
		return fmt.Sprintf("nf4[%d %d] with fp32 scales", l.Rows, l.Cols)
	}
	return fmt.Sprintf("nf4[%d %d]", l.Rows, l.Cols)
}

// Tables are the numbers that codes stand for.
type Tables struct {
	Code [16]float32
	Map  [256]float32
	Mean float32 // of the scales
}

// PutTables writes the header.
func (l Layout) PutTables(dst []byte, t Tables) {
	for i, v := range t.Code {
		putFloat(dst, i, v)
	}
	for i, v := range t.Map {
		putFloat(dst, mapWord+i, v)
	}
	putFloat(dst, meanWord, t.Mean)
	clear(dst[4*(meanWord+1) : 4*headerWord])
}

// Codes is the part of a matrix that holds the codes, two a byte.
func (l Layout) Codes(m []byte) []byte { return m[4*l.CodeWord():][:(l.Elements()+1)/2] }

// Scales is the part that holds the scales.
func (l Layout) Scales(m []byte) []byte {
	if l.Plain {
		return m[4*l.ScaleWord():][:4*l.Blocks()]
	}
	return m[4*l.ScaleWord():][:l.Blocks()]
}

// NestedScales is the part that holds the scales of scales, fp32 each.
func (l Layout) NestedScales(m []byte) []byte { return m[4*l.NestedWord():][:4*l.nested()] }

// ClearGaps zeroes what lies between the parts, so that equal matrices are equal bytes.
func (l Layout) ClearGaps(m []byte) {
	clear(m[4*l.NestedWord()+4*l.nested() : 4*l.ScaleWord()])
	clear(m[4*l.ScaleWord()+len(l.Scales(m)) : 4*l.CodeWord()])
	clear(m[4*l.CodeWord()+len(l.Codes(m)) : l.Bytes()])
}

// Mean is that of the scales, with double quantization.
func (l Layout) Mean(m []byte) float32 { return float(m, meanWord) }

// Scale returns the scale of a block.
func (l Layout) Scale(m []byte, block int) float32 {
	if l.Plain {
		return float(m, l.ScaleWord()+block)
	}
	q := int(m[4*l.ScaleWord()+block])
	return float32(float(m, mapWord+q)*float(m, l.NestedWord()+block/NestedBlock)) + float(m, meanWord)
}

func float(m []byte, word int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(m[4*word:]))
}

func putFloat(m []byte, word int, v float32) {
	binary.LittleEndian.PutUint32(m[4*word:], math.Float32bits(v))
}
