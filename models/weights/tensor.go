package weights

import (
	"encoding/binary"
	"fmt"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Tensor is one named array of a checkpoint, row-major, little-endian.
type Tensor struct {
	Name  string // as the network calls it, after any renaming by a Checkpoint
	DType DType
	Shape []int  // slowest axis first; empty for a scalar
	Data  []byte // view into the mapping; len is Elements()·DType.Size()
	File  string // path of the file it lies in
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

// Float32s widens an F32, F16 or BF16 tensor into a new slice. It panics for other types (check DType.IsWeight,
// or the Spec, first) and when the mapped file cannot be read any more; ConvertTo returns errors instead.
func (t Tensor) Float32s() []float32 {
	out := make([]float32, t.Elements())
	err := t.parallel(func(begin, end int) error {
		size := t.DType.Size()
		return widen(out[begin:end], t.Data[begin*size:end*size], t.DType)
	})
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
