package memory

import "sync"

// Arena is a set of regions of one stage of the pipeline, given back together.
type Arena struct {
	Label string
	alloc *Allocator

	mu      sync.Mutex
	regions []Region
}

// NewArena makes an empty arena. Labels of its regions are prefixed with the arena's label.
func (a *Allocator) NewArena(label string) *Arena { return &Arena{Label: label, alloc: a} }

// Alloc takes a region of a kind.
func (r *Arena) Alloc(kind Kind, size int64, label string) (Region, error) {
	region, err := r.alloc.Alloc(kind, size, r.Label+": "+label)
	if err != nil {
		return Region{}, err
	}
	r.mu.Lock()
	r.regions = append(r.regions, region)
	r.mu.Unlock()
	return region, nil
}

// Release frees all regions, last first. The GPU must have finished with them. It may be called again.
func (r *Arena) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := len(r.regions) - 1; k >= 0; k-- {
		r.alloc.Free(r.regions[k])
	}
	r.regions = nil
}
