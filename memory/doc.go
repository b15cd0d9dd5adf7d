// Package memory cuts device heaps and pinned host memory into regions and keeps account of them.
//
// Vocabulary. A chunk is one Vulkan allocation with a buffer over all of it. A region is a part of a chunk with an
// owner's label. A kind says what memory is for (Device, Upload, Readback), from which the memory type follows. A
// budget is a promise in bytes over all chunks of a kind: it is never exceeded by a byte, and what would exceed it is
// refused with the numbers (BudgetError). An arena is a set of regions given back together.
//
// Arithmetic is apart from the device: Space knows offsets and sizes only. The package never knows what a tensor is.
//
// Ownership: whoever allocates frees; Allocator.Close reports every region that is left, by label and size. All
// methods may be called from several goroutines.
package memory
