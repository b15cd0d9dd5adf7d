package engine

import (
	"fmt"

	mmap "github.com/edsrzf/mmap-go"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// HostKind is a kind of host memory that queues copy from and to. They differ in what the bus carries.
type HostKind string

// Kinds of host memory.
const (
	HostCached        HostKind = "cached"
	HostWriteCombined HostKind = "write-combined"
	HostImported      HostKind = "imported" // memory of the process, pinned afterwards (VK_EXT_external_memory_host)
)

// HostKinds returns the kinds that the device offers apart from its own memory.
func (d *Device) HostKinds() []HostKind {
	var kinds []HostKind
	for _, k := range []HostKind{HostCached, HostWriteCombined} {
		if d.hostType(k) >= 0 {
			kinds = append(kinds, k)
		}
	}
	if d.Summary.Physical.Limits.ImportAlign > 0 {
		kinds = append(kinds, HostImported)
	}
	return kinds
}

// hostType returns the first memory type of a kind, −1 for none. On devices that share the host's memory types are device
// local too.
func (d *Device) hostType(kind HostKind) int {
	types := d.Summary.Physical.Types
	own := types[d.Mem.Type(memory.Device)].Heap
	for k, t := range types {
		elsewhere := t.Heap != own || types[d.Mem.Type(memory.Upload)].Heap == own
		if t.HostVisible && t.Coherent && t.Cached == (kind == HostCached) && elsewhere {
			return k
		}
	}
	return -1
}

// HostBuffer is pinned memory of one kind. It is in no budget: it is for measuring the bus.
type HostBuffer struct {
	Kind    HostKind
	buffer  *vk.Buffer
	mapping mmap.MMap // imported memory
}

// NewHostBuffer takes memory of a kind that HostKinds lists. Errors are the driver's.
func (d *Device) NewHostBuffer(kind HostKind, size int64) (*HostBuffer, error) {
	b := &HostBuffer{Kind: kind}
	name := fmt.Sprintf("%s host memory", kind)
	var err error
	if kind != HostImported {
		k := d.hostType(kind)
		if k < 0 {
			return nil, fmt.Errorf("the device has no %s host memory", kind)
		}
		b.buffer, err = d.vk.NewBuffer(k, size, name)
		return b, err
	}
	align := max(d.Summary.Physical.Limits.ImportAlign, 4096)
	if b.mapping, err = mmap.MapRegion(nil, int((size+align-1)/align*align), mmap.RDWR, mmap.ANON, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for k := 0; k < len(b.mapping); k += 4096 { // so that there are pages to pin
		b.mapping[k] = 1
	}
	if b.buffer, err = d.importBuffer(b.mapping, name); err != nil {
		_ = b.mapping.Unmap() // the first error is the one to tell
		return nil, err
	}
	return b, nil
}

// importBuffer makes a buffer over memory of the process.
func (d *Device) importBuffer(host []byte, name string) (*vk.Buffer, error) {
	bits, err := d.vk.ImportTypes(host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for k, t := range d.Summary.Physical.Types {
		if bits>>k&1 != 0 && t.HostVisible {
			return d.vk.ImportBuffer(k, host, name)
		}
	}
	return nil, fmt.Errorf("%s: the driver imports it as no memory type that the host sees", name)
}

// Range returns the first bytes of the buffer.
func (b *HostBuffer) Range(size int64) vk.Range {
	return vk.Range{Buffer: b.buffer, Size: size}
}

// Bytes returns the host's view.
func (b *HostBuffer) Bytes() []byte {
	if b.mapping != nil {
		return b.mapping
	}
	return b.buffer.Mapped
}

// Free gives the memory back. The GPU must have finished with it.
func (b *HostBuffer) Free() error {
	b.buffer.Destroy()
	if b.mapping != nil {
		return b.mapping.Unmap()
	}
	return nil
}

// MemoryRange returns the range of the device memory that a tensor lies in, for copies to and from a HostBuffer.
func MemoryRange(t Tensor) vk.Range { return regionRange(t) }
