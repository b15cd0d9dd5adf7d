package vk

import (
	"errors"
	"fmt"

	vulkan "github.com/vulkan-go/vulkan"
)

// Errors that callers branch on. All others are a *ResultError alone.
var (
	// ErrDeviceLost says that the GPU or its driver gave up; every object of the device is useless but for destroying it.
	ErrDeviceLost = errors.New("device lost")
	// ErrOutOfDeviceMemory says that a device-local heap is full.
	ErrOutOfDeviceMemory = errors.New("out of device memory")
	// ErrOutOfHostMemory says that host memory, or the driver's pinned memory, is full.
	ErrOutOfHostMemory = errors.New("out of host memory")
	// ErrTimeout says that a wait ended before the semaphore reached its value.
	ErrTimeout = errors.New("timeout")
	// ErrNoVulkan says that no Vulkan loader or no usable driver is installed.
	ErrNoVulkan = errors.New("no vulkan driver found")
)

// ResultError is a VkResult other than success, with the Vulkan function that returned it.
type ResultError struct {
	Call string // "vkAllocateMemory"
	Code int32  // VkResult
}

func (e *ResultError) Error() string {
	return fmt.Sprintf("%s: %s", e.Call, resultName(e.Code))
}

// Is makes errors.Is work with the sentinels of this package.
func (e *ResultError) Is(target error) bool {
	switch target {
	case ErrDeviceLost:
		return e.Code == int32(vulkan.ErrorDeviceLost)
	case ErrOutOfDeviceMemory:
		return e.Code == int32(vulkan.ErrorOutOfDeviceMemory)
	case ErrOutOfHostMemory:
		return e.Code == int32(vulkan.ErrorOutOfHostMemory)
	case ErrTimeout:
		return e.Code == int32(vulkan.Timeout)
	}
	return false
}

func check(call string, r vulkan.Result) error { return checkCode(call, int32(r)) }

func checkCode(call string, code int32) error {
	if code == 0 {
		return nil
	}
	return &ResultError{Call: call, Code: code}
}

func resultName(code int32) string {
	switch vulkan.Result(code) {
	case vulkan.Timeout:
		return "timeout"
	case vulkan.ErrorOutOfHostMemory:
		return "out of host memory"
	case vulkan.ErrorOutOfDeviceMemory:
		return "out of device memory"
	case vulkan.ErrorInitializationFailed:
		return "initialization failed"
	case vulkan.ErrorDeviceLost:
		return "device lost"
	case vulkan.ErrorMemoryMapFailed:
		return "memory map failed"
	case vulkan.ErrorLayerNotPresent:
		return "layer not present"
	case vulkan.ErrorExtensionNotPresent:
		return "extension not present"
	case vulkan.ErrorFeatureNotPresent:
		return "feature not present"
	case vulkan.ErrorIncompatibleDriver:
		return "incompatible driver"
	case vulkan.ErrorTooManyObjects:
		return "too many objects"
	}
	return fmt.Sprintf("VkResult %d", code)
}
