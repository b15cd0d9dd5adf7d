package load

import (
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// alike is a Reader for blocks that must have one layout though a quantised checkpoint may store the same tensor in
// different types, such as a few blocks in more bits: those tensors count as fp32, which every precision has a type for.
type alike struct {
	Reader
	prefixes []string
	mixed    map[string]bool // names without prefix
}

// newAlike finds the tensors whose types differ. Tensors that are missing are left to the reader of the layout.
func newAlike(spec weights.Spec, prefixes []string, r Reader) alike {
	a := alike{Reader: r, prefixes: prefixes, mixed: map[string]bool{}}
	types := map[string]weights.DType{}
	for _, e := range spec {
		name, ok := a.inBlock(e.Name)
		if !ok {
			continue
		}
		stored, err := r.DType(e.Name)
		if err != nil {
			continue
		}
		if first, seen := types[name]; seen && first != stored {
			a.mixed[name] = true
		}
		types[name] = stored
	}
	return a
}

func (a alike) inBlock(name string) (string, bool) {
	for _, prefix := range a.prefixes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest, true
		}
	}
	return "", false
}

// DType implements Reader.
func (a alike) DType(name string) (weights.DType, error) {
	if rest, ok := a.inBlock(name); ok && a.mixed[rest] {
		return weights.F32, nil
	}
	return a.Reader.DType(name)
}
