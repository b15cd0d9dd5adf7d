package weights

import (
	"slices"
	"strings"
)

// Names of quantised tensors and of their scales, for a layer X. The first two are those of the kandinsky5 block-swap fork
// (int8 with a scale for every 128 columns of a row, fp8 with one scale); musubi-tuner and ComfyUI keep the name X.weight
// and add X.scale_weight, of one number, one for each row, or [rows, blocks, 1].
const (
	plainSuffix = ".weight"
	int8Suffix  = ".weight_int8"
	fp8Suffix   = ".weight_fp8"
)

// scaleSuffixes are the names that scales may have beside a tensor of such a name.
func scaleSuffixes(suffix string) []string {
	switch suffix {
	case int8Suffix:
		return []string{".weight_scales"}
	case fp8Suffix:
		return []string{".weight_scale"}
	}
	return []string{".scale_weight", ".weight_scale"}
}

// joinScales gives quantised tensors their scales and the names that the network knows them by.
func (c *Checkpoint) joinScales() error {
	for _, stored := range sortedKeys(c.tensors) {
		for _, suffix := range []string{int8Suffix, fp8Suffix, plainSuffix} {
			layer, ok := strings.CutSuffix(stored, suffix)
			if !ok {
				continue
			}
			if err := c.join(layer, suffix); err != nil {
				return err
			}
		}
	}
	c.names = sortedKeys(c.tensors)
	return nil
}

// join makes one tensor of a layer's codes and scales.
func (c *Checkpoint) join(layer, suffix string) error {
	t := c.tensors[layer+suffix]
	if want := codesOf(suffix); !slices.Contains(want, t.DType) {
		if suffix == plainSuffix {
			return nil // not quantised
		}
		return t.errorf("element type is %s, want %s by its name", t.DType, want[0])
	}
	name := layer + plainSuffix
	if _, dup := c.tensors[name]; dup && suffix != plainSuffix {
		return t.errorf("its layer also has %q", name)
	}
	for _, scales := range scaleSuffixes(suffix) {
		s, ok := c.tensors[layer+scales]
		if !ok {
			continue
		}
		joined, err := withScales(t, s)
		if err != nil {
			return err
		}
		t = joined
		delete(c.tensors, layer+scales)
		break
	}
	if t.Scales.Run == 0 && suffix != plainSuffix {
		return t.errorf("its scales, %q, are missing", layer+scaleSuffixes(suffix)[0])
	}
	delete(c.tensors, layer+suffix)
	t.Name = name
	c.tensors[name] = t
	return nil
}

// codesOf lists the types of a tensor of such a name that make it a quantised one.
func codesOf(suffix string) []DType {
	if suffix == int8Suffix {
		return []DType{I8}
	}
	return []DType{F8E4M3, F8E5M2}
}

// withScales checks that scales fit a matrix of codes: one for all, one for each row, or as many for each row as divide it.
func withScales(t, s Tensor) (Tensor, error) {
	if !s.DType.IsWeight() {
		return t, s.errorf("element type of scales is %s, want F32, F16 or BF16", s.DType)
	}
	count, elements := s.Elements(), t.Elements()
	fits := count == 1
	if !fits && len(t.Shape) == 2 && elements > 0 && count > 0 {
		rows, columns := t.Shape[0], t.Shape[1]
		fits = s.Shape[0] == rows && count%rows == 0 && columns%(count/rows) == 0
	}
	if !fits || elements == 0 {
		return t, s.errorf("scales of shape %v do not fit %q of shape %v", s.Shape, t.Name, t.Shape)
	}
	t.Scales = Scales{DType: s.DType, Data: s.Data, Run: elements / count}
	return t, nil
}
