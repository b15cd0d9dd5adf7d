package vk

// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// PipelineCache keeps compiled shaders; its data can be saved and loaded.
type PipelineCache struct {
	device *Device
	handle vulkan.PipelineCache
}

// NewPipelineCache makes a cache from data saved before, which the driver ignores when it is not its own.
func (d *Device) NewPipelineCache(data []byte) (*PipelineCache, error) {
	c := &PipelineCache{device: d}
	info := vulkan.PipelineCacheCreateInfo{SType: vulkan.StructureTypePipelineCacheCreateInfo}
	var copied unsafe.Pointer
	if len(data) > 0 {
		copied = C.CBytes(data)
		defer C.shim_free(copied)
		info.InitialDataSize, info.PInitialData = uint(len(data)), copied
	}
	var handle vulkan.PipelineCache
	err := check("vkCreatePipelineCache", vulkan.CreatePipelineCache(d.handle, &info, nil, &handle))
	c.handle = handle
	info.Free()
	if err != nil {
		return nil, err
	}
	d.count("pipeline caches", 1)
	return c, nil
}

// Data returns what to save.
func (c *PipelineCache) Data() ([]byte, error) {
	var size uint
	if err := check("vkGetPipelineCacheData", vulkan.GetPipelineCacheData(c.device.handle, c.handle, &size, nil)); err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, nil
	}
	data := make([]byte, size)
	err := check("vkGetPipelineCacheData", vulkan.GetPipelineCacheData(c.device.handle, c.handle, &size, unsafe.Pointer(&data[0])))
	return data[:size], err
}

// Destroy frees the cache.
func (c *PipelineCache) Destroy() {
	if c.handle != nil {
		vulkan.DestroyPipelineCache(c.device.handle, c.handle, nil)
		c.device.count("pipeline caches", -1)
		c.handle = nil
	}
}

// PipelineOptions describes a compute pipeline whose set 0 has storage buffers at bindings 0 … Bindings−1.
type PipelineOptions struct {
	Name     string
	SPIRV    []byte
	Bindings int
	PushSize int               // bytes
	Spec     map[uint32]uint32 // specialization constants: id to 32-bit pattern
	Subgroup int               // 0, or the size of subgroups, all of them full; needs Features.FullSubgroups
	Cache    *PipelineCache    // may be nil
}

// Pipeline is a compute pipeline with its layout.
type Pipeline struct {
	device *Device
	handle vulkan.Pipeline
	layout vulkan.PipelineLayout
	set    vulkan.DescriptorSetLayout
	count  int
}

// NewPipeline compiles a compute pipeline with entry point main.
func (d *Device) NewPipeline(o PipelineOptions) (*Pipeline, error) {
	p := &Pipeline{device: d, count: o.Bindings}
	if err := p.create(o); err != nil {
		p.destroy()
		return nil, fmt.Errorf("pipeline %s: %w", o.Name, err)
	}
	d.name(19, unsafe.Pointer(p.handle), o.Name)
	d.count("pipelines", 1)
	return p, nil
}

func (p *Pipeline) create(o PipelineOptions) error {
	d := p.device
	bindings := make([]vulkan.DescriptorSetLayoutBinding, o.Bindings)
	for k := range bindings {
		bindings[k] = vulkan.DescriptorSetLayoutBinding{Binding: uint32(k), DescriptorType: vulkan.DescriptorTypeStorageBuffer, DescriptorCount: 1,
			StageFlags: vulkan.ShaderStageFlags(vulkan.ShaderStageComputeBit)}
	}
	setInfo := vulkan.DescriptorSetLayoutCreateInfo{SType: vulkan.StructureTypeDescriptorSetLayoutCreateInfo, BindingCount: uint32(o.Bindings), PBindings: bindings}
	if d.PushDescriptors {
		setInfo.Flags = 1 // VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR
	}
	var set vulkan.DescriptorSetLayout
	err := check("vkCreateDescriptorSetLayout", vulkan.CreateDescriptorSetLayout(d.handle, &setInfo, nil, &set))
	p.set = set
	setInfo.Free()
	if err != nil {
		return err
	}
	layoutInfo := vulkan.PipelineLayoutCreateInfo{SType: vulkan.StructureTypePipelineLayoutCreateInfo, SetLayoutCount: 1, PSetLayouts: []vulkan.DescriptorSetLayout{p.set}}
	if o.PushSize > 0 {
		layoutInfo.PushConstantRangeCount = 1
		layoutInfo.PPushConstantRanges = []vulkan.PushConstantRange{{StageFlags: vulkan.ShaderStageFlags(vulkan.ShaderStageComputeBit), Size: uint32(o.PushSize)}}
	}
	var layout vulkan.PipelineLayout
	err = check("vkCreatePipelineLayout", vulkan.CreatePipelineLayout(d.handle, &layoutInfo, nil, &layout))
	p.layout = layout
	layoutInfo.Free()
	if err != nil {
		return err
	}
	return p.compile(o)
}

