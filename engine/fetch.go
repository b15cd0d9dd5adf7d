package engine

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Fetch is pinned memory through which results reach the host while the device goes on: one at a time is started and
// taken. Its owner frees it before the device is closed. It is not safe for concurrent use: it records on the compute
// stream.
type Fetch struct {
	dev    *Device
	region memory.Region
	size   int64  // bytes of what was started last
	value  uint64 // of the stream's timeline, when it is there
}

// NewFetch takes pinned memory for results of at most so many bytes. label names the owner.
func (d *Device) NewFetch(bytes int64, label string) (*Fetch, error) {
	region, err := d.AllocRegion(memory.Readback, bytes, label)
	if err != nil {
		return nil, err
	}
	return &Fetch{dev: d, region: region}, nil
}

// Holds tells whether a result of so many bytes can be taken; never for the nil Fetch.
func (r *Fetch) Holds(bytes int64) bool { return r != nil && bytes <= r.region.Size }

// Start records the copy of a tensor and submits it with all that was recorded before. What was started before must have
// been taken. A tensor that the memory does not hold is a programmer's error and panics.
func (r *Fetch) Start(t Tensor) (err error) {
	if !r.Holds(t.Bytes()) {
		panic(fmt.Sprintf("engine: %v does not fit into a fetch of %d bytes", t, r.region.Size))
	}
	s := r.dev.compute
	r.size = t.Bytes()
	s.CopyRange(vk.Range{Buffer: r.region.Buffer, Offset: r.region.Offset, Size: r.size},
		vk.Range{Buffer: t.Mem.Buffer, Offset: t.Mem.Offset + t.Offset, Size: r.size})
	s.hostRead()
	r.value, err = s.Flush()
	return err
}

// Take waits for the copy and returns its bytes, which the next Start overwrites.
func (r *Fetch) Take(ctx context.Context) ([]byte, error) {
	if err := r.dev.compute.WaitValue(ctx, r.value); err != nil {
		return nil, err
	}
	if r.dev.Rehearsing() {
		return make([]byte, r.size), nil
	}
	return r.region.Bytes()[:r.size], nil
}

// Free gives the memory back once the device has passed what was recorded. The nil Fetch has none.
func (r *Fetch) Free() {
	if r != nil {
		r.dev.FreeRegion(r.region)
		r.region = memory.Region{}
	}
}
