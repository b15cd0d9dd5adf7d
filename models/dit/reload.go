package dit

import (
	"context"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Reload takes the weights from another reader, which gives tensors of the same shapes and types, and reads those that changed.
// The memory stays where it is, unless adapters that are added on the device take more or less beside the blocks: then all
// blocks are read. No pass of the model may be open. After an error the model must be closed.
func (m *Model) Reload(ctx context.Context, r load.Reader, changed func(name string) bool) error {
	m.reader = r // text blocks are read with every pass
	var err error
	if next := m.visual.blocks.Adapt(r, m.held.adaptsOnDevice()); next.SameLayout(m.visual.blocks) {
		err = m.refresh(ctx, next, changed)
	} else {
		err = m.rebuild(ctx, next, m.held)
	}
	if err != nil {
		return err
	}
	if group := m.outer.Group(); group.Has(changed) {
		return m.outer.Refill(ctx, m.device, r, outerLabel)
	}
	return nil
}

// refresh takes the blocks from others of the same layout.
func (m *Model) refresh(ctx context.Context, blocks *load.Blocks, changed func(name string) bool) error {
	next := *m.visual
	next.blocks = blocks
	var err error
	if next.packed, err = m.held.pack(blocks); err != nil {
		return err
	}
	err = m.visual.swap.Refresh(ctx, swap.Change{
		Source:  next.source(),
		Changed: func(i int) bool { return blocks.Block(i).Has(changed) },
		Patch:   func(ctx context.Context, i int, dst []byte) error { return next.source().Patch(ctx, i, dst, changed) },
	})
	if err == nil {
		m.visual = &next
	}
	return err
}
