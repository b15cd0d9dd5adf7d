package weights

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Tensor is one named array of a checkpoint, row-major, little-endian.
type Tensor struct {
	Name   string // as the network calls it, after any renaming by a Checkpoint
	DType  DType
	Shape  []int  // slowest axis first; empty for a scalar
	Data   []byte // view into the mapping; len is DType.Bytes(Elements())
	Scales Scales // of quantised elements whose scales are a tensor of their own
	File   string // path of the file it lies in
	taps   int    // of a convolution whose data lie in the order (out, t, in, h, w): t, else 0
	at     int64  // bytes from the start of the file to Data

	file io.ReaderAt // of the same bytes from at on, for reading in bulk; nil: Data is all there is
}

// Scales are the factors of quantised elements: an element's value is its code times the scale of its run. The zero
// value is none, a factor of one.
type Scales struct {
	DType DType  // F32, F16 or BF16
	Data  []byte // view into a mapping
	Run   int    // elements, side by side, that share a scale
}

// Elements is the product of the shape.
func (t Tensor) Elements() int {
	n := 1
	for _, extent := range t.Shape {
		n *= extent
	}
	return n
}

// errorf prefixes an error with the file and the tensor at fault.
func (t Tensor) errorf(format string, args ...any) error {
	return fmt.Errorf("weights: %s: tensor %q: "+format, append([]any{t.File, t.Name}, args...)...)
}

// IsWeight reports whether the tensor may be a network's parameter: numbers in F32, F16 or BF16, or coded ones that this
// package decodes (fp8, int8 with scales, ggml's records).
func (t Tensor) IsWeight() bool { return t.DType.IsWeight() || t.coded() }

// coded reports whether reading the tensor's values means decoding them, or finding them in another order.
func (t Tensor) coded() bool {
	if t.taps > 0 {
		return true
	}
	switch t.DType {
	case F8E4M3, F8E5M2:
		return true
	case I8:
		return t.Scales.Run > 0
	}
	return t.DType.Block() != 0
}

// Bytes is the size of the tensor in its file, scales included.
func (t Tensor) Bytes() int64 { return int64(len(t.Data)) + int64(len(t.Scales.Data)) }

// part is the data of a run of elements.
func (t Tensor) part(begin, end int) []byte {
	return t.Data[t.DType.Bytes(begin):t.DType.Bytes(end)]
}

// run is the tensor with a run of its elements as data, and the shape it had.
func (t Tensor) run(begin, end int) Tensor {
	t.Data = t.part(begin, end)
	t.at += int64(t.DType.Bytes(begin))
	return t
}

// Rows returns rows from to from+count−1 of the first axis as a tensor. The rows must exist.
func (t Tensor) Rows(from, count int) Tensor {
	row := 1
	for _, extent := range t.Shape[1:] {
		row *= extent
	}
	if s := t.Scales; s.Run > 0 && s.Run <= row {
		perRow := row / s.Run * s.DType.Size()
		t.Scales.Data = s.Data[from*perRow : (from+count)*perRow]
	}
	t = t.run(from*row, (from+count)*row)
	t.Shape = append([]int{count}, t.Shape[1:]...)
	return t
}

// Float32s widens a tensor of weights into a new slice. It panics for other types (check IsWeight, or the Spec,
// first) and when the mapped file cannot be read any more; ConvertTo returns errors instead.
func (t Tensor) Float32s() []float32 {
	out := make([]float32, t.Elements())
	err := t.parallel(func(begin, end int) error { return t.values(out[begin:end], begin) })
	if err != nil {
		panic(fmt.Sprintf("weights.Float32s: %v", err))
	}
	return out
}

// widen converts one run of elements to float32.
func widen(dst []float32, src []byte, from DType) error {
	switch from {
	case F32:
		numeric.F32sFromBytes(dst, src)
	case F16:
		numeric.F32sFromF16(dst, src)
	case BF16:
		numeric.F32sFromBF16(dst, src)
	default:
		return fmt.Errorf("element type %s is not F32, F16 or BF16", from)
	}
	return nil
}

// Int32s widens an I32, U8, I8 or BOOL tensor into a new slice. It panics for other types.
func (t Tensor) Int32s() []int32 {
	out := make([]int32, t.Elements())
	for i := range out {
		switch t.DType {
		case I32:
			out[i] = int32(binary.LittleEndian.Uint32(t.Data[4*i:]))
		case I8:
			out[i] = int32(int8(t.Data[i]))
		case U8, BOOL:
			out[i] = int32(t.Data[i])
		default:
			panic(fmt.Sprintf("weights.Int32s: %v", t.errorf("element type %s is not I32, U8, I8 or BOOL", t.DType)))
		}
	}
	return out
}
