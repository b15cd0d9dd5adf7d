package vk

// #include "shim.h"
import "C"

import (
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// Stage and access bits of a memory barrier (VkPipelineStageFlagBits, VkAccessFlagBits).
const (
	StageCompute  = 0x800
	StageTransfer = 0x1000
	StageAll      = 0x10000

	AccessShaderRead    = 0x20
	AccessShaderWrite   = 0x40
	AccessTransferRead  = 0x800
	AccessTransferWrite = 0x1000
	AccessHostRead      = 0x2000

	StageHost = 0x4000
)

// CommandPool makes command buffers for one queue family.
type CommandPool struct {
	device *Device
	handle vulkan.CommandPool
}

// CommandBuffer records commands for one submit at a time.
type CommandBuffer struct {
	device *Device
	handle vulkan.CommandBuffer
}

// NewCommandPool makes a pool for a queue family.
func (d *Device) NewCommandPool(family int) (*CommandPool, error) {
	p := &CommandPool{device: d}
	info := vulkan.CommandPoolCreateInfo{SType: vulkan.StructureTypeCommandPoolCreateInfo, Flags: 2 /* reset one by one */, QueueFamilyIndex: uint32(family)}
	var handle vulkan.CommandPool
	err := check("vkCreateCommandPool", vulkan.CreateCommandPool(d.handle, &info, nil, &handle))
	p.handle = handle
	info.Free()
	if err != nil {
		return nil, err
	}
	d.count("command pools", 1)
	return p, nil
}

// Destroy frees the pool and its command buffers, none of which may be running.
func (p *CommandPool) Destroy() {
	if p.handle != nil {
		vulkan.DestroyCommandPool(p.device.handle, p.handle, nil)
		p.device.count("command pools", -1)
		p.handle = nil
	}
}

// NewCommandBuffer makes a command buffer that lives as long as the pool.
func (p *CommandPool) NewCommandBuffer() (*CommandBuffer, error) {
	info := vulkan.CommandBufferAllocateInfo{SType: vulkan.StructureTypeCommandBufferAllocateInfo, CommandPool: p.handle, CommandBufferCount: 1}
	out := make([]vulkan.CommandBuffer, 1)
	err := check("vkAllocateCommandBuffers", vulkan.AllocateCommandBuffers(p.device.handle, &info, out))
	info.Free()
	if err != nil {
		return nil, err
	}
	return &CommandBuffer{device: p.device, handle: out[0]}, nil
}

func (c *CommandBuffer) pointer() unsafe.Pointer { return unsafe.Pointer(c.handle) }

// Begin starts recording for one submit, dropping what was recorded before.
func (c *CommandBuffer) Begin() error {
	return checkCode("vkBeginCommandBuffer", int32(C.shim_begin(c.device.shim, c.pointer())))
}

// End finishes recording.
func (c *CommandBuffer) End() error {
	return check("vkEndCommandBuffer", vulkan.EndCommandBuffer(c.handle))
}

// Barrier makes the writes of srcAccess in srcStage visible to dstAccess in dstStage, for all memory.
func (c *CommandBuffer) Barrier(srcStage, srcAccess, dstStage, dstAccess uint32) {
	C.shim_barrier(c.device.shim, c.pointer(), C.uint32_t(srcStage), C.uint32_t(srcAccess), C.uint32_t(dstStage), C.uint32_t(dstAccess))
}

// Copy copies size bytes between buffers.
func (c *CommandBuffer) Copy(dst *Buffer, dstOffset int64, src *Buffer, srcOffset, size int64) {
	C.shim_copy(c.device.shim, c.pointer(), unsafe.Pointer(src.handle), C.uint64_t(srcOffset), unsafe.Pointer(dst.handle), C.uint64_t(dstOffset), C.uint64_t(size))
}

// Fill writes a 32-bit word over size bytes; offset and size are multiples of 4.
func (c *CommandBuffer) Fill(dst *Buffer, offset, size int64, word uint32) {
	C.shim_fill(c.device.shim, c.pointer(), unsafe.Pointer(dst.handle), C.uint64_t(offset), C.uint64_t(size), C.uint32_t(word))
}

// Timestamp writes the device's clock into a query once all earlier commands have reached stage.
func (c *CommandBuffer) Timestamp(stage uint32, pool *QueryPool, query int) {
	C.shim_timestamp(c.device.shim, c.pointer(), C.uint32_t(stage), unsafe.Pointer(pool.handle), C.uint32_t(query))
}

// ResetQueries makes queries writable again.
func (c *CommandBuffer) ResetQueries(pool *QueryPool, first, count int) {
	C.shim_reset_queries(c.device.shim, c.pointer(), unsafe.Pointer(pool.handle), C.uint32_t(first), C.uint32_t(count))
}

// Range is a part of a buffer, in bytes.
type Range struct {
	Buffer       *Buffer
	Offset, Size int64
}

// MaxBindings is how many storage buffers a dispatch can bind.
const MaxBindings = C.SHIM_MAX_BINDINGS

// Dispatch records a dispatch: storage buffers at bindings 0, 1, …, push constants (at most 128 bytes) and the number
// of workgroups. set is a descriptor set of the pipeline's layout, or nil on a device with push descriptors.
func (c *CommandBuffer) Dispatch(p *Pipeline, set *DescriptorSet, bind []Range, push []byte, groups [3]uint32) {
	var d C.shim_dispatch
	for k, r := range bind {
		d.buffer[k] = unsafe.Pointer(r.Buffer.handle)
		d.offset[k], d._range[k] = C.uint64_t(r.Offset), C.uint64_t(r.Size)
	}
	d.count = C.uint32_t(len(bind))
	for k, b := range push {
		d.push[k] = C.uint8_t(b)
	}
	d.push_size = C.uint32_t(len(push))
	for k, g := range groups {
		d.groups[k] = C.uint32_t(g)
	}
	d.pipeline, d.layout = unsafe.Pointer(p.handle), unsafe.Pointer(p.layout)
	if set != nil {
		d.set = unsafe.Pointer(set.handle)
	}
	C.shim_record_dispatch(c.device.shim, c.pointer(), &d)
}

// QueryPool holds timestamps.
type QueryPool struct {
	device *Device
	handle vulkan.QueryPool
	Count  int
}

// NewQueryPool makes a pool of timestamp queries.
func (d *Device) NewQueryPool(count int) (*QueryPool, error) {
	q := &QueryPool{device: d, Count: count}
	info := vulkan.QueryPoolCreateInfo{SType: vulkan.StructureTypeQueryPoolCreateInfo, QueryType: vulkan.QueryTypeTimestamp, QueryCount: uint32(count)}
	var handle vulkan.QueryPool
	err := check("vkCreateQueryPool", vulkan.CreateQueryPool(d.handle, &info, nil, &handle))
	q.handle = handle
	info.Free()
	if err != nil {
		return nil, err
	}
	d.count("query pools", 1)
	return q, nil
}

// Destroy frees the pool.
func (q *QueryPool) Destroy() {
	if q.handle != nil {
		vulkan.DestroyQueryPool(q.device.handle, q.handle, nil)
		q.device.count("query pools", -1)
		q.handle = nil
	}
}

// Results reads count timestamps from first on, in ticks, after the commands that wrote them have finished.
func (q *QueryPool) Results(first, count int) ([]uint64, error) {
	if count == 0 {
		return nil, nil
	}
	out := make([]uint64, count)
	err := check("vkGetQueryPoolResults", vulkan.GetQueryPoolResults(q.device.handle, q.handle, uint32(first), uint32(count),
		uint(8*count), unsafe.Pointer(&out[0]), 8, vulkan.QueryResultFlags(1|2) /* 64 bit, wait */))
	return out, err
}
