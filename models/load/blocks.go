package load

import (
	"context"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Blocks is a list of groups with one layout, that swap brings to the device one after the other. It is a swap.Source.
type Blocks struct {
	Layout   Group
	prefixes []string
	reader   Reader
}

// NewBlocks lays out blocks whose tensors' names begin with these prefixes. Blocks that are not alike are an error.
func NewBlocks(spec weights.Spec, prefixes []string, r Reader, p Precision) (*Blocks, error) {
	b := &Blocks{prefixes: prefixes, reader: r}
	types := newAlike(spec, prefixes, r)
	for k, prefix := range prefixes {
		g, err := NewGroup(spec, prefix, types, p)
		if err != nil {
			return nil, err
		}
		if k == 0 {
			b.Layout = g
		} else if err := b.Layout.sameLayout(g); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Blocks returns how many there are.
func (b *Blocks) Blocks() int { return len(b.prefixes) }

// BlockBytes returns the bytes of each.
func (b *Blocks) BlockBytes() int64 { return b.Layout.Bytes }

// Block returns the group of block i alone.
func (b *Blocks) Block(i int) Group {
	g := b.Layout
	g.Prefix = b.prefixes[i]
	return g
}

// Read packs block i into dst.
func (b *Blocks) Read(ctx context.Context, i int, dst []byte) error {
	return b.Layout.Read(ctx, b.reader, b.prefixes[i], dst)
}
