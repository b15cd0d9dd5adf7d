package lora

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Adapter is an open adapter file, checked against the network that it is for.
type Adapter struct {
	path    string
	file    *weights.File
	changes map[string]change // by the name of the tensor that is changed
	trigger string
	source  string // what said the scale
}

// change is what an adapter does to a matrix.
type change struct {
	down, up weights.Tensor // A [rank, in], B [out, rank]
	scale    float64        // of B·A, without the user's weight
}

func (c change) rank() int { return c.down.Shape[0] }

// maxTrigger bounds the text that a file puts before every prompt, in bytes.
const maxTrigger = 2000

// maxListed is how many names an error lists.
const maxListed = 8

// Open reads an adapter for a network. Everything is checked: errors are one line and name the file, and the tensor where
// one is at fault.
func Open(path string, spec weights.Spec) (*Adapter, error) {
	file, err := weights.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lora: %w", err)
	}
	beside, err := configBeside(path)
	if err != nil {
		return nil, oneline.Join(fmt.Errorf("lora: %s: %w", path, err), file.Close())
	}
	a, err := newAdapter(file, beside, spec)
	if err != nil {
		return nil, oneline.Join(fmt.Errorf("lora: %s: %w", path, err), file.Close())
	}
	return a, nil
}

// newAdapter checks an open file. Errors do not name it.
func newAdapter(file *weights.File, beside *scaling, spec weights.Spec) (*Adapter, error) {
	found, err := collect(file, newModules(spec))
	if err != nil {
		return nil, err
	}
	root, err := truth(file, rsLoRAFlag)
	if err != nil {
		return nil, err
	}
	scales, err := scalingOf(file.Metadata(), beside)
	if err != nil {
		return nil, err
	}
	a := &Adapter{path: file.Path(), file: file, changes: map[string]change{}, trigger: file.Metadata()["trigger"], source: scales.from}
	if len(a.trigger) > maxTrigger {
		return nil, fmt.Errorf("a trigger of %d bytes is longer than %d: the file is damaged", len(a.trigger), maxTrigger)
	}
	for _, module := range slices.Sorted(maps.Keys(found)) {
		found[module].root = root
		c, err := found[module].change(module, scales)
		if err != nil {
			return nil, err
		}
		if found[module].tensors[alpha] != nil {
			a.source = "its alpha tensors"
		}
		a.changes[module+".weight"] = c
	}
	return a, nil
}

// parts are the tensors that a file has for a module.
type parts struct {
	shape   []int // of the module's matrix, [out, in]
	root    bool  // its alpha is over √rank
	tensors [roles]*weights.Tensor
}

// collect sorts a file's tensors by module.
func collect(file *weights.File, known modules) (map[string]*parts, error) {
	found := map[string]*parts{}
	var strangers []string
	if dora, err := truth(file, doRAFlag); err != nil {
		return nil, err
	} else if dora {
		return nil, otherKind(doRAFlag, "DoRA")
	}
	for _, key := range file.Names() {
		if key == rsLoRAFlag || key == doRAFlag {
			continue
		}
		module, role, ok := known.find(key)
		if !ok {
			if kind := kindOf(key); kind != "" {
				return nil, otherKind(key, kind)
			}
			strangers = append(strangers, fmt.Sprintf("%.200q", key))
			continue
		}
		t, _ := file.Tensor(key)
		p := found[module]
		if p == nil {
			p = &parts{shape: known.shapes[module]}
			found[module] = p
		}
		if other := p.tensors[role]; other != nil {
			return nil, fmt.Errorf("tensors %q and %q are both for %s: keep one of them", other.Name, key, module)
		}
		p.tensors[role] = &t
	}
	switch {
	case len(strangers) > 0:
		return nil, fmt.Errorf("%s in this transformer: is the adapter for another model?", listed(strangers))
	case len(found) == 0:
		return nil, fmt.Errorf("no tensor is part of a LoRA (MODULE.lora_A.weight and MODULE.lora_B.weight)")
	}
	return found, nil
}

// otherKind refuses an adapter that is more than a plain LoRA: leaving a part of it out would give other pictures.
func otherKind(key, kind string) error {
	return fmt.Errorf("tensor %.200q makes it an adapter of the kind %s: only plain LoRA adapters can be applied", key, kind)
}

func listed(names []string) string {
	text, verb := "tensors", "match"
	if len(names) == 1 {
		text, verb = "tensor", "matches"
	}
	more := ""
	if n := len(names) - maxListed; n > 0 {
		names, more = names[:maxListed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s %s%s %s nothing", text, strings.Join(names, ", "), more, verb)
}

// change checks the tensors of a module. Errors name the tensor.
func (p *parts) change(module string, s scaling) (c change, err error) {
	a, b := p.tensors[down], p.tensors[up]
	switch {
	case a == nil && b == nil:
		return c, fmt.Errorf("tensor %q has no lora_A and lora_B beside it", p.tensors[alpha].Name)
	case a == nil:
		return c, fmt.Errorf("tensor %q has no lora_A (lora_down) beside it", b.Name)
	case b == nil:
		return c, fmt.Errorf("tensor %q has no lora_B (lora_up) beside it", a.Name)
	case len(a.Shape) != 2 || a.Shape[0] < 1 || a.Shape[1] != p.shape[1]:
		return c, fmt.Errorf("tensor %q has shape %v, want [rank, %d]: is the adapter for another model?", a.Name, a.Shape, p.shape[1])
	case len(b.Shape) != 2 || b.Shape[0] != p.shape[0] || b.Shape[1] != a.Shape[0]:
		return c, fmt.Errorf("tensor %q has shape %v, want [%d, %d]: is the adapter for another model?", b.Name, b.Shape, p.shape[0], a.Shape[0])
	}
	for _, t := range p.tensors {
		if t == nil {
			continue
		}
		if !t.DType.IsWeight() && t != p.tensors[alpha] {
			return c, fmt.Errorf("tensor %q is %s, want F32, F16 or BF16", t.Name, t.DType)
		}
		if !t.DType.IsWeight() {
			continue // scale reads it
		} else if err := t.CheckFinite(); errors.Is(err, weights.ErrNotFinite) {
			return c, fmt.Errorf("tensor %q has values that are %w", t.Name, weights.ErrNotFinite)
		} else if err != nil {
			return c, err
		}
	}
	c = change{down: *a, up: *b}
	c.scale, err = p.scale(module, c.rank(), s)
	return c, err
}

// ranks returns the smallest and the largest rank.
func (a *Adapter) ranks() (least, most int) {
	least = math.MaxInt
	for _, c := range a.changes {
		least, most = min(least, c.rank()), max(most, c.rank())
	}
	return least, most
}

// scales returns the smallest and the largest scale.
func (a *Adapter) scales() (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, c := range a.changes {
		least, most = min(least, c.scale), max(most, c.scale)
	}
	return least, most
}

// Name returns the file's name without its folder.
func (a *Adapter) Name() string { return filepath.Base(a.path) }

// Close unmaps the file.
func (a *Adapter) Close() error { return a.file.Close() }
