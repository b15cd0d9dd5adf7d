package swap

import (
	"context"
	"errors"
	"fmt"

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
// are at hand, in pinned memory, and read where they are not: the residents, and all blocks that pass through a ring. It is for
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
		return l.refresh(ctx, c)
	}
	return nil
}
