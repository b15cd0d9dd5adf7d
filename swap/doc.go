// Package swap decides which blocks of weights are on the device, which come next and how they get there, and brings
// them. A block is a run of bytes; what it computes is none of this package's business.
//
// Vocabulary. A block waits on the host and is copied into a slot, a region of device memory. An access is one use of
// a block; accesses are numbered through all passes, and access q uses block q mod n. A pass uses every block once,
// in order. A resident block has a slot for good; streamed blocks take turns in the streaming slots. A load is the
// copy for one streamed access.
//
// Deciding and doing are apart: Plan is plain data and pure functions; Swapper obeys it. Weights never change, so
// nothing is copied back. A slot is written again only after the compute timeline has passed its last reader, and
// read only after the transfer timeline has passed its copy; the GPU waits for itself, the host does not.
//
// Threads: Acquire and Release belong to the goroutine that records the compute stream. Close waits for the GPU.
package swap
