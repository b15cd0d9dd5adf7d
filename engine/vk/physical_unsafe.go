package vk

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// PhysicalDevice is a device that a driver offers, with all we ask of it, read once.
type PhysicalDevice struct {
	instance *Instance
	handle   vulkan.PhysicalDevice
	ext      C.uint32_t
	props    C.shim_properties

	Info       DeviceInfo
	Limits     Limits
	Features   Features
	Heaps      []Heap
	Types      []MemoryType
	Families   []QueueFamily
	Extensions map[string]bool
	Matrices   []Matrix         // VK_KHR_cooperative_matrix
	Flexible   []FlexibleMatrix // VK_NV_cooperative_matrix2
}

// DeviceInfo names a device and its driver.
type DeviceInfo struct {
	Name, Driver, DriverInfo string
	API                      string // "1.3.230"
	VendorID, DeviceID       uint32
	DriverVersion            uint32
	Kind                     string // "discrete gpu", "integrated gpu", "virtual gpu", "cpu", "other"
	DeviceUUID, DriverUUID   [16]byte
	PipelineCacheUUID        [16]byte
}

// Limits are the device limits that kernels and allocators obey; sizes in bytes.
type Limits struct {
	MaxAllocation         int64 // one vkAllocateMemory
	MaxStorageRange       int64 // one storage-buffer binding
	StorageAlign          int64 // offset of a storage-buffer binding
	NonCoherentAtom       int64
	MaxSharedMemory       int64 // of one workgroup
	MaxPushConstants      int
	MaxInvocations        int // of one workgroup
	MaxWorkgroupSize      [3]uint32
	MaxGroups             [3]uint32
	SubgroupSize          int
	TimestampPeriod       float64 // ns per tick
	MaxPushDescriptors    int     // 0: push descriptors are not there
	ImportAlign           int64   // alignment of imported host pointers, 0: not there
	MaxMemoryAllocations  int
	MaxBoundDescriptorSet int

	// VK_NV_cooperative_matrix2, all 0 without it.
	Matrix2MaxWorkgroup   int   // invocations of a workgroup whose matrices have workgroup scope
	Matrix2MaxDimension   int   // of a flexible matrix
	Matrix2ReservedShared int64 // of a workgroup's shared memory, taken by matrices of workgroup scope
}

// Features are the optional abilities that select kernels.
type Features struct {
	Timeline, Storage16, Storage8, Float16, Int8, Int16, Int64, ScalarLayout, MemoryModel bool
	CooperativeMatrix, BFloat16, BFloat16Matrix                                           bool
	Matrix2                                                                               Matrix2Features
	// SubgroupMax: subgroups find maxima. FullSubgroups: pipelines may ask for whole subgroups of Limits.SubgroupSize.
	SubgroupMax, FullSubgroups bool
	// SPIRV16: shaders may be in SPIR-V 1.6, their workgroup's size given by ids (Vulkan 1.3 with maintenance4).
	SPIRV16 bool
}

// Matrix2Features are the parts of VK_NV_cooperative_matrix2, each optional.
type Matrix2Features struct {
	Workgroup        bool // matrices held by a whole workgroup
	Flexible         bool // any multiples of the granularities in PhysicalDevice.Flexible
	Reductions       bool // coopMatReduceNV
	Conversions      bool // between uses and element types
	PerElement       bool // coopMatPerElementNV
	TensorAddressing bool // loads and stores by tensor layouts and views
	BlockLoads       bool // loads through a function that decodes blocks
}

// Heap is a memory heap of the device.
type Heap struct {
	Size        int64 // bytes
	DeviceLocal bool
}

// MemoryType is one kind of memory and the heap it comes from.
type MemoryType struct {
	Heap                                       int
	DeviceLocal, HostVisible, Coherent, Cached bool
}

// QueueFamily is a group of like queues.
type QueueFamily struct {
	Index, Count      int
	Graphics, Compute bool
	Transfer          bool // also true where graphics or compute imply it
	Sparse, VideoOnly bool
	TimestampBits     int
}

// Matrix is one shape of VK_KHR_cooperative_matrix. Types are VkComponentTypeKHR names ("f16", "bf16", "s8", …).
type Matrix struct {
	M, N, K    int
	A, B, C, R string
	Saturating bool
	Scope      string // "subgroup", "workgroup"
}

// FlexibleMatrix is one family of shapes of VK_NV_cooperative_matrix2: any multiples of the granularities.
type FlexibleMatrix struct {
	M, N, K     int // granularity
	A, B, C, R  string
	Saturating  bool
	Scope       string
	Invocations int // workgroup size, for workgroup scope
}

func (i *Instance) physicalDevice(handle vulkan.PhysicalDevice) *PhysicalDevice {
	p := &PhysicalDevice{instance: i, handle: handle, Extensions: map[string]bool{}}
	p.readExtensions()
	C.shim_get_properties(i.gipa, i.pointer(), p.pointer(), p.ext, &p.props)
	p.readProperties()
	p.readMemory()
	p.readFamilies()
	p.readMatrices()
	return p
}

