package swap

import (
	"context"
	"fmt"
	"runtime"

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

// fill reads all streamed blocks, a few at a time.
func (l *pinnedLoader) fill(ctx context.Context) error {
	s := l.swapper
	for _, block := range s.config.Plan.Streamed {
		region, err := s.device.AllocRegion(memory.Upload, s.source.BlockBytes(), s.config.Name+": host copies")
		if err != nil {
			return fmt.Errorf("block %d in host memory: %w", block, err)
		}
		l.blocks[block] = region
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, min(4, runtime.GOMAXPROCS(0)/2)))
	for _, block := range s.config.Plan.Streamed {
		dst := l.blocks[block].Bytes()[:s.source.BlockBytes()]
		group.Go(func() error { return s.source.Read(ctx, block, dst) })
	}
	return group.Wait()
}

func (l *pinnedLoader) submit(n int, after engine.Point) error {
	s := l.swapper
	load := s.config.Plan.Load(n)
	t := s.stream
	if after.Stream != nil {
		t.Wait(after)
	}
	s.copyBlock(load, l.blocks[load.Block])
	value, err := t.Flush()
	if err != nil {
		return err
	}
	l.points[n%len(l.points)] = engine.Point{Stream: t, Value: value}
	s.keepSpans()
	l.count.Loads++
	l.count.Bytes += s.source.BlockBytes()
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
