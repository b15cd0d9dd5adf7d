package engine

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Readback is pinned host memory that a stream copies a tensor to as a part of its work: a tensor that changes over and
// over is looked at without a submit and a wait of its own, as Device.Download needs. Whoever makes it frees it. One
// goroutine at a time.
type Readback struct {
	device *Device
	region memory.Region
	size   int64
	filled int64 // bytes of the last copy
}

// NewReadback makes room for tensors of up to size bytes; label names its owner in reports.
func (d *Device) NewReadback(label string, size int64) (*Readback, error) {
	region, err := d.AllocRegion(memory.Readback, size, label)
	if err != nil {
		return nil, err
	}
	return &Readback{device: d, region: region, size: size}, nil
}

// Record lets the stream copy a tensor after what it has recorded. Bytes are the tensor's when the stream has passed that
// point, which Stream.Finish waits for; until the copy, they stay what they were.
func (r *Readback) Record(s *Stream, t Tensor) {
	n := t.Bytes()
	if n > r.size {
		panic(fmt.Sprintf("engine: %v does not fit a readback of %d bytes", t, r.size))
	}
	r.filled = n
	if n == 0 {
		return
	}
	s.CopyRange(vk.Range{Buffer: r.region.Buffer, Offset: r.region.Offset, Size: n}, vk.Range{Buffer: t.Mem.Buffer, Offset: t.Mem.Offset + t.Offset, Size: n})
	s.hostRead()
}

// Bytes is a view of the last tensor's bytes, row-major, in the tensor's type, little-endian. The next Record's copy
// changes them.
func (r *Readback) Bytes() []byte {
	if r.device.Rehearsing() {
		return make([]byte, r.filled)
	}
	return r.region.Bytes()[:r.filled:r.filled]
}

// Free gives the memory back; nil, and a second call, do nothing.
func (r *Readback) Free() {
	if r == nil || r.region.IsZero() {
		return
	}
	r.device.FreeRegion(r.region)
	r.region = memory.Region{}
}
