package swap

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/memory"
)

// Source gives the bytes of blocks. Read may be called from several goroutines for different blocks.
type Source interface {
	// Blocks returns the number of blocks.
	Blocks() int
	// BlockBytes returns the size of every block, a multiple of 256.
	BlockBytes() int64
	// Read writes block i, packed, into dst of BlockBytes bytes. Errors name the file and the tensor.
	Read(ctx context.Context, i int, dst []byte) error
}

// Shorter is a Source whose blocks may be shorter than BlockBytes: what lies behind Used bytes is not copied. Used reads it from a
// block that Read wrote, a multiple of 4.
type Shorter interface {
	Source
	Used(block []byte) int64
}

// used returns how many bytes of a block in host memory are copied.
func used(s Source, host memory.Region) int64 {
	size := s.BlockBytes()
	if shorter, ok := s.(Shorter); ok {
		n := shorter.Used(host.Bytes()[:size])
		if n <= 0 || n > size || n%4 != 0 {
			panic(fmt.Sprintf("swap: a block of %d bytes uses %d", size, n))
		}
		return n
	}
	return size
}

// HostTier says where blocks wait.
type HostTier string

// Host tiers. Pinned keeps all streamed blocks in host-visible memory, so that a load is one copy by the transfer
// queue. Mapped reads them again for every load (from the memory-mapped file, which the page cache holds where RAM
// allows) into a ring of pinned staging buffers. Mixed pins some blocks and reads the others through the ring: access is a
// cyclic scan, of which a page cache that does not hold all holds nothing, so each pinned block is one less to be read.
const (
	Pinned HostTier = "pinned"
	Mixed  HostTier = "mixed"
	Mapped HostTier = "mapped"
)

// defaultRing is how many staging buffers a ring has: one is filled while another is copied from.
const defaultRing = 2

// Pins says how many blocks wait in pinned memory in a tier, and how many staging buffers the others pass through, when so
// many are streamed. pinned counts in the Mixed tier only; ring 0 means 2.
func (t HostTier) Pins(streamed, pinned, ring int) (blocks, buffers int) {
	if ring == 0 {
		ring = defaultRing
	}
	switch {
	case streamed == 0:
		return 0, 0
	case t == Mapped:
		return 0, ring
	case t == Mixed && pinned < streamed:
		return max(0, pinned), ring
	}
	return streamed, 0
}
