package load

import (
	"context"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// Adapted is a Reader whose matrices are stored ones plus products of low rank, W + B·A, as low-rank adapters make them. Read
// gives sums. Blocks may instead take both parts to the device and add them there (Blocks.Adapt).
type Adapted interface {
	Reader
	// Base gives the stored matrices.
	Base() Reader
	// Rank is that of a matrix's product, 0 where there is none.
	Rank(name string) int
	// ReadFactor writes a factor of the product of a matrix of this shape, [out, in], with rank columns, at least Rank, of
	// which those beyond Rank are zero: B, [out, rank], or the transpose of A, [in, rank]. Errors name the file.
	ReadFactor(ctx context.Context, name string, shape []int, f Factor, rank int, to engine.DType, dst []byte) error
}

// Factor is one of the two of a product B·A.
type Factor int

// The factors.
const (
	NoFactor Factor = iota
	FactorB
	FactorA
)

// suffix ends the name of the entry of a factor, behind that of its matrix.
func (f Factor) suffix() string { return [...]string{"", " B", " A"}[f] }

// rankUnit divides the ranks of factors on the device, so that every kernel takes them.
const rankUnit = 32

// unmerged reads the stored matrices, and factors.
type unmerged struct{ Adapted }

func (u unmerged) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	return u.Base().Read(ctx, name, shape, to, dst)
}

func (u unmerged) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	return ReadRows(ctx, u.Base(), name, shape, from, count, to, dst)
}

func (u unmerged) ReadInt8(ctx context.Context, name string, shape []int, run int, codes, scales []byte) (bool, error) {
	if c, ok := u.Base().(CodeReader); ok {
		return c.ReadInt8(ctx, name, shape, run, codes, scales)
	}
	return false, nil
}

// Adapt returns the same blocks as another reader gives them, which must give tensors of the same types. With beside, products
// of an Adapted reader travel with the blocks as factors, for Merge to add them on the device; without, or where matrices are
// rounded to bytes, the reader adds them.
func (b *Blocks) Adapt(r Reader, beside bool) *Blocks {
	other := *b
	other.reader, other.Layout = r, b.plain
	adapted, ok := r.(Adapted)
	if !ok || !beside {
		return &other
	}
	var factors []Entry
	for _, e := range b.plain.Entries {
		rank := 0
		for _, prefix := range b.prefixes {
			rank = max(rank, adapted.Rank(prefix+e.Name))
		}
		switch {
		case rank == 0:
			continue
		case e.rounding != nil:
			return &other
		}
		rank = (rank + rankUnit - 1) / rankUnit * rankUnit
		factors = append(factors, e.factor(FactorB, rank), e.factor(FactorA, rank))
	}
	other.Layout = b.plain.plus(factors)
	other.reader = unmerged{adapted}
	return &other
}

// factor is the entry of a factor of a matrix's product.
func (e Entry) factor(f Factor, rank int) Entry {
	shape := []int{e.File[f-FactorB], rank} // B has as many rows as the matrix, A transposed as many as it has columns
	out := Entry{Name: e.Name + f.suffix(), Shape: shape, File: shape, DType: e.DType, product: f, matrix: e.Name, of: e.File}
	if e.DType == engine.F16 {
		out.DType = engine.BF16 // factors may be smaller than fp16 can say
	}
	return out
}

// plus returns a group with more entries behind its own.
func (g Group) plus(more []Entry) Group {
	out := Group{Prefix: g.Prefix, Entries: slices.Clone(g.Entries), Bytes: g.Bytes, index: map[string]int{}}
	for _, e := range more {
		e.Offset = out.Bytes
		out.Entries = append(out.Entries, e)
		out.Bytes += (e.Bytes() + alignment - 1) &^ (alignment - 1)
	}
	for k, e := range out.Entries {
		out.index[e.Name] = k
	}
	return out
}

// SameLayout says whether two lists of blocks lie in memory alike.
func (b *Blocks) SameLayout(o *Blocks) bool {
	return len(b.prefixes) == len(o.prefixes) && b.Layout.sameLayout(o.Layout) == nil && b.Layout.Bytes == o.Layout.Bytes
}

// Merge records the addition of products to the matrices of a block that was just brought to the device, or to those of them
// that were just unpacked. Sums are in fp32 and rounded once.
func (p Params) Merge(s *engine.Stream, fresh, half bool) {
	for k, e := range p.group.Entries {
		if e.product != FactorB {
			continue
		}
		unpacked := false
		if p.packed != nil {
			_, unpacked = p.packed.at(p.group.index[e.matrix])
		}
		if !fresh && !unpacked {
			continue
		}
		a := p.group.Entries[k+1]
		ops.Matmul(s, ops.MatmulArgs{X: p.Get(e.Name), W: p.Get(a.Name), Y: p.Get(e.matrix), Add: true, Half: half})
	}
}
