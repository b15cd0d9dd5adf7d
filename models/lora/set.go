package lora

import (
	"fmt"
	"math"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Source names an adapter's file and how strongly it acts: 1 as it was trained, 0 not at all, below 0 the other way.
type Source struct {
	Path   string
	Weight float64
}

// Applied tells what an adapter of a set does.
type Applied struct {
	Path     string     `json:"path"`
	Weight   float64    `json:"weight"`
	Matrices int        `json:"matrices"` // that it changes
	Ranks    [2]int     `json:"ranks"`    // smallest and largest
	Scales   [2]float64 `json:"scales"`   // of B·A, smallest and largest, without the weight
	ScaleBy  string     `json:"scale_by"` // what said the scale
	Trigger  string     `json:"trigger,omitempty"`
}

// Set is the adapters that are applied together. The zero value has none.
type Set struct {
	adapters []*Adapter
	weights  []float64
}

// OpenSet opens adapters for a network. Errors are those of Open; nothing stays open after one.
func OpenSet(sources []Source, spec weights.Spec) (*Set, error) {
	s := &Set{}
	for _, source := range sources {
		a, err := Open(source.Path, spec)
		if err != nil {
			return nil, oneline.Join(err, s.Close())
		}
		s.adapters, s.weights = append(s.adapters, a), append(s.weights, source.Weight)
		if least, most := a.scales(); !(math.Max(math.Abs(least), math.Abs(most))*math.Abs(source.Weight) <= maxGain) {
			return nil, oneline.Join(fmt.Errorf("lora: %s: weight %g times scale %g is no number up to %g", source.Path, source.Weight, most, maxGain), s.Close())
		}
	}
	return s, nil
}

// maxGain bounds weight·scale; what is of use is below 10.
const maxGain = 1e6

// Applied lists the adapters.
func (s *Set) Applied() []Applied {
	var out []Applied
	for k, a := range s.adapters {
		p := Applied{Path: a.path, Weight: s.weights[k], Matrices: len(a.changes), ScaleBy: a.source, Trigger: a.trigger}
		p.Ranks[0], p.Ranks[1] = a.ranks()
		p.Scales[0], p.Scales[1] = a.scales()
		out = append(out, p)
	}
	return out
}

// Files are the adapters' files, in their order. They are closed with the set.
func (s *Set) Files() []*weights.File {
	var out []*weights.File
	for _, a := range s.adapters {
		out = append(out, a.file)
	}
	return out
}

// Trigger returns the text that belongs before a prompt: the triggers of all adapters that act, each once, with nothing
// between them, as the reference does with its one (kandinsky-5, kandinsky/t2v_pipeline.py).
func (s *Set) Trigger() string {
	var out strings.Builder
	seen := map[string]bool{}
	for k, a := range s.adapters {
		if s.weights[k] != 0 && !seen[a.trigger] {
			seen[a.trigger] = true
			out.WriteString(a.trigger)
		}
	}
	return out.String()
}

// Reader returns a reader that gives what base gives, changed by the adapters. Tensors that no adapter changes come from
// base as they are. The set must stay open as long as it is used.
func (s *Set) Reader(base load.Reader) load.Reader {
	r := &reader{base: base, terms: map[string][]term{}}
	for k, a := range s.adapters {
		for name, c := range a.changes {
			if gain := float32(s.weights[k] * c.scale); gain != 0 {
				r.terms[name] = append(r.terms[name], term{a, c, gain})
			}
		}
	}
	if len(r.terms) == 0 {
		return base
	}
	return r
}

// Changes says whether an adapter changes a tensor.
func (s *Set) Changes(name string) bool {
	for k, a := range s.adapters {
		if c, ok := a.changes[name]; ok && float32(s.weights[k]*c.scale) != 0 {
			return true
		}
	}
	return false
}

// Close unmaps the adapters' files. A second call does nothing.
func (s *Set) Close() error {
	var errs []error
	for _, a := range s.adapters {
		errs = append(errs, a.Close())
	}
	s.adapters, s.weights = nil, nil
	return oneline.Join(errs...)
}
