package swap

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
)

// Change says how the blocks of a source become those of another.
type Change struct {
	Source  Source           // the new one: as many blocks, of the same size
	Changed func(i int) bool // whether block i is another than before
	// Patch writes what is new in a changed block over its old bytes. It may be called from several goroutines for different
	// blocks.
	Patch func(ctx context.Context, i int, dst []byte) error
}

// Refresh replaces the blocks by those of another source. The memory stays; changed blocks are patched where their old bytes
// are at hand, in the Pinned tier, and read where they are not: the residents, and all blocks of the Mapped tier. It is for
// the time between passes, when no block is held. After an error the blocks are good for nothing and the swapper must be
// closed.
func (s *Swapper) Refresh(ctx context.Context, c Change) error {
	if c.Source.Blocks() != s.source.Blocks() || c.Source.BlockBytes() != s.source.BlockBytes() {
		return fmt.Errorf("%d blocks of %d bytes cannot take the place of %d of %d", c.Source.Blocks(), c.Source.BlockBytes(), s.source.Blocks(), s.source.BlockBytes())
	}
	plan := s.config.Plan
	if n := len(plan.Streamed); n > 0 && s.next%n != 0 {
		return errors.New("blocks cannot be replaced within a pass")
	}
	if s.loader != nil {
		s.loader.stop()
	}
	if err := oneline.Join(s.device.Compute().Drain(), s.stream.Drain(), s.Err()); err != nil {
		return err
	}
	s.keepSpans()
	s.source, s.next = c.Source, 0
	if err := s.loadResidents(ctx, c.Changed); err != nil {
		return err
	}
	switch l := s.loader.(type) {
	case *pinnedLoader:
		return l.refresh(ctx, c)
	case *mappedLoader:
		next := newMappedLoader(s)
		next.ring, next.counting = l.ring, l.counting
		s.loader = next
		return next.start(ctx)
	}
	return nil
}

// refresh patches the host copies and begins anew with the first loads.
func (l *pinnedLoader) refresh(ctx context.Context, c Change) error {
	s := l.swapper
	group, patching := errgroup.WithContext(ctx)
	group.SetLimit(max(1, min(maxReaders, runtime.GOMAXPROCS(0)/2)))
	for _, block := range s.config.Plan.Streamed {
		if c.Changed(block) {
			group.Go(func() error { return c.Patch(patching, block, l.blocks[block].Bytes()[:s.source.BlockBytes()]) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for n := range s.config.Plan.Stream {
		if err := l.submit(n, engine.Point{}); err != nil {
			return err
		}
	}
	return nil
}
