package vk

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	mmap "github.com/edsrzf/mmap-go"
	vulkan "github.com/vulkan-go/vulkan"
)

// Buffer is a buffer bound to the whole of one memory allocation, usable as storage buffer and as source and
// destination of copies, shared by all queue families of the device.
type Buffer struct {
	Size int64 // bytes
	Type int   // index of its memory type
	// Mapped is the allocation's host view, nil where it is not host-visible. It stays valid until Destroy.
	Mapped []byte

	device *Device
	handle vulkan.Buffer
	memory vulkan.DeviceMemory
	host   mmap.MMap // of NewImportedBuffer, given back last
}

// NewBuffer allocates memory of a type and binds a buffer to all of it. Host-visible memory is mapped. Errors wrap
// ErrOutOfDeviceMemory or ErrOutOfHostMemory.
func (d *Device) NewBuffer(memoryType int, size int64, name string) (*Buffer, error) {
	return d.newBuffer(memoryType, size, name, nil)
}

// NewImportedBuffer is NewBuffer with memory that the process takes from the system, in huge pages where there are such, and
// the driver imports (VK_EXT_external_memory_host). choose picks a memory type from the bit set of those that it can be.
func (d *Device) NewImportedBuffer(choose func(types uint32) (int, error), size int64, name string) (*Buffer, error) {
	host, err := mapPages(size, d.Physical.Limits.ImportAlign)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b, err := d.importPages(choose, host, size, name)
	if err != nil {
		_ = host.Unmap() // the first error is the one to tell
		return nil, err
	}
	b.host = host
	return b, nil
}

func (d *Device) importPages(choose func(types uint32) (int, error), host mmap.MMap, size int64, name string) (*Buffer, error) {
	bits, err := d.ImportTypes(host)
	if err != nil {
		return nil, err
	}
	memoryType, err := choose(bits)
	if err != nil {
		return nil, err
	}
	return d.newBuffer(memoryType, size, name, host)
}

// ImportBuffer makes a buffer over host memory that the caller owns (VK_EXT_external_memory_host). Address and size
// must be multiples of Limits.ImportAlign, and the memory must outlive the buffer and not be moved (not Go memory).
func (d *Device) ImportBuffer(memoryType int, host []byte, name string) (*Buffer, error) {
	return d.newBuffer(memoryType, int64(len(host)), name, host)
}

// ImportTypes returns the bit set of memory types that host memory at this address can be imported as.
func (d *Device) ImportTypes(host []byte) (uint32, error) {
	var bits C.uint32_t
	err := checkCode("vkGetMemoryHostPointerPropertiesEXT", int32(C.shim_import_alignment(d.shim, unsafe.Pointer(&host[0]), &bits)))
	return uint32(bits), err
}

func (d *Device) newBuffer(memoryType int, size int64, name string, host []byte) (*Buffer, error) {
	b := &Buffer{Size: size, Type: memoryType, device: d}
	families := d.families()
	info := vulkan.BufferCreateInfo{SType: vulkan.StructureTypeBufferCreateInfo, Size: vulkan.DeviceSize(size), Usage: 0x20 | 1 | 2}
	if len(families) > 1 {
		info.SharingMode, info.QueueFamilyIndexCount, info.PQueueFamilyIndices = vulkan.SharingModeConcurrent, uint32(len(families)), families
	}
	if host != nil {
		external := C.shim_external_buffer_chain()
		defer C.shim_free(external)
		info.PNext = external
	}
	var handle vulkan.Buffer
	err := check("vkCreateBuffer", vulkan.CreateBuffer(d.handle, &info, nil, &handle))
	b.handle = handle
	info.Free()
	if err != nil {
		return nil, err
	}
	if err := b.bind(host); err != nil {
		vulkan.DestroyBuffer(d.handle, b.handle, nil)
		return nil, err
	}
	d.name(9, unsafe.Pointer(b.handle), name)
	d.count("buffers", 1)
	return b, nil
}

func (b *Buffer) bind(host []byte) error {
	d := b.device
	if err := d.faults.allocate(); err != nil {
		return err
	}
	alloc := vulkan.MemoryAllocateInfo{SType: vulkan.StructureTypeMemoryAllocateInfo, AllocationSize: vulkan.DeviceSize(b.Size), MemoryTypeIndex: uint32(b.Type)}
	if host != nil {
		chain := C.shim_import_chain(unsafe.Pointer(&host[0]))
		defer C.shim_free(chain)
		alloc.PNext, alloc.AllocationSize = chain, vulkan.DeviceSize(len(host))
	} else {
		var req vulkan.MemoryRequirements
		vulkan.GetBufferMemoryRequirements(d.handle, b.handle, &req)
		req.Deref()
		alloc.AllocationSize = req.Size
	}
	var handle vulkan.DeviceMemory
	err := check("vkAllocateMemory", vulkan.AllocateMemory(d.handle, &alloc, nil, &handle))
	b.memory = handle
	alloc.Free()
	if err != nil {
		return err
	}
	err = check("vkBindBufferMemory", vulkan.BindBufferMemory(d.handle, b.handle, b.memory, 0))
	if err == nil && d.Physical.Types[b.Type].HostVisible {
		var p unsafe.Pointer
		if err = check("vkMapMemory", vulkan.MapMemory(d.handle, b.memory, 0, vulkan.DeviceSize(vulkan.WholeSize), 0, &p)); err == nil {
			b.Mapped = unsafe.Slice((*byte)(p), b.Size)
		}
	}
	if err != nil {
		vulkan.FreeMemory(d.handle, b.memory, nil)
	}
	return err
}

// Destroy frees the buffer and its memory. The device must have finished with it.
func (b *Buffer) Destroy() {
	if b.handle == nil {
		return
	}
	vulkan.DestroyBuffer(b.device.handle, b.handle, nil)
	vulkan.FreeMemory(b.device.handle, b.memory, nil)
	b.device.count("buffers", -1)
	b.handle, b.Mapped = nil, nil
	if b.host != nil {
		_ = b.host.Unmap() // of a mapping that is there it cannot fail
		b.host = nil
	}
}

// families are the distinct families of the device's queues.
func (d *Device) families() []uint32 {
	seen := map[int]bool{}
	var out []uint32
	for key := range d.queues {
		if !seen[key[0]] {
			seen[key[0]] = true
			out = append(out, uint32(key[0]))
		}
	}
	return out
}
