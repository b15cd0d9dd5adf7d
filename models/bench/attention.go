package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// AttentionShape is attention of Heads heads.
type AttentionShape struct {
	Name                          string
	Heads, Queries, Keys, HeadDim int
	Kept                          float64 // of the blocks of 64 keys; 0: full attention
	Cross                         bool    // to other tokens, which is never computed by signed bytes
}

// sage tells whether scores are products of signed bytes.
func (o KernelOptions) sage(z AttentionShape) bool {
	return o.Attention == load.AttentionSage && !z.Cross
}

// named is a shape's name with how it is computed.
func (o KernelOptions) named(z AttentionShape) string {
	if o.sage(z) {
		return z.Name + ", sage"
	}
	return z.Name
}

// sparseBlock is the number of tokens in a block of block-sparse attention.
const sparseBlock = 64

// sparseAttention measures attention over a part of the blocks, drawn anew for each block of queries. Choosing them, which NABLA does by
// the network's own queries and keys, is not measured; operations are those of the blocks that are computed.
func sparseAttention(o KernelOptions, half bool, z AttentionShape) *kernelCase {
	blocks := z.Keys / sparseBlock
	kept := max(1, int(z.Kept*float64(blocks)+0.5))
	act := o.Precision.Activation()
	var counts, indices engine.Tensor
	c := &kernelCase{
		name: o.named(z), sage: o.sage(z), shape: fmt.Sprintf("%d×%d×%d×%d, %d of %d blocks", z.Heads, z.Queries, z.Keys, z.HeadDim, kept, blocks),
		operations: 4 * float64(z.Heads) * float64(z.Queries) * float64(kept*sparseBlock) * float64(z.HeadDim),
		upload:     func(ctx context.Context, d *engine.Device) error { return uploadBlocks(ctx, d, counts, indices, kept) },
	}
	c.prepare = func(a *engine.Arena) (func(*engine.Stream), []engine.Tensor) {
		counts, indices = a.Alloc("counts", engine.U32, z.Heads, blocks), a.Alloc("indices", engine.U32, z.Heads, blocks, blocks)
		args := attentionArgs(a, act, half, z)
		args.Mode, args.Counts, args.Indices = ops.AttentionBlocks, counts, indices
		return c.recorded(a, args)
	}
	return c
}

// recorded returns the attention as work, and what is to be filled. Where queries and keys are rounded in place, they are restored each time: bytes
// read as numbers again would be none.
func (c *kernelCase) recorded(a *engine.Arena, args ops.AttentionArgs) (func(*engine.Stream), []engine.Tensor) {
	work, fill := func(s *engine.Stream) { ops.Attention(s, args) }, []engine.Tensor{args.Q, args.K, args.V}
	if !c.sage {
		return work, fill
	}
	args.Int8 = true
	heads, dim := args.Q.Dim(0), args.Q.Dim(2)
	args.Scratch = a.Alloc("scratch", engine.U32, ops.AttentionInt8Scratch(heads, heads, dim))
	q, k := a.Alloc("q again", args.Q.DType, args.Q.Shape...), a.Alloc("k again", args.K.DType, args.K.Shape...)
	c.restore = func(s *engine.Stream) {
		s.Copy(args.Q, q)
		s.Copy(args.K, k)
	}
	return work, []engine.Tensor{q, k, args.V}
}

// uploadBlocks draws kept of a row's blocks, in order, for every row.
func uploadBlocks(ctx context.Context, d *engine.Device, counts, indices engine.Tensor, kept int) error {
	blocks := indices.Dim(-1)
	rng := rand.New(rand.NewPCG(64, uint64(blocks)))
	list, words := make([]uint32, counts.Elems()), make([]uint32, indices.Elems())
	for row := range list {
		list[row] = uint32(kept)
		drawn := rng.Perm(blocks)[:kept]
		slices.Sort(drawn)
		for i, b := range drawn {
			words[row*blocks+i] = uint32(b)
		}
	}
	if err := d.UploadU32(ctx, counts, list); err != nil {
		return err
	}
	return d.UploadU32(ctx, indices, words)
}

// attentionArgs allocates the operands of an attention.
func attentionArgs(a *engine.Arena, act engine.DType, half bool, z AttentionShape) ops.AttentionArgs {
	args := ops.AttentionArgs{Half: half, Consume: true, Q: a.Alloc("q", act, z.Heads, z.Queries, z.HeadDim), K: a.Alloc("k", act, z.Heads, z.Keys, z.HeadDim),
		V: a.Alloc("v", act, z.Heads, z.Keys, z.HeadDim), Out: a.Alloc("out", act, z.Queries, z.Heads*z.HeadDim)}
	if half {
		args.Scratch = a.Alloc("scratch", engine.U32, ops.AttentionScratch(z.Heads, z.Heads))
	}
	return args
}

// fullAttention measures attention to all keys.
func fullAttention(o KernelOptions, half bool, z AttentionShape) *kernelCase {
	c := &kernelCase{
		name: o.named(z), sage: o.sage(z), shape: fmt.Sprintf("%d×%d×%d×%d", z.Heads, z.Queries, z.Keys, z.HeadDim),
		operations: 4 * float64(z.Heads) * float64(z.Queries) * float64(z.Keys) * float64(z.HeadDim),
	}
	c.prepare = func(a *engine.Arena) (func(*engine.Stream), []engine.Tensor) {
		return c.recorded(a, attentionArgs(a, o.Precision.Activation(), half, z))
	}
	return c
}

// Attentions measures attention.
func Attentions(ctx context.Context, d *engine.Device, o KernelOptions, shapes []AttentionShape) (*KernelReport, error) {
	half := o.Precision == load.Mixed && d.Caps().Tier >= engine.TierFP16
	var cases []*kernelCase
	for _, z := range shapes {
		if z.Kept > 0 {
			cases = append(cases, sparseAttention(o, half, z))
			continue
		}
		cases = append(cases, fullAttention(o, half, z))
	}
	return runKernels(ctx, d, o, cases)
}
