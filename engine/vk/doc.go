// Package vk is the binding to Vulkan: vulkan-go/vulkan for what its headers (1.1.88) know, and a C shim of our own
// for what they lack: timeline semaphores, push descriptors, the feature and property structures of Vulkan 1.2 and
// later, memory budgets, cooperative-matrix queries and the messages of the validation layer. The calls of the hot
// path (record a dispatch, a copy, a barrier; submit) go through the shim too, because each costs one C call there and
// allocates nothing.
//
// It is the only package with cgo and the only one that imports vulkan-go. It adds no policy: which memory, which
// queue and which barrier is decided above it.
//
// Ownership: whoever creates an object destroys it, children before parents. A Device counts its live objects, so
// that a leak is an error with a name (Device.Destroy). Threads: an object is used by one goroutine at a time, as
// Vulkan asks; Device, Timeline and the queries of a PhysicalDevice may be shared.
package vk
