package vk

import (
	"sync/atomic"

	vulkan "github.com/vulkan-go/vulkan"
)

// Faults makes the n-th call of a kind fail (counted from 1; 0 never), so that tests can walk through every failure
// that a driver may answer with. A submit that fails with device lost makes all later ones fail too, as on a real
// device. The zero value injects nothing.
type Faults struct {
	AllocateAt int64 // vkAllocateMemory answers out of device memory
	SubmitAt   int64 // vkQueueSubmit answers device lost

	allocations, submits atomic.Int64
}

// Allocations returns how many allocations were asked for, Submits how many submits: a test learns from a clean run
// how many failures there are to walk through.
func (f *Faults) Allocations() int64 { return f.allocations.Load() }

// Submits returns how many submits were asked for.
func (f *Faults) Submits() int64 { return f.submits.Load() }

func (f *Faults) allocate() error {
	if f == nil {
		return nil
	}
	if n := f.allocations.Add(1); n == f.AllocateAt {
		return &ResultError{Call: "vkAllocateMemory", Code: int32(vulkan.ErrorOutOfDeviceMemory)}
	}
	return nil
}

func (f *Faults) submit() error {
	if f == nil {
		return nil
	}
	if n := f.submits.Add(1); f.SubmitAt != 0 && n >= f.SubmitAt {
		return &ResultError{Call: "vkQueueSubmit", Code: int32(vulkan.ErrorDeviceLost)}
	}
	return nil
}
