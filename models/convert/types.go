package convert

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/quant"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Type says how the matrices of a file are stored.
type Type string

// The types. Int8 and FP8 are the block-swap fork's: 8-bit integers with a scale for every 128 columns of a row, and 8-bit
// floats (e4m3) with one scale for a matrix. The last five are ggml's.
const (
	BF16 Type = "bf16"
	F16  Type = "f16"
	F32  Type = "f32"
	Int8 Type = "int8"
	FP8  Type = "fp8"
	Q8_0 Type = "q8_0"
	Q5_0 Type = "q5_0"
	Q5_1 Type = "q5_1"
	Q4_0 Type = "q4_0"
	Q4_1 Type = "q4_1"
)

// Types lists them all.
func Types() []Type { return []Type{BF16, F16, F32, Int8, FP8, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0} }

// ParseType returns the type of that name.
func ParseType(name string) (Type, error) {
	if t := Type(strings.ToLower(name)); slices.Contains(Types(), t) {
		return t, nil
	}
	var names []string
	for _, t := range Types() {
		names = append(names, string(t))
	}
	return "", fmt.Errorf("unknown type %q: use %s", name, strings.Join(names, ", "))
}

// Format is a file format.
type Format string

// The file formats.
const (
	Safetensors Format = "safetensors"
	GGUF        Format = "gguf"
)

// formatOf returns the format that a file's name asks for, if it can hold the type.
func formatOf(path string, t Type) (Format, error) {
	format := Format(strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), "."))
	switch {
	case format != Safetensors && format != GGUF:
		return "", fmt.Errorf("%s: the name of the new file must end in .safetensors or .gguf", path)
	case format == GGUF && (t == Int8 || t == FP8):
		return "", fmt.Errorf("%s: type %s is stored in safetensors files: name one that ends in .safetensors, or take q8_0", path, t)
	case format == Safetensors && t.dtype().Block() != 0:
		return "", fmt.Errorf("%s: type %s is stored in GGUF files: name one that ends in .gguf, or take int8 or fp8", path, t)
	}
	return format, nil
}

// dtype is the element type of matrices of this type.
func (t Type) dtype() weights.DType {
	switch t {
	case BF16:
		return weights.BF16
	case F16:
		return weights.F16
	case F32:
		return weights.F32
	case Int8:
		return weights.I8
	case FP8:
		return weights.F8E4M3
	}
	d, _ := weights.ParseDType(strings.ToUpper(string(t))) // ParseType let no other through
	return d
}

// scaleRun is how many columns share a scale in the fork's int8 files.
const scaleRun = 128

// storedAs returns the type that one tensor gets.
func (t Type) storedAs(f Format, s weights.Tensor) weights.DType {
	if f == GGUF {
		return t.inGGUF(s)
	}
	if len(s.Shape) < 2 {
		return t.vector(s)
	}
	switch t {
	case Int8:
		if inLayer(s) && s.Shape[1]%scaleRun == 0 {
			return weights.I8
		}
	case FP8:
		if inLayer(s) {
			return weights.F8E4M3
		}
	default:
		return t.dtype()
	}
	if s.DType == weights.F16 {
		return weights.F16
	}
	return weights.BF16
}

// vector is the type of biases and norms, which are small: what they have, so that nothing is lost.
func (t Type) vector(s weights.Tensor) weights.DType {
	if t == F32 || !s.DType.IsWeight() {
		return weights.F32
	}
	return s.DType
}

// inLayer says whether the fork quantises a tensor: the linear layers of the blocks, without modulations, norms and
// embeddings (kandinsky5 fork, kandinsky/models/fp8_layers.py and scripts/convert_to_int8.py). The text encoders call
// their blocks layers.
func inLayer(s weights.Tensor) bool {
	if len(s.Shape) != 2 || !strings.HasSuffix(s.Name, ".weight") || !inBlock(s.Name) {
		return false
	}
	for _, other := range []string{"embed", "modulation", "norm"} {
		if strings.Contains(s.Name, other) {
			return false
		}
	}
	return true
}

func inBlock(name string) bool {
	return strings.Contains(name, "blocks.") || strings.Contains(name, "layers.")
}

// smallGGUF is the number of elements below which kandinsky.cpp's converter leaves a tensor in F32.
const smallGGUF = 256

// inGGUF follows kandinsky.cpp's converter (scripts/convert_to_gguf.py), with one difference: what is outside the blocks,
// where little is saved and every token passes, does not get fewer than eight bits.
func (t Type) inGGUF(s weights.Tensor) weights.DType {
	d := t.dtype()
	switch {
	case len(s.Shape) < 2 || s.Elements() < smallGGUF:
		return weights.F32
	case d.Block() == 0:
		return d
	case s.Shape[len(s.Shape)-1]%quant.BlockLen != 0 || d != weights.Q8_0 && !inBlock(s.Name):
		return weights.F16
	}
	return d
}
