package weights

import "fmt"

// DType is the element type of a tensor, as safetensors names it. The zero value is no type.
type DType uint8

// The element types this package reads. Networks use F32, F16 and BF16; the others carry inputs, masks and
// quantised data.
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
	dtypeCount
)

var dtypes = [dtypeCount]struct {
	name string
	size int
}{
	Invalid: {"invalid", 0},
	BOOL:    {"BOOL", 1}, U8: {"U8", 1}, I8: {"I8", 1},
	U16: {"U16", 2}, I16: {"I16", 2}, F16: {"F16", 2}, BF16: {"BF16", 2},
	U32: {"U32", 4}, I32: {"I32", 4}, F32: {"F32", 4},
	U64: {"U64", 8}, I64: {"I64", 8}, F64: {"F64", 8},
	F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1},
}

// ParseDType returns the type that safetensors calls name.
func ParseDType(name string) (DType, error) {
	for d := BOOL; d < dtypeCount; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("unknown element type %q", name)
}

// Size is the number of bytes of one element, 0 for Invalid.
func (d DType) Size() int {
	if d >= dtypeCount {
		return 0
	}
	return dtypes[d].size
}

// String is the safetensors name, such as "BF16".
func (d DType) String() string {
	if d >= dtypeCount {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// IsWeight reports whether networks may hold their parameters in this type: F32, F16 or BF16.
func (d DType) IsWeight() bool { return d == F32 || d == F16 || d == BF16 }

// MarshalText makes the name the JSON form, also as a map key.
func (d DType) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (d *DType) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDType(string(text))
	return err
}
