package dit

import (
	"context"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Reload takes the weights from another reader, which gives tensors of the same shapes and types, and reads those that changed.
// The memory stays where it is. No pass of the model may be open. After an error the model must be closed.
func (m *Model) Reload(ctx context.Context, r load.Reader, changed func(name string) bool) error {
	m.reader = r // text blocks are read with every pass
	next := m.visual.with(r)
	err := m.visual.swap.Refresh(ctx, swap.Change{
		Source:  next.source(),
		Changed: func(i int) bool { return next.blocks.Block(i).Has(changed) },
		Patch:   func(ctx context.Context, i int, dst []byte) error { return next.source().Patch(ctx, i, dst, changed) },
	})
	if err != nil {
		return err
	}
	m.visual = next
	if group := m.outer.Group(); group.Has(changed) {
		return m.outer.Refill(ctx, m.device, r, outerLabel)
	}
	return nil
}
