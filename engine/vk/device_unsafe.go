package vk

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// QueueRequest asks for Count queues of a family.
type QueueRequest struct{ Family, Count int }

// DeviceOptions says how to make a device.
type DeviceOptions struct {
	Queues []QueueRequest
	// NoPushDescriptors leaves VK_KHR_push_descriptor off, to test the descriptor-set path where a driver has both.
	NoPushDescriptors bool
	// Faults, when set, makes calls fail on purpose (tests).
	Faults *Faults
}

// Device is a logical device with its queues.
type Device struct {
	Physical        *PhysicalDevice
	PushDescriptors bool

	handle vulkan.Device
	shim   *C.shim_device
	queues map[[2]int]*Queue
	faults *Faults

	mu   sync.Mutex
	live map[string]int // objects alive, by kind; guarded by mu
}

// Queue is a queue of a device.
type Queue struct {
	Family, Index int
	device        *Device
	handle        vulkan.Queue
}

// NewDevice makes a logical device with timeline semaphores and every feature of Physical.Features that it has.
func (p *PhysicalDevice) NewDevice(opts DeviceOptions) (*Device, error) {
	if !p.Features.Timeline {
		return nil, fmt.Errorf("%s: the driver has no timeline semaphores (vulkan 1.2 is needed)", p.Info.Name)
	}
	ext := p.ext
	if opts.NoPushDescriptors {
		ext &^= C.SHIM_EXT_PUSH_DESCRIPTOR
	}
	var names []string
	for name, bit := range extensionBits() {
		if ext&bit != 0 {
			names = append(names, name+"\x00")
		}
	}
	sort.Strings(names)
	chain := C.shim_feature_chain(ext, &p.props)
	defer C.shim_feature_chain_free(chain)
	queues := make([]vulkan.DeviceQueueCreateInfo, len(opts.Queues))
	for k, q := range opts.Queues {
		priorities := make([]float32, q.Count)
		for j := range priorities {
			priorities[j] = 1
		}
		queues[k] = vulkan.DeviceQueueCreateInfo{SType: vulkan.StructureTypeDeviceQueueCreateInfo,
			QueueFamilyIndex: uint32(q.Family), QueueCount: uint32(q.Count), PQueuePriorities: priorities}
	}
	info := vulkan.DeviceCreateInfo{
		SType: vulkan.StructureTypeDeviceCreateInfo, PNext: chain,
		QueueCreateInfoCount: uint32(len(queues)), PQueueCreateInfos: queues,
		EnabledExtensionCount: uint32(len(names)), PpEnabledExtensionNames: names,
		PEnabledFeatures: []vulkan.PhysicalDeviceFeatures{{ShaderInt16: vkBool(p.Features.Int16), ShaderInt64: vkBool(p.Features.Int64)}},
	}
	d := &Device{Physical: p, PushDescriptors: ext&C.SHIM_EXT_PUSH_DESCRIPTOR != 0, faults: opts.Faults,
		queues: map[[2]int]*Queue{}, live: map[string]int{}}
	var handle vulkan.Device
	err := check("vkCreateDevice", vulkan.CreateDevice(p.handle, &info, nil, &handle))
	d.handle = handle
	info.Free()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Info.Name, err)
	}
	d.shim = C.shim_device_new(p.instance.gipa, p.instance.pointer(), unsafe.Pointer(d.handle), boolC(d.PushDescriptors), boolC(p.instance.names))
	if d.shim == nil {
		vulkan.DestroyDevice(d.handle, nil)
		return nil, fmt.Errorf("%s: the driver lacks entry points of vulkan 1.2", p.Info.Name)
	}
	for _, q := range opts.Queues {
		for k := range q.Count {
			queue := &Queue{Family: q.Family, Index: k, device: d}
			var handle vulkan.Queue
			vulkan.GetDeviceQueue(d.handle, uint32(q.Family), uint32(k), &handle)
			queue.handle = handle
			d.queues[[2]int{q.Family, k}] = queue
		}
	}
	return d, nil
}

// Queue returns one of the queues asked for at creation.
func (d *Device) Queue(family, index int) *Queue {
	q := d.queues[[2]int{family, index}]
	if q == nil {
		panic(fmt.Sprintf("vk: queue %d of family %d was not asked for", index, family))
	}
	return q
}

// WaitIdle waits until all queues are idle.
func (d *Device) WaitIdle() error {
	if err := d.faults.check("vkDeviceWaitIdle"); err != nil {
		return err
	}
	return check("vkDeviceWaitIdle", vulkan.DeviceWaitIdle(d.handle))
}

// Destroy destroys the device. Objects that are still alive are an error that names their kinds and counts; they are
// lost with the device.
func (d *Device) Destroy() error {
	if d.handle == nil {
		return nil
	}
	d.mu.Lock()
	var leaks []string
	for kind, n := range d.live {
		if n != 0 {
			leaks = append(leaks, fmt.Sprintf("%d %s", n, kind))
		}
	}
	d.mu.Unlock()
	C.shim_device_free(d.shim)
	vulkan.DestroyDevice(d.handle, nil)
	d.handle, d.shim = nil, nil
	if leaks != nil {
		sort.Strings(leaks)
		return errors.New("vulkan objects leaked: " + strings.Join(leaks, ", "))
	}
	return nil
}

// Live returns the number of objects alive by kind, for tests.
func (d *Device) Live() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]int{}
	for kind, n := range d.live {
		if n != 0 {
			out[kind] = n
		}
	}
	return out
}

func (d *Device) count(kind string, n int) {
	d.mu.Lock()
	d.live[kind] += n
	d.mu.Unlock()
}

// Name gives an object a name that validation messages and debuggers show; free without VK_EXT_debug_utils.
func (d *Device) name(kind C.uint32_t, handle unsafe.Pointer, name string) {
	if !d.Physical.instance.names {
		return
	}
	c := C.CString(name)
	C.shim_name(d.shim, kind, handle, c)
	C.shim_free(unsafe.Pointer(c))
}

func vkBool(b bool) vulkan.Bool32 {
	if b {
		return 1
	}
	return 0
}
