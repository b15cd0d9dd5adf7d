package weights

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/internal/quant"
)

// DType is the element type of a tensor, as safetensors or ggml names it. The zero value is no type.
type DType uint8

// The element types this package reads. Networks use F32, F16 and BF16; the others carry inputs, masks and
// quantised data. The last eight hold 32 elements in a record (_K: 256) and occur in GGUF files only.
const (
	Invalid DType = iota
	BOOL
	U8
	I8
	U16
	I16
	F16
	BF16
	U32
	I32
	F32
	U64
	I64
	F64
	F8E4M3
	F8E5M2
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	Q8_0
	Q4_K
	Q5_K
	Q6_K
	dtypeCount
)

var dtypes = [dtypeCount]struct {
	name  string
	size  int
	block quant.Block
}{
	Invalid: {name: "invalid"},
	BOOL:    {name: "BOOL", size: 1}, U8: {name: "U8", size: 1}, I8: {name: "I8", size: 1},
	U16: {name: "U16", size: 2}, I16: {name: "I16", size: 2}, F16: {name: "F16", size: 2}, BF16: {name: "BF16", size: 2},
	U32: {name: "U32", size: 4}, I32: {name: "I32", size: 4}, F32: {name: "F32", size: 4},
	U64: {name: "U64", size: 8}, I64: {name: "I64", size: 8}, F64: {name: "F64", size: 8},
	F8E4M3: {name: "F8_E4M3", size: 1}, F8E5M2: {name: "F8_E5M2", size: 1},
	Q4_0: {name: "Q4_0", block: quant.Q4_0}, Q4_1: {name: "Q4_1", block: quant.Q4_1},
	Q4_K: {name: "Q4_K", block: quant.Q4_K}, Q5_K: {name: "Q5_K", block: quant.Q5_K}, Q6_K: {name: "Q6_K", block: quant.Q6_K},
	Q5_0: {name: "Q5_0", block: quant.Q5_0}, Q5_1: {name: "Q5_1", block: quant.Q5_1}, Q8_0: {name: "Q8_0", block: quant.Q8_0},
}

// ParseDType returns the type that safetensors or ggml calls name.
func ParseDType(name string) (DType, error) {
	for d := BOOL; d < dtypeCount; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("unknown element type %q", name)
}

// Size is the number of bytes of one element, 0 for Invalid and for types whose elements share a record: see Bytes.
func (d DType) Size() int {
	if d >= dtypeCount {
		return 0
	}
	return dtypes[d].size
}

// Block is the format of a type whose elements share a record, and zero for the others.
func (d DType) Block() quant.Block {
	if d >= dtypeCount {
		return 0
	}
	return dtypes[d].block
}

// Bytes is the size of n elements side by side; n must be whole records for types whose elements share one.
func (d DType) Bytes(n int) int {
	if b := d.Block(); b != 0 {
		return n / b.Len() * b.Bytes()
	}
	return n * d.Size()
}

// String is the published name, such as "BF16" or "Q8_0".
func (d DType) String() string {
	if d >= dtypeCount {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// IsWeight reports whether a network's kernels may read this type: F32, F16 or BF16. A checkpoint may hold more: see
// Tensor.IsWeight.
func (d DType) IsWeight() bool { return d == F32 || d == F16 || d == BF16 }

// MarshalText makes the name the JSON form, also as a map key.
func (d DType) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (d *DType) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDType(string(text))
	return err
}