func (p *PhysicalDevice) pointer() unsafe.Pointer { return unsafe.Pointer(p.handle) }

func (p *PhysicalDevice) readExtensions() {
	all := make([]C.shim_named, maxNamed)
	n := min(int(C.shim_device_extensions(p.instance.gipa, p.instance.pointer(), p.pointer(), &all[0], maxNamed)), maxNamed)
	for k := range all[:n] {
		p.Extensions[C.GoString(&all[k].name[0])] = true
	}
	for name, bit := range extensionBits() {
		if p.Extensions[name] && !(p.instance.oldLayer() && bit >= C.SHIM_EXT_COOPMAT) {
			p.ext |= bit
		}
	}
}

// extensionBits are the device extensions we use where they exist.
func extensionBits() map[string]C.uint32_t {
	return map[string]C.uint32_t{
		"VK_KHR_push_descriptor":      C.SHIM_EXT_PUSH_DESCRIPTOR,
		"VK_EXT_memory_budget":        C.SHIM_EXT_MEMORY_BUDGET,
		"VK_EXT_external_memory_host": C.SHIM_EXT_HOST_MEMORY,
		"VK_KHR_cooperative_matrix":   C.SHIM_EXT_COOPMAT,
		"VK_NV_cooperative_matrix2":   C.SHIM_EXT_COOPMAT2,
		"VK_KHR_shader_bfloat16":      C.SHIM_EXT_BFLOAT16,
		// Also in Vulkan 1.3, but devices of 1.2 may have them too.
		"VK_EXT_subgroup_size_control": C.SHIM_EXT_SUBGROUP_SIZE,
		"VK_KHR_maintenance4":          C.SHIM_EXT_MAINTENANCE4,
	}
}

func (p *PhysicalDevice) readProperties() {
	var props vulkan.PhysicalDeviceProperties
	vulkan.GetPhysicalDeviceProperties(p.handle, &props)
	props.Deref()
	props.Limits.Deref()
	l, s := props.Limits, &p.props
	kinds := []string{"other", "integrated gpu", "discrete gpu", "virtual gpu", "cpu"}
	kind := "other"
	if k := int(s.device_type); k < len(kinds) {
		kind = kinds[k]
	}
	p.Info = DeviceInfo{
		Name: C.GoString(&s.name[0]), Driver: C.GoString(&s.driver_name[0]), DriverInfo: C.GoString(&s.driver_info[0]),
		API: versionString(uint32(s.api_version)), VendorID: uint32(s.vendor_id), DeviceID: uint32(s.device_id),
		DriverVersion: uint32(s.driver_version), Kind: kind, PipelineCacheUUID: props.PipelineCacheUUID,
	}
	for k := range 16 {
		p.Info.DeviceUUID[k], p.Info.DriverUUID[k] = byte(s.device_uuid[k]), byte(s.driver_uuid[k])
	}
	p.Limits = Limits{
		MaxAllocation:         int64(s.max_allocation),
		MaxStorageRange:       int64(l.MaxStorageBufferRange),
		StorageAlign:          max(int64(l.MinStorageBufferOffsetAlignment), 4),
		NonCoherentAtom:       int64(l.NonCoherentAtomSize),
		MaxSharedMemory:       int64(l.MaxComputeSharedMemorySize),
		MaxPushConstants:      int(l.MaxPushConstantsSize),
		MaxInvocations:        int(l.MaxComputeWorkGroupInvocations),
		MaxWorkgroupSize:      l.MaxComputeWorkGroupSize,
		MaxGroups:             l.MaxComputeWorkGroupCount,
		SubgroupSize:          int(s.subgroup_size),
		TimestampPeriod:       float64(l.TimestampPeriod),
		MaxPushDescriptors:    int(s.max_push_descriptors),
		ImportAlign:           int64(s.import_alignment),
		MaxMemoryAllocations:  int(l.MaxMemoryAllocationCount),
		MaxBoundDescriptorSet: int(l.MaxBoundDescriptorSets),
		Matrix2MaxWorkgroup:   int(s.matrix2_max_workgroup),
		Matrix2MaxDimension:   int(s.matrix2_max_dimension),
		Matrix2ReservedShared: int64(s.matrix2_reserved_shared),
	}
	p.Features = Features{
		Timeline: s.timeline != 0, Storage16: s.storage16 != 0, Storage8: s.storage8 != 0, Float16: s.float16 != 0,
		Int8: s.int8 != 0, Int16: s.int16 != 0, Int64: s.int64 != 0, ScalarLayout: s.scalar_layout != 0, MemoryModel: s.memory_model != 0,
		CooperativeMatrix: s.cooperative_matrix != 0, BFloat16: s.bfloat16 != 0, BFloat16Matrix: s.bfloat16_matrix != 0,
		Matrix2: Matrix2Features{
			Workgroup: s.cooperative_matrix2_workgroup != 0, Flexible: s.cooperative_matrix2_flexible != 0,
			Reductions: s.cooperative_matrix2_reductions != 0, Conversions: s.cooperative_matrix2_conversions != 0,
			PerElement: s.cooperative_matrix2_per_element != 0, TensorAddressing: s.cooperative_matrix2_tensor != 0,
			BlockLoads: s.cooperative_matrix2_block_loads != 0,
		},
		SPIRV16:     s.api_version >= 1<<22|3<<12 && s.maintenance4 != 0,
		SubgroupMax: s.subgroup_operations&4 != 0, FullSubgroups: s.full_subgroups != 0,
	}
}

