// Package engine is the Vulkan compute runtime: it opens a device, records and submits work, and places the barriers.
//
// Vocabulary. A Device is an opened GPU with its allocator and pipelines. A Tensor is a typed view of a range of
// device memory. A Stream is a queue with a timeline: it records calls, finds from the ranges they read and write
// where a barrier is needed, and submits. A Call is one dispatch of a shader. An Arena holds the tensors of one stage.
// A tier says which kernels a device gets; it follows from queried properties, never from a device's name.
//
// Ownership: who allocates a tensor frees it (or its arena); memory goes back only after the GPU has passed the work
// that was recorded before. Device.Close reports what was leaked. Threads: a Stream belongs to one goroutine at a
// time; the Device's allocation methods may be called from several.
//
// Kernels are in engine/ops. What the package refuses to do: read weights from host memory in a shader, use buffer
// device addresses (the validation layers do not see them), and bind more than the range a call may touch.
package engine
