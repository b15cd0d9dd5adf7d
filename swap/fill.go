package swap

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// hostCopies are blocks in pinned memory, by number.
type hostCopies map[int]memory.Region

// maxReaders bounds the blocks that are read at once: a block is read by several goroutines too.
const maxReaders = 8

// readers runs goroutines that read blocks, as many at once as there is use for.
func readers(ctx context.Context) (*errgroup.Group, context.Context) {
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(max(1, min(maxReaders, runtime.GOMAXPROCS(0)/2)))
	return group, reading
}

// fill pins memory for blocks and reads them, a few at a time. Blocks are read while memory for the next ones is being pinned,
// which takes as long: the system clears every page first. more, if set, is asked before each block whether it may be pinned,
// and told the error when it could not be; blocks that it refuses are left out, with all after them.
func (h hostCopies) fill(ctx context.Context, s *Swapper, blocks []int, more func(error) bool, count *Counters) error {
	start := time.Now()
	group, reading := readers(ctx)
	var failed error
	for _, block := range blocks {
		if failed = reading.Err(); failed != nil || more != nil && !more(nil) {
			break
		}
		began := time.Now()
		region, err := s.device.AllocRegion(memory.Upload, s.source.BlockBytes(), s.config.Name+": host copies")
		count.PinTime += time.Since(began)
		if err != nil {
			if more == nil || !more(err) {
				failed = fmt.Errorf("block %d in host memory: %w", block, err)
			}
			break
		}
		h[block] = region
		dst := region.Bytes()[:s.source.BlockBytes()]
		group.Go(func() error {
			err := s.source.Read(reading, block, dst)
			s.tellRead()
			return err
		})
	}
	err := group.Wait() // also before an error of this goroutine's: regions are being written
	count.ReadTime += time.Since(start)
	count.PinnedBlocks = len(h)
	if err == nil {
		err = failed
	}
	return err
}

// patch writes what changed in the blocks that are at hand.
func (h hostCopies) patch(ctx context.Context, s *Swapper, c Change) error {
	group, patching := readers(ctx)
	for block, region := range h {
		if c.Changed(block) {
			group.Go(func() error { return c.Patch(patching, block, region.Bytes()[:s.source.BlockBytes()]) })
		}
	}
	return group.Wait()
}

func (h hostCopies) free(s *Swapper) {
	for _, region := range h {
		s.device.FreeRegion(region)
	}
	clear(h)
}

// spread picks n of the blocks, evenly, so that those left out, which must be read for every pass, lie apart and each has the
// copies and the use of others to hide behind. The order is such that the first few are spread as well.
func spread(blocks []int, n int) []int {
	even := make([]int, 0, n)
	for k, block := range blocks {
		if before, after := k*n/len(blocks), (k+1)*n/len(blocks); after > before {
			even = append(even, block)
		}
	}
	picked := make([]int, 0, n)
	width := bits.Len(uint(max(n-1, 0)))
	for k := range 1 << width {
		if at := bits.Reverse64(uint64(k)) >> (64 - width); at < uint64(n) {
			picked = append(picked, even[at])
		}
	}
	return picked
}

// refused says whether an error means that there is no more pinned memory.
func refused(err error) bool {
	return errors.Is(err, memory.ErrBudget) || errors.Is(err, vk.ErrOutOfHostMemory) || errors.Is(err, vk.ErrOutOfDeviceMemory)
}

// pinSome pins as many blocks of the Mixed tier as are asked for and as there is room for. What the driver refuses is not
// asked for again, and the block before is given back, so that uploads and downloads find something.
func (h hostCopies) pinSome(ctx context.Context, s *Swapper, count *Counters) error {
	n, _ := s.config.Tier.Pins(len(s.config.Plan.Streamed), s.config.Pinned, s.config.Ring)
	blocks, short := spread(s.config.Plan.Streamed, n), false
	err := h.fill(ctx, s, blocks, func(err error) bool {
		short = short || err != nil
		if err != nil {
			return refused(err)
		}
		return s.config.Room == nil || s.config.Room() >= s.source.BlockBytes()
	}, count)
	if err != nil || !short || len(h) == 0 {
		return err
	}
	last := blocks[slices.IndexFunc(blocks, func(b int) bool { return h[b].IsZero() })-1]
	s.device.FreeRegion(h[last])
	delete(h, last)
	count.PinnedBlocks = len(h)
	return nil
}
