package engine

import (
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Heaps is how much there is of the memory that a device's budgets are made of, in bytes.
type Heaps struct {
	DeviceSize, DeviceFree int64 // of the heap that device memory comes from
	HostSize, HostFree     int64 // of the heap that pinned memory comes from
	// Unified says that both are the machine's memory, as with integrated GPUs: what one takes the other has not.
	Unified bool
	Same    bool  // it is one heap, which is counted once
	RAM     int64 // that the machine has free; 0: unknown
	Bounded bool  // pinned memory has a heap of its own, that may run out
}

// heaps asks the driver and the system.
func (d *Device) heaps() Heaps {
	p, h := d.Summary.Physical, Heaps{}
	device, err1 := memory.ChooseType(p.Types, memory.Device)
	host, err2 := memory.ChooseType(p.Types, memory.Upload)
	if err1 != nil || err2 != nil {
		return h // making the allocator fails, and says what is missing
	}
	h.DeviceSize, h.DeviceFree, _ = heapFree(p, p.Types[device].Heap)
	h.HostSize, h.HostFree, _ = heapFree(p, p.Types[host].Heap)
	h.Same, h.Unified = p.Types[device].Heap == p.Types[host].Heap, isUnified(p, p.Types[device], p.Types[host])
	h.Bounded = !p.Types[host].DeviceLocal
	if h.Unified {
		h.RAM, _ = hostmem.Available()
	}
	if f := d.opts.Limits.Heaps; f != nil {
		h = f(h)
	}
	return h
}

// isUnified says whether device and host memory are the same. Software devices have all memory in one heap too; there it is the
// user who says how much counts as a device's, as a rehearsal for a device that has its own.
func isUnified(p *vk.PhysicalDevice, device, host vk.MemoryType) bool {
	switch p.Info.Kind {
	case "cpu":
		return false
	case "integrated gpu":
		return true
	}
	return device.Heap == host.Heap
}

// Shares of unified memory that are pinned: enough for a ring of blocks and what is uploaded, no more, because a block that waits
// there takes as much as one that is ready for use.
const (
	unifiedPart = 4
	unifiedMost = 4 << 30
)

// margin is what a budget leaves of what is free, for what drivers and desktops take later: 5 %, at least 256 MiB, at most a
// quarter.
func margin(free int64) int64 { return max(free/20, min(free/4, 256<<20)) }

// budgets returns those for device memory and for pinned memory, 0 for none; what was asked for (not 0) is taken. The device's
// is what is free less a margin, that of pinned memory what is free of its heap, at most 80 %: overrunning it loses the
// device on some drivers. Unified memory is shared out: both together are what is free, of the heaps and of the machine, less the margin.
func (h Heaps) budgets(device, host int64) (int64, int64) {
	if h.Unified {
		return h.shareOut(device, host)
	}
	if device == 0 && h.DeviceSize > 0 {
		device = h.DeviceFree - margin(h.DeviceFree)
	}
	if host == 0 && h.Bounded {
		host = min(h.HostFree, h.HostSize*8/10)
	}
	return device, host
}

func (h Heaps) shareOut(device, host int64) (int64, int64) {
	free := h.free()
	all := max(free-margin(free), 2)
	if host == 0 {
		if host = min(all/unifiedPart, unifiedMost); device > 0 {
			host = max(host, all-device) // what the device was not given
		}
		host = min(host, h.HostFree)
	}
	if device == 0 {
		device = max(min(all-host, h.DeviceFree-margin(h.DeviceFree)), 1)
	}
	return device, host
}

// free is what is left of unified memory for both.
func (h Heaps) free() int64 {
	free := h.DeviceFree
	if !h.Same {
		free += h.HostFree
	}
	if h.RAM > 0 {
		free = min(free, h.RAM-h.RAM/8)
	}
	return free
}
