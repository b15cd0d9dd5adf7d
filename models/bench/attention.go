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
}

// sparseBlock is the number of tokens in a block of block-sparse attention.
const sparseBlock = 64

// sparseAttention measures attention over a part of the blocks, drawn anew for each block of queries. Choosing them, which NABLA does by
// the network's own queries and keys, is not measured; operations are those of the blocks that are computed.
func sparseAttention(o KernelOptions, half bool, z AttentionShape) kernelCase {
	blocks := z.Keys / sparseBlock
	kept := max(1, int(z.Kept*float64(blocks)+0.5))
	act := o.Precision.Activation()
	var counts, indices engine.Tensor
	return kernelCase{
		name: z.Name, shape: fmt.Sprintf("%d×%d×%d×%d, %d of %d blocks", z.Heads, z.Queries, z.Keys, z.HeadDim, kept, blocks),
		operations: 4 * float64(z.Heads) * float64(z.Queries) * float64(kept*sparseBlock) * float64(z.HeadDim),
		prepare: func(a *engine.Arena) (func(*engine.Stream), []engine.Tensor) {
			counts, indices = a.Alloc("counts", engine.U32, z.Heads, blocks), a.Alloc("indices", engine.U32, z.Heads, blocks, blocks)
			args := attentionArgs(a, act, half, z)
			args.Mode, args.Counts, args.Indices = ops.AttentionBlocks, counts, indices
			return func(s *engine.Stream) { ops.Attention(s, args) }, []engine.Tensor{args.Q, args.K, args.V}
		},
		upload: func(ctx context.Context, d *engine.Device) error { return uploadBlocks(ctx, d, counts, indices, kept) },
	}
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

// Attentions measures attention.
func Attentions(ctx context.Context, d *engine.Device, o KernelOptions, shapes []AttentionShape) (*KernelReport, error) {
	act := o.Precision.Activation()
	half := o.Precision == load.Mixed && d.Caps().Tier >= engine.TierFP16
	var cases []kernelCase
	for _, z := range shapes {
		if z.Kept > 0 {
			cases = append(cases, sparseAttention(o, half, z))
			continue
		}
		cases = append(cases, kernelCase{
			name: z.Name, shape: fmt.Sprintf("%d×%d×%d×%d", z.Heads, z.Queries, z.Keys, z.HeadDim),
			operations: 4 * float64(z.Heads) * float64(z.Queries) * float64(z.Keys) * float64(z.HeadDim),
			prepare: func(a *engine.Arena) (func(*engine.Stream), []engine.Tensor) {
				args := attentionArgs(a, act, half, z)
				return func(s *engine.Stream) { ops.Attention(s, args) }, []engine.Tensor{args.Q, args.K, args.V}
			},
		})
	}
	return runKernels(ctx, d, o, cases)
}
