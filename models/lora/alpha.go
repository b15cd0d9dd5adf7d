package lora

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// scale returns the factor of B·A. An alpha tensor is the last word; 0 means 1, as in the programs that write them.
func (p *parts) scale(module string, rank int, s scaling) (float64, error) {
	t := p.tensors[alpha]
	if t == nil {
		return s.of(module, rank)
	}
	value, err := number(*t)
	switch {
	case err != nil:
		return 0, err
	case value == 0:
		return 1, nil
	case p.root:
		return value / math.Sqrt(float64(rank)), nil
	}
	return value / float64(rank), nil
}

// number reads a tensor of a single number. Programs write alphas in whatever type they have them: musubi-tuner's converter
// makes integers of 64 bits of what is a rank.
func number(t weights.Tensor) (float64, error) {
	if t.Elements() != 1 {
		return 0, fmt.Errorf("tensor %q has shape %v, want a single number", t.Name, t.Shape)
	}
	var value float64
	switch {
	case t.DType.IsWeight():
		values, err := floats(t)
		if err != nil {
			return 0, err
		}
		value = float64(values[0])
	case t.DType == weights.I64:
		value = float64(int64(binary.LittleEndian.Uint64(t.Data)))
	case t.DType == weights.I32:
		value = float64(int32(binary.LittleEndian.Uint32(t.Data)))
	case t.DType == weights.F64:
		value = math.Float64frombits(binary.LittleEndian.Uint64(t.Data))
	default:
		return 0, fmt.Errorf("tensor %q is %s, want a number", t.Name, t.DType)
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, fmt.Errorf("tensor %q has values that are %w", t.Name, weights.ErrNotFinite)
	}
	return value, nil
}

// truth reads a tensor of a truth value; false where there is none of that name.
func truth(file *weights.File, name string) (bool, error) {
	t, ok := file.Tensor(name)
	switch {
	case !ok:
		return false, nil
	case t.DType != weights.BOOL && t.DType != weights.U8 || len(t.Data) != 1:
		return false, fmt.Errorf("tensor %q is %s of shape %v, want a truth value", name, t.DType, t.Shape)
	}
	return t.Data[0] != 0, nil
}

// floats reads a tensor.
func floats(t weights.Tensor) ([]float32, error) {
	raw := make([]byte, 4*t.Elements())
	if err := weights.ConvertTo(raw, t, weights.F32); err != nil {
		return nil, err
	}
	return fromBytes(raw), nil
}
