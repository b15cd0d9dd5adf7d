package receipt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind is what a difference is about, in the order in which a run comes to them.
type Kind string

// Kinds of differences.
const (
	KindSetting Kind = "setting"
	KindPicture Kind = "picture"
	KindWeights Kind = "weights"
	KindText    Kind = "text embedding"
	KindFrame   Kind = "first frame"
	KindNoise   Kind = "noise"
	KindStep    Kind = "step"
	KindFinal   Kind = "final latent"
	KindTiles   Kind = "decode tiles"
	KindOutput  Kind = "output"
	KindNote    Kind = "note" // cannot by itself make clips differ, or explains why they do
)

// Difference is one thing that is not alike. A and B are what the receipts say, shortened where it is long; empty where
// a receipt says nothing.
type Difference struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	Step int    `json:"step,omitempty"` // from 1, of KindStep
	A    string `json:"a"`
	B    string `json:"b"`
}

// Comparison is what two receipts have not in common.
type Comparison struct {
	Same        bool         `json:"same"`  // nothing differs but notes
	First       *Difference  `json:"first"` // nil when they are the same
	Differences []Difference `json:"differences"`
	Notes       []Difference `json:"notes"`
	Causes      []Difference `json:"causes"`         // those of the notes that may be why what was computed differs
	Steps       int          `json:"steps_compared"` // latents that both receipts know
}

// Compare looks for what differs, in the order of a run: settings, picture, weights; then what was computed, of which the
// latents give the first step that differs alone, as all later ones follow from it; then the frames. Notes are what decides
// last bits (Rounding), how memory was held, where files lie, and the encoded file where its frames are alike. Where what was
// computed differs, causes are those of the notes that may be why.
func Compare(a, b *Receipt) Comparison {
	c := &comparer{Comparison: Comparison{Differences: []Difference{}, Notes: []Difference{}, Causes: []Difference{}}}
	c.settings(a, b)
	c.files(a, b)
	c.device(a, b)
	c.digests(&a.Digests, &b.Digests)
	if a.Digests.Frames != b.Digests.Frames && a.Plan.Tiles != b.Plan.Tiles {
		c.add(KindTiles, "decode_tiles", a.Plan.Tiles, b.Plan.Tiles)
	}
	c.equal(KindOutput, "frames", a.Digests.Frames, b.Digests.Frames)
	if a.Digests.Frames == b.Digests.Frames {
		c.known(KindNote, "encoded file (its frames are the same)", a.Output.SHA256, b.Output.SHA256)
	}
	if c.Same = len(c.Differences) == 0; !c.Same {
		c.First = &c.Differences[0]
	}
	if c.computed() {
		c.Causes = append(c.Causes, c.suspects...)
	}
	return c.Comparison
}

type comparer struct {
	Comparison
	suspects []Difference // of the notes, what decides last bits
}

func (c *comparer) add(kind Kind, name, a, b string) {
	d := Difference{Kind: kind, Name: name, A: short(a), B: short(b)}
	if kind == KindNote {
		c.Notes = append(c.Notes, d)
		return
	}
	c.Differences = append(c.Differences, d)
}

// equal adds a difference unless two values are the same.
func (c *comparer) equal(kind Kind, name, a, b string) {
	if a != b {
		c.add(kind, name, a, b)
	}
}

// known is equal for values that both receipts say.
func (c *comparer) known(kind Kind, name, a, b string) {
	if a != "" && b != "" {
		c.equal(kind, name, a, b)
	}
}

// settings compares what decides. Names of files are notes: what they hold is compared by its hash. The tier that was asked
// for counts only where it led to another.
func (c *comparer) settings(a, b *Receipt) {
	for k, p := range a.Settings.Pairs() {
		kind := KindSetting
		switch p.Name {
		case "config", "checkpoint_dir", "lora":
			kind = KindNote
		case "kernels":
			if a.Device.Kernels == b.Device.Kernels {
				kind = KindNote
			}
		}
		c.equal(kind, p.Name, p.Value, b.Settings.Pairs()[k].Value)
	}
	for k, p := range a.Memory.Pairs() {
		c.equal(KindNote, p.Name, p.Value, b.Memory.Pairs()[k].Value)
	}
}

func (c *comparer) files(a, b *Receipt) {
	var pa, pb Picture
	if a.Picture != nil {
		pa = *a.Picture
	}
	if b.Picture != nil {
		pb = *b.Picture
	}
	c.equal(KindPicture, "image", pa.SHA256, pb.SHA256)
	if pa.SHA256 == pb.SHA256 {
		c.equal(KindNote, "image", pa.Path, pb.Path)
	}
	c.Differences = append(c.Differences, CompareWeights(a.Weights, b.Weights)...)
}

// CompareWeights names the networks whose files differ, in the order of their names. How files are called is not compared.
func CompareWeights(a, b []Weights) []Difference {
	prints := [2]map[string]string{{}, {}}
	names := map[string]bool{}
	for k, list := range [][]Weights{a, b} {
		for _, w := range list {
			prints[k][w.Network] += w.SHA256
			names[w.Network] = true
		}
	}
	var out []Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if x, y := prints[0][name], prints[1][name]; x != y {
			out = append(out, Difference{Kind: KindWeights, Name: name, A: short(x), B: short(y)})
		}
	}
	return out
}

func (c *comparer) device(a, b *Receipt) {
	c.equal(KindNote, "program", a.Program, b.Program)
	c.equal(KindNote, "vulkan", a.Device.API, b.Device.API)
	c.rounding(a, b)
	c.variants(a.Device.Shaders, b.Device.Shaders)
}

// variants sums up which kernels differ in one note: there are hundreds.
func (c *comparer) variants(a, b map[string]string) {
	var onlyA, onlyB, changed []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if code, ok := b[name]; !ok {
			onlyA = append(onlyA, name)
		} else if code != a[name] {
			changed = append(changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[name]; !ok {
			onlyB = append(onlyB, name)
		}
	}
	if len(changed) > 0 {
		c.add(KindNote, "code of kernel variants "+some(changed), "one", "another")
		c.suspects = append(c.suspects, c.Notes[len(c.Notes)-1])
	}
	if len(onlyA)+len(onlyB) > 0 {
		c.add(KindNote, "kernel variants that only one used", some(onlyA), some(onlyB))
	}
}

// some names at most three.
func some(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func (c *comparer) digests(a, b *Digests) {
	for k := range min(len(a.Text), len(b.Text)) {
		name := [...]string{"prompt", "negative prompt"}[k]
		c.known(KindText, name, a.Text[k].Rows, b.Text[k].Rows)
		c.known(KindText, name+" (CLIP)", a.Text[k].Pooled, b.Text[k].Pooled)
	}
	c.known(KindFrame, "encoded picture", a.FirstFrame, b.FirstFrame)
	c.known(KindNoise, "noise", a.Noise, b.Noise)
	found := false
	for k := range min(len(a.Latents), len(b.Latents)) {
		x, y := a.Latents[k], b.Latents[k]
		if x == "" || y == "" {
			continue
		}
		c.Steps++
		if x != y && !found {
			found = true
			c.Differences = append(c.Differences, Difference{Kind: KindStep, Name: fmt.Sprintf("latent after step %d", k+1), Step: k + 1, A: short(x), B: short(y)})
		}
	}
	if !found {
		c.known(KindFinal, "latent that is decoded", a.Final, b.Final)
	}
}

// short keeps a value readable in one line: what is in the middle of a long one is left out where both ends tell enough.
func short(s string) string {
	const most = 240
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most/2]) + " … " + string(r[len(r)-most/2:])
}
