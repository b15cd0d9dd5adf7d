package swap

import (
	"context"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// pinnedLoader keeps every streamed block in host-visible memory. A load is one copy, submitted by Release as soon as
// the point is known after which the slot is free: the transfer queue waits for it, not the host.
type pinnedLoader struct {
	swapper *Swapper
	blocks  hostCopies
	points  []engine.Point // of load n at n mod len: loads in flight or ready
	count   Counters
}

func newPinnedLoader(s *Swapper) *pinnedLoader {
	return &pinnedLoader{swapper: s, blocks: hostCopies{}, points: make([]engine.Point, s.config.Plan.Stream)}
}

func (l *pinnedLoader) start(ctx context.Context) error {
	if err := l.blocks.fill(ctx, l.swapper, l.swapper.config.Plan.Streamed, nil, &l.count); err != nil {
		return err
	}
	return l.begin()
}

// begin submits the first loads, whose slots are free.
func (l *pinnedLoader) begin() error {
	for n := range l.swapper.config.Plan.Stream {
		if err := l.submit(n, engine.Point{}); err != nil {
			return err
		}
	}
	return nil
}

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

// refresh patches the host copies and begins anew with the first loads.
func (l *pinnedLoader) refresh(ctx context.Context, c Change) error {
	if err := l.blocks.patch(ctx, l.swapper, c); err != nil {
		return err
	}
	return l.begin()
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

func (l *pinnedLoader) free() { l.blocks.free(l.swapper) }

func rangeOf(r memory.Region, size int64) vk.Range {
	return vk.Range{Buffer: r.Buffer, Offset: r.Offset, Size: size}
}
