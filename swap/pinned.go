package swap

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// pinnedLoader keeps every streamed block in host-visible memory. A load is one copy, submitted by Release as soon as
// the point is known after which the slot is free: the transfer queue waits for it, not the host.
type pinnedLoader struct {
	swapper *Swapper
	blocks  map[int]memory.Region
	points  []engine.Point // of load n at n mod len: loads in flight or ready
	count   Counters
}

func newPinnedLoader(s *Swapper) *pinnedLoader {
	return &pinnedLoader{swapper: s, blocks: map[int]memory.Region{}, points: make([]engine.Point, s.config.Plan.Stream)}
}

func (l *pinnedLoader) start(ctx context.Context) error {
	if err := l.fill(ctx); err != nil {
		return err
	}
	for n := range l.swapper.config.Plan.Stream {
		if err := l.submit(n, engine.Point{}); err != nil {
			return err
		}
	}
	return nil
}

// fill pins memory for all streamed blocks and reads them, a few at a time. Blocks are read while memory for the next ones is
// being pinned, which takes as long: the system clears every page first.
func (l *pinnedLoader) fill(ctx context.Context) error {
	s := l.swapper
	start := time.Now()
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(max(1, min(maxReaders, runtime.GOMAXPROCS(0)/2)))
	var failed error
	for _, block := range s.config.Plan.Streamed {
		if failed = reading.Err(); failed != nil {
			break
		}
		began := time.Now()
		region, err := s.device.AllocRegion(memory.Upload, s.source.BlockBytes(), s.config.Name+": host copies")
		l.count.PinTime += time.Since(began)
		if err != nil {
			failed = fmt.Errorf("block %d in host memory: %w", block, err)
			break
		}
		l.blocks[block] = region
		dst := region.Bytes()[:s.source.BlockBytes()]
		group.Go(func() error { return s.source.Read(reading, block, dst) })
	}
	err := group.Wait() // also before an error of this goroutine's: regions are being written
	l.count.ReadTime = time.Since(start)
	if err == nil {
		err = failed
	}
	return err
}

// maxReaders bounds the blocks that are read at once: a block is read by several goroutines too.
const maxReaders = 8

func (l *pinnedLoader) submit(n int, after engine.Point) error {
	s := l.swapper
	load := s.config.Plan.Load(n)
	t := s.stream
	if after.Stream != nil {
		t.Wait(after)
	}
	size := s.copyBlock(load, l.blocks[load.Block])
	value, err := t.Flush()
	if err != nil {
		return err
	}
	l.points[n%len(l.points)] = engine.Point{Stream: t, Value: value}
	s.keepSpans()
	l.count.Loads++
	l.count.Bytes += size
	return nil
}

func (l *pinnedLoader) ready(_ context.Context, n int) (engine.Point, error) {
	return l.points[n%len(l.points)], nil
}

func (l *pinnedLoader) released(n int, after engine.Point) error {
	return l.submit(n+l.swapper.config.Plan.Stream, after)
}

func (l *pinnedLoader) failed() error { return nil }

func (l *pinnedLoader) counters() Counters { return l.count }

func (l *pinnedLoader) stop() {}

func (l *pinnedLoader) free() {
	for _, region := range l.blocks {
		l.swapper.device.FreeRegion(region)
	}
	l.blocks = nil
}

func rangeOf(r memory.Region, size int64) vk.Range {
	return vk.Range{Buffer: r.Buffer, Offset: r.Offset, Size: size}
}
