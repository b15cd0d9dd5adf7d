package swap

import "context"

// Source gives the bytes of blocks. Read may be called from several goroutines for different blocks.
type Source interface {
	// Blocks returns the number of blocks.
	Blocks() int
	// BlockBytes returns the size of every block, a multiple of 256.
	BlockBytes() int64
	// Read writes block i, packed, into dst of BlockBytes bytes. Errors name the file and the tensor.
	Read(ctx context.Context, i int, dst []byte) error
}

// HostTier says where blocks wait.
type HostTier string

// Host tiers. Pinned keeps all streamed blocks in host-visible memory, so that a load is one copy by the transfer
// queue. Mapped reads them again for every load (from the memory-mapped file, which the page cache holds where RAM
// allows) into a ring of pinned staging buffers.
const (
	Pinned HostTier = "pinned"
	Mapped HostTier = "mapped"
)
