package engine

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/memory"
)

// DType is the storage type of a tensor's elements. The numbers are those that shaders know (include/tensor.glsl).
type DType uint8

// Storage types.
const (
	F32  DType = iota
	BF16       // upper half of an f32
	F16        // IEEE half
	U32
	U8
	I8 // signed, with a scale beside the tensor
)

// Size returns the bytes of one element.
func (d DType) Size() int64 { return [...]int64{4, 2, 2, 4, 1, 1}[d] }

func (d DType) String() string { return [...]string{"f32", "bf16", "f16", "u32", "u8", "i8"}[d] }

// IsFloat says whether elements are numbers that kernels compute with.
func (d DType) IsFloat() bool { return d <= F16 }

// Tensor is a view of device memory: contiguous, row-major, the last axis fastest. Copying it copies the view. The
// zero Tensor is none; kernels take it for an input left out.
type Tensor struct {
	Mem    memory.Region
	Offset int64 // bytes from the region's start
	DType  DType
	Shape  []int
}

// IsZero says whether the tensor is none.
func (t Tensor) IsZero() bool { return t.Mem.IsZero() }

// Elems returns the number of elements.
func (t Tensor) Elems() int64 { return product(t.Shape) }

// Bytes returns the size in bytes.
func (t Tensor) Bytes() int64 { return t.Elems() * t.DType.Size() }

// Dim returns the length of axis i; negative i counts from the end.
func (t Tensor) Dim(i int) int {
	if i < 0 {
		i += len(t.Shape)
	}
	return t.Shape[i]
}

// Rows returns the slice [from, to) of the first axis.
func (t Tensor) Rows(from, to int) Tensor {
	if from < 0 || to < from || to > t.Shape[0] {
		panic(fmt.Sprintf("engine: rows %d to %d of %v", from, to, t))
	}
	inner := product(t.Shape[1:])
	shape := append([]int{to - from}, t.Shape[1:]...)
	return t.View(int64(from)*inner, shape...)
}

// Reshape returns the same elements in another shape.
func (t Tensor) Reshape(shape ...int) Tensor {
	if product(shape) != t.Elems() {
		panic(fmt.Sprintf("engine: reshape of %v to %v", t, shape))
	}
	t.Shape = shape
	return t
}

// View returns a tensor of another shape that starts elem elements further on.
func (t Tensor) View(elem int64, shape ...int) Tensor {
	if elem < 0 || elem+product(shape) > t.Elems() {
		panic(fmt.Sprintf("engine: view of %v elements from %d of %v", shape, elem, t))
	}
	t.Offset += elem * t.DType.Size()
	t.Shape = shape
	return t
}

// String names dtype and shape: "bf16[120 256]".
func (t Tensor) String() string { return fmt.Sprintf("%v%v", t.DType, t.Shape) }

func product(shape []int) int64 {
	n := int64(1)
	for _, s := range shape {
		n *= int64(s)
	}
	return n
}
