package load

import (
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Item is a part of the device memory that a stage of the pipeline needs.
type Item struct {
	Label string `json:"label"`
	Bytes int64  `json:"bytes"`
	When  string `json:"when"` // step of the stage in which it is there
}

// Need collects what a stage has on the device at one time.
type Need struct {
	Cut memory.Cut // how the allocator cuts memory
	// Staging is the pinned memory through which a group of weights is read at a time, where there is enough; in bytes.
	Staging int64
	items   []Item
	sizes   []int64
}

// Add counts regions of so many bytes each.
func (n *Need) Add(when, label string, count int, bytes int64) {
	if count == 0 || bytes == 0 {
		return
	}
	n.items = append(n.items, Item{Label: label, Bytes: int64(count) * bytes, When: when})
	for range count {
		n.sizes = append(n.sizes, bytes)
	}
}

// AddBuffers counts tensors.
func (n *Need) AddBuffers(when string, buffers ...Buffer) {
	for _, b := range buffers {
		n.Add(when, b.Label, 1, b.Bytes())
	}
}

// AddResident counts a group that Resident brings to the device, which stays.
func (n *Need) AddResident(label string, g Group) {
	n.Add("always", label, 1, g.Bytes)
	n.Staging = max(n.Staging, g.StagingBytes())
}

// After returns the need of a stage that begins when something is on the device already.
func (n *Need) After(held *Need) *Need {
	return &Need{Cut: n.Cut, Staging: n.Staging, items: append(slices.Clone(held.items), n.items...), sizes: append(slices.Clone(held.sizes), n.sizes...)}
}

// Bytes returns the device memory taken, in whole chunks of the allocator.
func (n *Need) Bytes() int64 { return n.Cut.Footprint(n.sizes...) }

// Items lists all that was counted, and what chunks that small regions share hold besides; together they are Bytes.
func (n *Need) Items() []Item {
	rest := n.Bytes()
	for _, i := range n.items {
		rest -= i.Bytes
	}
	if rest == 0 {
		return n.items
	}
	return append(n.items[:len(n.items):len(n.items)], Item{Label: "unused part of shared chunks", Bytes: rest, When: "always"})
}

// Largest returns the need that takes the most memory, with the most that any of them stages: the peak of a stage whose steps
// follow each other.
func Largest(needs ...*Need) *Need {
	best, staging := needs[0], needs[0].Staging
	for _, n := range needs[1:] {
		if staging = max(staging, n.Staging); n.Bytes() > best.Bytes() {
			best = n
		}
	}
	all := *best
	all.Staging = staging
	return &all
}

// Buffer is a tensor to be allocated. Lists of them are what plans count and stages allocate.
type Buffer struct {
	Label string
	DType engine.DType
	Shape []int
}

// Bytes returns the tensor's size.
func (b Buffer) Bytes() int64 { return elements(b.Shape) * b.DType.Size() }

// Alloc takes the tensor from an arena; the zero one after an error of the arena.
func (b Buffer) Alloc(a *engine.Arena) engine.Tensor { return a.Alloc(b.Label, b.DType, b.Shape...) }