func (p *Pipeline) compile(o PipelineOptions) error {
	d := p.device
	words := make([]uint32, len(o.SPIRV)/4)
	for k := range words {
		words[k] = binary.LittleEndian.Uint32(o.SPIRV[4*k:])
	}
	var module vulkan.ShaderModule
	moduleInfo := vulkan.ShaderModuleCreateInfo{SType: vulkan.StructureTypeShaderModuleCreateInfo, CodeSize: uint(len(o.SPIRV)), PCode: words}
	err := check("vkCreateShaderModule", vulkan.CreateShaderModule(d.handle, &moduleInfo, nil, &module))
	moduleInfo.Free()
	if err != nil {
		return err
	}
	defer vulkan.DestroyShaderModule(d.handle, module, nil)

	ids := make([]C.uint32_t, 0, len(o.Spec)+1)
	values := make([]C.uint32_t, 0, len(o.Spec)+1)
	for id, bits := range o.Spec {
		ids, values = append(ids, C.uint32_t(id)), append(values, C.uint32_t(bits))
	}
	var cache unsafe.Pointer
	if o.Cache != nil {
		cache = unsafe.Pointer(o.Cache.handle)
	}
	// Validity: the arrays hold no pointers and live until the call returns; the driver keeps neither.
	var out unsafe.Pointer
	err = checkCode("vkCreateComputePipelines", int32(C.shim_pipeline_create(d.shim, cache, unsafe.Pointer(module), unsafe.Pointer(p.layout),
		C.uint32_t(o.Subgroup), unsafe.SliceData(ids), unsafe.SliceData(values), C.uint32_t(len(ids)), &out)))
	p.handle = vulkan.Pipeline(out)
	return err
}

// Destroy frees the pipeline; no submit may use it any more.
func (p *Pipeline) Destroy() {
	if p.handle != nil {
		p.destroy()
		p.device.count("pipelines", -1)
	}
}

func (p *Pipeline) destroy() {
	d := p.device.handle
	if p.handle != nil {
		vulkan.DestroyPipeline(d, p.handle, nil)
	}
	if p.layout != nil {
		vulkan.DestroyPipelineLayout(d, p.layout, nil)
	}
	if p.set != nil {
		vulkan.DestroyDescriptorSetLayout(d, p.set, nil)
	}
	p.handle, p.layout, p.set = nil, nil, nil
}

// DescriptorPool makes descriptor sets, for devices without push descriptors.
type DescriptorPool struct {
	device *Device
	handle vulkan.DescriptorPool
}

// DescriptorSet is a set of storage-buffer bindings.
type DescriptorSet struct{ handle vulkan.DescriptorSet }

// NewDescriptorPool makes a pool for up to sets sets with up to buffers bindings together.
func (d *Device) NewDescriptorPool(sets, buffers int) (*DescriptorPool, error) {
	p := &DescriptorPool{device: d}
	info := vulkan.DescriptorPoolCreateInfo{SType: vulkan.StructureTypeDescriptorPoolCreateInfo, MaxSets: uint32(sets), PoolSizeCount: 1,
		PPoolSizes: []vulkan.DescriptorPoolSize{{Type: vulkan.DescriptorTypeStorageBuffer, DescriptorCount: uint32(buffers)}}}
	var handle vulkan.DescriptorPool
	err := check("vkCreateDescriptorPool", vulkan.CreateDescriptorPool(d.handle, &info, nil, &handle))
	p.handle = handle
	info.Free()
	if err != nil {
		return nil, err
	}
	d.count("descriptor pools", 1)
	return p, nil
}

// Allocate takes a set for a pipeline; an error says that the pool is used up.
func (p *DescriptorPool) Allocate(pipeline *Pipeline) (*DescriptorSet, error) {
	info := vulkan.DescriptorSetAllocateInfo{SType: vulkan.StructureTypeDescriptorSetAllocateInfo, DescriptorPool: p.handle, DescriptorSetCount: 1,
		PSetLayouts: []vulkan.DescriptorSetLayout{pipeline.set}}
	var handle vulkan.DescriptorSet
	err := check("vkAllocateDescriptorSets", vulkan.AllocateDescriptorSets(p.device.handle, &info, &handle))
	info.Free()
	if err != nil {
		return nil, err
	}
	return &DescriptorSet{handle: handle}, nil
}

// Reset gives all sets back to the pool.
func (p *DescriptorPool) Reset() error {
	return check("vkResetDescriptorPool", vulkan.ResetDescriptorPool(p.device.handle, p.handle, 0))
}

// Destroy frees the pool and its sets.
func (p *DescriptorPool) Destroy() {
	if p.handle != nil {
		vulkan.DestroyDescriptorPool(p.device.handle, p.handle, nil)
		p.device.count("descriptor pools", -1)
		p.handle = nil
	}
}
