package load

import (
	"context"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Blocks is a list of groups with one layout, that swap brings to the device one after the other. It is a swap.Source.
type Blocks struct {
	Layout   Group
	plain    Group // without factors of products
	prefixes []string
	reader   Reader
	rounding *Rounding
}

// NewBlocks lays out blocks whose tensors' names begin with these prefixes. Blocks that are not alike are an error.
func NewBlocks(spec weights.Spec, prefixes []string, r Reader, p Precision) (*Blocks, error) {
	return NewRoundedBlocks(spec, prefixes, r, p, LinearFull)
}

// NewRoundedBlocks is NewBlocks with the weights of linear layers in the numbers that linear says.
func NewRoundedBlocks(spec weights.Spec, prefixes []string, r Reader, p Precision, linear Linear) (*Blocks, error) {
	rounding, types := &Rounding{}, newAlike(spec, prefixes, r)
	return newBlocks(prefixes, r, rounding, func(prefix string) (Group, error) {
		return newGroup(spec, prefix, types, p, noFold, noNF4, linear, rounding)
	})
}

func newBlocks(prefixes []string, r Reader, rounding *Rounding, group func(prefix string) (Group, error)) (*Blocks, error) {
	b := &Blocks{prefixes: prefixes, reader: r, rounding: rounding}
	for k, prefix := range prefixes {
		g, err := group(prefix)
		if err != nil {
			return nil, err
		}
		if k == 0 {
			b.Layout = g
		} else if err := b.Layout.sameLayout(g); err != nil {
			return nil, err
		}
	}
	b.plain = b.Layout
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

// Rounding tells how much rounding to bytes has changed the weights that were read.
func (b *Blocks) Rounding() RoundingReport { return b.rounding.Report() }

// Read packs block i into dst.
func (b *Blocks) Read(ctx context.Context, i int, dst []byte) error {
	return b.Layout.Read(ctx, b.reader, b.prefixes[i], dst)
}

// Patch reads those tensors of block i that changed over its old bytes.
func (b *Blocks) Patch(ctx context.Context, i int, dst []byte, changed func(name string) bool) error {
	return b.Layout.readSome(ctx, b.reader, b.prefixes[i], dst, changed)
}
