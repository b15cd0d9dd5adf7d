package weights

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Expected is one tensor a network must have.
type Expected struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
}

// Elements is the product of the shape.
func (e Expected) Elements() int64 {
	n := int64(1)
	for _, extent := range e.Shape {
		n *= int64(extent)
	}
	return n
}

// Spec is the list of tensors of one network, in the order of its computation.
type Spec []Expected

// Parameters is the number of elements of all tensors.
func (s Spec) Parameters() int64 {
	var n int64
	for _, e := range s {
		n += e.Elements()
	}
	return n
}

// Filter keeps the tensors for which keep returns true.
func (s Spec) Filter(keep func(name string) bool) Spec {
	var out Spec
	for _, e := range s {
		if keep(e.Name) {
			out = append(out, e)
		}
	}
	return out
}

// add appends one tensor.
func (s *Spec) add(name string, shape ...int) {
	*s = append(*s, Expected{Name: name, Shape: shape})
}

// affine appends PREFIX.weight [n] and PREFIX.bias [n], as norms have them.
func (s *Spec) affine(prefix string, n int) {
	s.add(prefix+".weight", n)
	s.add(prefix+".bias", n)
}

// linear appends PREFIX.weight [out, in] and PREFIX.bias [out].
func (s *Spec) linear(prefix string, out, in int) {
	s.add(prefix+".weight", out, in)
	s.add(prefix+".bias", out)
}

// Mismatch is one tensor that is not as its Spec says.
type Mismatch struct {
	Name  string `json:"name"`
	File  string `json:"file"`
	DType DType  `json:"dtype"`
	Shape []int  `json:"shape"`
	Want  []int  `json:"want"` // the shape of the Spec
}

// Report is the difference between a checkpoint and a Spec; all lists are sorted by name.
type Report struct {
	Path       string     `json:"path"`
	Missing    []Expected `json:"missing,omitempty"`
	Unexpected []string   `json:"unexpected,omitempty"`
	WrongShape []Mismatch `json:"wrong_shape,omitempty"`
	WrongDType []Mismatch `json:"wrong_dtype,omitempty"` // no type that weights may have
	Broken     []string   `json:"broken,omitempty"`      // lines about matrices in 4 bits whose parts are missing or do not fit
	NF4        []string   `json:"nf4,omitempty"`         // names of matrices that are held in 4 bits
}

// Check compares a checkpoint with what a network needs. It reads no tensor data.
func Check(c *Checkpoint, spec Spec) Report {
	r := Report{Path: c.Path()}
	known := make(map[string]bool, len(spec))
	for _, e := range spec {
		known[e.Name] = true
		t, ok := c.Tensor(e.Name)
		q, quantized, err := c.NF4(e.Name)
		switch {
		case !ok:
			r.Missing = append(r.Missing, e)
			continue
		case err != nil:
			r.Broken = append(r.Broken, err.Error())
			continue
		case quantized:
			r.NF4 = append(r.NF4, e.Name)
			for _, suffix := range nf4Suffixes() {
				known[e.Name+suffix] = true
			}
			if !slices.Equal(q.Shape(), e.Shape) {
				r.WrongShape = append(r.WrongShape, Mismatch{t.Name, t.File, t.DType, q.Shape(), e.Shape})
			}
			continue
		case !slices.Equal(t.Shape, e.Shape) && t.DType.IsWeight(): // the shape of packed numbers says nothing
			r.WrongShape = append(r.WrongShape, Mismatch{t.Name, t.File, t.DType, t.Shape, e.Shape})
		}
		if !t.IsWeight() {
			r.WrongDType = append(r.WrongDType, Mismatch{t.Name, t.File, t.DType, t.Shape, e.Shape})
		}
	}
	for _, name := range c.Names() {
		if !known[name] {
			r.Unexpected = append(r.Unexpected, name)
		}
	}
	sort.Slice(r.Missing, func(i, j int) bool { return r.Missing[i].Name < r.Missing[j].Name })
	sort.Strings(r.Broken)
	sort.Strings(r.NF4)
	for _, list := range [][]Mismatch{r.WrongShape, r.WrongDType} {
		sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	}
	return r
}

// OK reports whether the network can be loaded. Unexpected tensors do not matter for that.
func (r Report) OK() bool {
	return len(r.Missing) == 0 && len(r.WrongShape) == 0 && len(r.WrongDType) == 0 && len(r.Broken) == 0
}

// Err is nil when the network can be loaded; else one line that names the file and the first tensor at fault, and
// counts the others.
func (r Report) Err() error {
	if r.OK() {
		return nil
	}
	others := len(r.Missing) + len(r.WrongShape) + len(r.WrongDType) + len(r.Broken) - 1
	more := ""
	if others > 0 {
		more = fmt.Sprintf(" (and %d more; see \"vkandinsky inspect\")", others)
	}
	switch {
	case len(r.Broken) > 0:
		return errors.New(r.Broken[0] + more)
	case len(r.WrongShape) > 0:
		m := r.WrongShape[0]
		return fmt.Errorf("weights: %s: tensor %q has shape %v, want %v%s", m.File, m.Name, m.Shape, m.Want, more)
	case len(r.WrongDType) > 0:
		m := r.WrongDType[0]
		return fmt.Errorf("weights: %s: tensor %q is %s, want %s%s%s", m.File, m.Name, m.DType, weightTypes, quantisedHint(m.Name), more)
	}
	return fmt.Errorf("weights: %s: tensor %q is missing%s", r.Path, r.Missing[0].Name, more)
}

// quantisedHint explains the usual reason for an integer weight.
func quantisedHint(name string) string {
	if strings.HasSuffix(name, ".weight") {
		return ": a quantised checkpoint of an unknown kind, use the original one"
	}
	return ""
}
