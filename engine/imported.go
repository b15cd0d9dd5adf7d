package engine

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// PinnedFrom says where large pieces of pinned memory come from.
type PinnedFrom string

// Sources of pinned memory. The zero value imports where a driver can, and takes the driver's where an import fails.
const (
	PinnedAuto     PinnedFrom = ""
	PinnedDriver   PinnedFrom = "driver"   // the driver allocates it
	PinnedImported PinnedFrom = "imported" // the system gives it and the driver imports it (VK_EXT_external_memory_host)
)

// importFrom is the size from which pinned memory is imported: smaller pieces share chunks.
const importFrom = 16 << 20

// buffers is the source of the device's memory.
type buffers struct {
	*vk.Device
	device *Device
	from   int64 // bytes from which pinned memory is imported; 0: never
	must   bool  // an import that fails is an error

	imported atomic.Int64
	failed   atomic.Bool // for good
}

// newBuffers decides whether pinned memory is imported: by default not where it is the device's own memory, except on CPUs,
// whose memory is all one.
func newBuffers(d *Device) (*buffers, error) {
	p := d.Summary.Physical
	b := &buffers{Device: d.vk, device: d, must: d.opts.PinnedFrom == PinnedImported}
	t, err := memory.ChooseType(p.Types, memory.Upload)
	if err != nil {
		return nil, err
	}
	able := p.Limits.ImportAlign > 0
	switch d.opts.PinnedFrom {
	case PinnedDriver:
	case PinnedAuto:
		if able && (!p.Types[t].DeviceLocal || p.Info.Kind == "cpu") {
			b.from = importFrom
		}
	case PinnedImported:
		if !able {
			return nil, errors.New("the driver imports no host memory (VK_EXT_external_memory_host is not there)")
		}
		b.from = importFrom
	default:
		return nil, fmt.Errorf("unknown source of pinned memory %q: use %s or %s", d.opts.PinnedFrom, PinnedDriver, PinnedImported)
	}
	if b.from > 0 && d.opts.Limits.ImportFrom > 0 {
		b.from = d.opts.Limits.ImportFrom
	}
	return b, nil
}

// NewBuffer makes a buffer. Large ones for uploads are imported; where that fails the driver allocates.
func (b *buffers) NewBuffer(kind memory.Kind, memoryType int, size int64, name string) (*vk.Buffer, error) {
	if kind != memory.Upload || b.from == 0 || size < b.from || b.failed.Load() {
		return b.Device.NewBuffer(memoryType, size, name)
	}
	buffer, err := b.NewImportedBuffer(b.choose, size, name)
	if err == nil && b.device.opts.Limits.NoImport {
		buffer.Destroy()
		err = errors.New("importing fails on purpose")
	}
	switch {
	case err == nil:
		b.imported.Add(1)
		return buffer, nil
	case b.must:
		return nil, err
	}
	// Memory that is short now may be there later; what else a driver has against it, it will have again.
	short := errors.Is(err, vk.ErrOutOfHostMemory) || errors.Is(err, vk.ErrOutOfDeviceMemory)
	b.failed.Store(!short)
	b.device.log.Debug("pinned memory could not be imported, the driver allocates it", "name", name, "error", err)
	return b.Device.NewBuffer(memoryType, size, name)
}

// choose picks the best type for uploads of those that memory can be imported as.
func (b *buffers) choose(bits uint32) (int, error) {
	types := append([]vk.MemoryType(nil), b.device.Summary.Physical.Types...)
	for k := range types {
		if bits>>k&1 == 0 {
			types[k] = vk.MemoryType{}
		}
	}
	return memory.ChooseType(types, memory.Upload)
}

// Imported returns how many pieces of pinned memory were imported since the device was opened.
func (d *Device) Imported() int64 { return d.buffers.imported.Load() }
