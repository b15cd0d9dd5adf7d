package load

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Precision says how exact a network computes.
type Precision int

// Precisions. Mixed has 16-bit operands with fp32 accumulation, softmax and norms, and is as exact as the reference in
// bf16; Float32 has everything in fp32 and is the yardstick for drivers.
const (
	Mixed Precision = iota
	Float32
)

func (p Precision) String() string { return [...]string{"mixed", "f32"}[p] }

// ParsePrecision reads "mixed" or "f32".
func ParsePrecision(s string) (Precision, error) {
	switch s {
	case "mixed":
		return Mixed, nil
	case "f32":
		return Float32, nil
	}
	return 0, fmt.Errorf("unknown precision %q: use mixed or f32", s)
}

// Activation returns the storage type of operands between kernels. bf16 and not fp16, because activations of the large
// models pass fp16's range.
func (p Precision) Activation() engine.DType {
	if p == Float32 {
		return engine.F32
	}
	return engine.BF16
}

// Weight returns the storage type of a matrix whose file has it in a given type: 16-bit types stay as they are, fp32
// is rounded to bf16 in Mixed.
func (p Precision) Weight(file weights.DType) engine.DType {
	switch {
	case file == weights.BF16:
		return engine.BF16
	case file == weights.F16:
		return engine.F16
	case p == Float32:
		return engine.F32
	}
	return engine.BF16
}

func fileType(d engine.DType) weights.DType {
	return map[engine.DType]weights.DType{engine.F32: weights.F32, engine.BF16: weights.BF16, engine.F16: weights.F16}[d]
}
