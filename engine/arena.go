package engine

import (
	"sync"

	"github.com/vkandinsky/vkandinsky/memory"
)

// Arena holds the temporary tensors of one stage. Its error is sticky, so that a stage can allocate all it needs and
// ask once.
type Arena struct {
	Label  string
	device *Device

	mu      sync.Mutex
	regions []memory.Region
	err     error
}

// NewArena makes an empty arena; labels of its tensors begin with the arena's.
func (d *Device) NewArena(label string) *Arena { return &Arena{Label: label, device: d} }

// Alloc takes a tensor, the zero one after an error.
func (a *Arena) Alloc(label string, dt DType, shape ...int) Tensor {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return Tensor{}
	}
	t, err := a.device.Alloc(a.Label+": "+label, dt, shape...)
	if err != nil {
		a.err = err
		return Tensor{}
	}
	a.regions = append(a.regions, t.Mem)
	return t
}

// Err returns the first allocation's error.
func (a *Arena) Err() error { return a.err }

// Release gives all tensors back once the GPU has passed the work recorded so far. The arena can be used again.
func (a *Arena) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := len(a.regions) - 1; k >= 0; k-- {
		a.device.FreeRegion(a.regions[k])
	}
	a.regions, a.err = nil, nil
}
