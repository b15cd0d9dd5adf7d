package vk

// #include "shim.h"
import "C"

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	vulkan "github.com/vulkan-go/vulkan"
)

// ValidationLayer is the Khronos validation layer's name.
const ValidationLayer = "VK_LAYER_KHRONOS_validation"

// InstanceOptions says how to make an instance.
type InstanceOptions struct {
	// Validate loads the Khronos validation layer with synchronization validation; its messages are collected
	// (Instance.Messages). Creation fails when the layer is not installed.
	Validate bool
}

// Instance is a Vulkan instance. It asks for API 1.3, whose SPIR-V 1.6 some shaders need; devices of 1.2 do for the others.
type Instance struct {
	handle   vulkan.Instance
	gipa     unsafe.Pointer // vkGetInstanceProcAddr
	messages *C.shim_messages
	layer    string // version of the validation layer, "" without it
	names    bool   // VK_EXT_debug_utils is on
}

// NewInstance loads the Vulkan loader and makes an instance. Errors wrap ErrNoVulkan when there is no loader or no
// driver.
func NewInstance(opts InstanceOptions) (*Instance, error) {
	gipa := C.shim_load()
	if gipa == nil {
		return nil, fmt.Errorf("%w: the vulkan loader (libvulkan.so.1, vulkan-1.dll) is not installed", ErrNoVulkan)
	}
	vulkan.SetGetInstanceProcAddr(gipa)
	if err := vulkan.Init(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNoVulkan, err)
	}
	inst := &Instance{gipa: gipa}
	info := vulkan.InstanceCreateInfo{
		SType: vulkan.StructureTypeInstanceCreateInfo,
		PApplicationInfo: &vulkan.ApplicationInfo{
			SType:            vulkan.StructureTypeApplicationInfo,
			PApplicationName: "vkandinsky\x00",
			PEngineName:      "vkandinsky\x00",
			ApiVersion:       1<<22 | 3<<12,
		},
	}
	if opts.Validate {
		chain, err := inst.enableValidation(&info)
		if err != nil {
			return nil, err
		}
		defer C.shim_instance_chain_free(chain)
	}
	var handle vulkan.Instance // a local: the address of a field would hand C the whole Go struct
	err := check("vkCreateInstance", vulkan.CreateInstance(&info, nil, &handle))
	inst.handle = handle
	info.Free()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoVulkan, err)
	}
	if err := vulkan.InitInstance(inst.handle); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNoVulkan, err)
	}
	if opts.Validate {
		if inst.messages = C.shim_messages_new(gipa, inst.pointer()); inst.messages == nil {
			inst.Destroy()
			return nil, fmt.Errorf("the validation layer does not offer VK_EXT_debug_utils, so its messages could not be read")
		}
	}
	return inst, nil
}

func (i *Instance) enableValidation(info *vulkan.InstanceCreateInfo) (unsafe.Pointer, error) {
	version, err := layerVersion(i.gipa, ValidationLayer)
	if err != nil {
		return nil, err
	}
	i.layer, i.names = version, true
	extensions := layerExtensions(i.gipa, ValidationLayer)
	enabled := []string{"VK_EXT_debug_utils\x00"}
	settings := slices.Contains(extensions, "VK_EXT_layer_settings")
	if settings {
		enabled = append(enabled, "VK_EXT_layer_settings\x00")
	}
	if slices.Contains(extensions, "VK_EXT_validation_features") {
		enabled = append(enabled, "VK_EXT_validation_features\x00")
	}
	chain := C.shim_instance_chain(boolC(settings))
	info.PNext = chain
	info.EnabledLayerCount, info.PpEnabledLayerNames = 1, []string{ValidationLayer + "\x00"}
	info.EnabledExtensionCount, info.PpEnabledExtensionNames = uint32(len(enabled)), enabled
	return chain, nil
}

// oldLayer says that the validation layer was written before cooperative matrices and bfloat16: it reports their
// structures as unknown, so they are not asked for under it.
func (i *Instance) oldLayer() bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(i.layer, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return false
	}
	return major == 1 && (minor < 3 || minor == 3 && patch < 300)
}

// LayerVersion is the version of the loaded validation layer such as "1.3.239", empty without validation.
func (i *Instance) LayerVersion() string { return i.layer }

// Destroy destroys the instance. All devices must be gone.
func (i *Instance) Destroy() {
	if i.messages != nil {
		C.shim_messages_free(i.messages)
		i.messages = nil
	}
	if i.handle != nil {
		vulkan.DestroyInstance(i.handle, nil)
		i.handle = nil
	}
}

// Message is one warning or error of the validation layer.
type Message struct {
	Error bool // else a warning
	Text  string
}

// Messages returns the validation messages from the n-th on (at most 256 are kept).
func (i *Instance) Messages(n int) []Message {
	if i.messages == nil {
		return nil
	}
	var out []Message
	buf := make([]byte, 4096)
	for ; ; n++ {
		severity := C.shim_messages_get(i.messages, C.uint32_t(n), (*C.char)(unsafe.Pointer(&buf[0])), C.uint32_t(len(buf)))
		if severity == 0 {
			return out
		}
		out = append(out, Message{Error: severity >= 0x1000, Text: cstring(buf)})
	}
}

func (i *Instance) pointer() unsafe.Pointer { return unsafe.Pointer(i.handle) }

// PhysicalDevices lists the instance's devices in the driver's order.
func (i *Instance) PhysicalDevices() ([]*PhysicalDevice, error) {
	var n uint32
	if err := check("vkEnumeratePhysicalDevices", vulkan.EnumeratePhysicalDevices(i.handle, &n, nil)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoVulkan, err)
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: the loader knows no device (install a driver such as mesa-vulkan-drivers)", ErrNoVulkan)
	}
	handles := make([]vulkan.PhysicalDevice, n)
	if err := check("vkEnumeratePhysicalDevices", vulkan.EnumeratePhysicalDevices(i.handle, &n, handles)); err != nil {
		return nil, err
	}
	devices := make([]*PhysicalDevice, n)
	for k := range devices {
		devices[k] = i.physicalDevice(handles[k])
	}
	return devices, nil
}

// maxNamed bounds lists of layers and extensions; drivers have some hundreds.
const maxNamed = 1024

func layerVersion(gipa unsafe.Pointer, name string) (string, error) {
	all := make([]C.shim_named, maxNamed)
	n := min(int(C.shim_layers(gipa, &all[0], maxNamed)), maxNamed)
	for k := range all[:n] {
		if C.GoString(&all[k].name[0]) == name {
			return versionString(uint32(all[k].version)), nil
		}
	}
	return "", fmt.Errorf("the validation layer %s is not installed (Debian: vulkan-validationlayers)", name)
}

func layerExtensions(gipa unsafe.Pointer, layer string) []string {
	name := C.CString(layer)
	defer C.shim_free(unsafe.Pointer(name))
	all := make([]C.shim_named, maxNamed)
	n := min(int(C.shim_layer_extensions(gipa, name, &all[0], maxNamed)), maxNamed)
	names := make([]string, n)
	for k := range names {
		names[k] = C.GoString(&all[k].name[0])
	}
	return names
}

func versionString(v uint32) string { return fmt.Sprintf("%d.%d.%d", v>>22&0x7f, v>>12&0x3ff, v&0xfff) }

func cstring(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

func boolC(b bool) C.uint32_t {
	if b {
		return 1
	}
	return 0
}
