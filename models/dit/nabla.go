package dit

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// nablaScratchBytes bounds the scratch of sparse attention, which takes some heads at a time; one head's need is taken
// where that is more (107 MB for the longest HD video).
const nablaScratchBytes = 128 << 20

// nablaBlocks returns the grid of blocks of 64 tokens and their number.
func (s Size) nablaBlocks() (grid [3]int, blocks int) {
	g := s.Grid()
	grid = [3]int{g[0], g[1] / 8, g[2] / 8}
	return grid, grid[0] * grid[1] * grid[2]
}

func (c Config) nablaBuffers(size Size, sage bool) []load.Buffer {
	_, blocks := size.nablaBlocks()
	n := c.Heads()
	for n > 1 && 4*ops.NablaAttentionScratch(n, blocks, c.HeadDim(), sage) > nablaScratchBytes {
		n--
	}
	return []load.Buffer{{Label: "sparse attention scratch", DType: engine.F32, Shape: []int{int(ops.NablaAttentionScratch(n, blocks, c.HeadDim(), sage))}}}
}

// attendSparse computes block-sparse attention over prepared heads, the first of which is given, into the workspace h, and may leave anything in q, k and v. mask,
// optional, has all heads.
func (p *Pass) attendSparse(s *engine.Stream, q, k, v, mask engine.Tensor, head int) engine.Tensor {
	grid, _ := p.size.nablaBlocks()
	nabla := p.model.Config.Nabla
	out := p.work.h.Rows(0, q.Dim(1))
	if !mask.IsZero() {
		mask = mask.Rows(head, head+q.Dim(0))
	}
	ops.NablaAttention(s, ops.NablaAttentionArgs{Q: q, K: k, V: v, Out: out, OutHead: head, Grid: grid, P: nabla.P, Window: nabla.Window, Half: p.model.half, Consume: true, Int8: p.model.sage,
		Mask: mask, Scratch: p.work.nabla})
	return out
}

// tracedMask allocates the choice of blocks where it is traced, else none.
func (p *Pass) tracedMask(heads int) (mask engine.Tensor, free func(), err error) {
	if p.tracer == nil || p.model.Config.Nabla == nil {
		return mask, func() {}, nil
	}
	_, blocks := p.size.nablaBlocks()
	mask, err = p.model.device.Alloc("traced mask", engine.U32, heads, blocks, blocks)
	return mask, func() { p.model.device.Free(mask) }, err
}