func (p *PhysicalDevice) readMemory() {
	var m vulkan.PhysicalDeviceMemoryProperties
	vulkan.GetPhysicalDeviceMemoryProperties(p.handle, &m)
	m.Deref()
	for k := range m.MemoryHeapCount {
		m.MemoryHeaps[k].Deref()
		h := m.MemoryHeaps[k]
		p.Heaps = append(p.Heaps, Heap{Size: int64(h.Size), DeviceLocal: h.Flags&1 != 0})
	}
	for k := range m.MemoryTypeCount {
		m.MemoryTypes[k].Deref()
		t := m.MemoryTypes[k]
		p.Types = append(p.Types, MemoryType{Heap: int(t.HeapIndex), DeviceLocal: t.PropertyFlags&1 != 0,
			HostVisible: t.PropertyFlags&2 != 0, Coherent: t.PropertyFlags&4 != 0, Cached: t.PropertyFlags&8 != 0})
	}
}

func (p *PhysicalDevice) readFamilies() {
	var all [64]C.shim_family
	n := min(int(C.shim_families(p.instance.gipa, p.instance.pointer(), p.pointer(), &all[0], C.uint32_t(len(all)))), len(all))
	for k, q := range all[:n] {
		flags := uint32(q.flags)
		f := QueueFamily{Index: k, Count: int(q.count), Graphics: flags&1 != 0, Compute: flags&2 != 0,
			Transfer: flags&7 != 0, Sparse: flags&8 != 0, TimestampBits: int(q.timestamp_bits)}
		f.VideoOnly = flags&0x60 != 0 && flags&3 == 0
		p.Families = append(p.Families, f)
	}
}

func (p *PhysicalDevice) readMatrices() {
	inst := p.instance
	if p.ext&C.SHIM_EXT_COOPMAT != 0 {
		var all [128]C.shim_matrix
		n := C.shim_get_matrices(inst.gipa, inst.pointer(), p.pointer(), &all[0], C.uint32_t(len(all)))
		for _, m := range all[:n] {
			p.Matrices = append(p.Matrices, Matrix{M: int(m.m), N: int(m.n), K: int(m.k), A: component(m.a), B: component(m.b),
				C: component(m.c), R: component(m.result), Saturating: m.saturating != 0, Scope: scope(m.scope)})
		}
	}
	if p.ext&C.SHIM_EXT_COOPMAT2 != 0 {
		var all [128]C.shim_flexible_matrix
		n := C.shim_get_flexible_matrices(inst.gipa, inst.pointer(), p.pointer(), &all[0], C.uint32_t(len(all)))
		for _, m := range all[:n] {
			p.Flexible = append(p.Flexible, FlexibleMatrix{M: int(m.m_granularity), N: int(m.n_granularity), K: int(m.k_granularity),
				A: component(m.a), B: component(m.b), C: component(m.c), R: component(m.result), Saturating: m.saturating != 0, Scope: scope(m.scope), Invocations: int(m.invocations)})
		}
	}
}

// Budget returns, per heap, the bytes this process may use and those it uses now, as the driver sees it; false
// without VK_EXT_memory_budget.
func (p *PhysicalDevice) Budget() (budget, usage []int64, ok bool) {
	if p.ext&C.SHIM_EXT_MEMORY_BUDGET == 0 {
		return nil, nil, false
	}
	var b C.shim_budget
	if C.shim_get_budget(p.instance.gipa, p.instance.pointer(), p.pointer(), &b) == 0 {
		return nil, nil, false
	}
	for k := range p.Heaps {
		budget = append(budget, int64(b.budget[k]))
		usage = append(usage, int64(b.usage[k]))
	}
	return budget, usage, true
}

// component names a VkComponentTypeKHR.
func component(c C.uint32_t) string {
	names := []string{"f16", "f32", "f64", "s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64"}
	if int(c) < len(names) {
		return names[c]
	}
	if c == 1000141000 {
		return "bf16"
	}
	return fmt.Sprintf("type%d", uint32(c))
}

// scope names a VkScopeKHR.
func scope(s C.uint32_t) string {
	names := map[C.uint32_t]string{1: "device", 2: "workgroup", 3: "subgroup", 5: "queue family"}
	if name, ok := names[s]; ok {
		return name
	}
	return fmt.Sprintf("scope%d", uint32(s))
}
