package dit

import (
	"fmt"

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

func (c Config) nablaBuffers(size Size) []load.Buffer {
	_, blocks := size.nablaBlocks()
	n := c.Heads()
	for n > 1 && 4*ops.NablaAttentionScratch(n, blocks, c.HeadDim()) > nablaScratchBytes {
		n--
	}
	return []load.Buffer{{Label: "sparse attention scratch", DType: engine.F32, Shape: []int{int(ops.NablaAttentionScratch(n, blocks, c.HeadDim()))}}}
}

// attendSparse computes block-sparse attention into the workspace h.
func (p *Pass) attendSparse(s *engine.Stream, branch, block int, q, k, v engine.Tensor) (engine.Tensor, error) {
	grid, blocks := p.size.nablaBlocks()
	nabla, half := p.model.Config.Nabla, p.model.half
	out := p.work.h.Rows(0, q.Dim(1))
	args := ops.NablaAttentionArgs{Q: q, K: k, V: v, Out: out, Grid: grid, P: nabla.P, Window: nabla.Window, Half: half, Scratch: p.work.nabla}
	if p.tracer == nil {
		ops.NablaAttention(s, args)
		return out, s.Err()
	}
	mask, err := p.model.device.Alloc("traced mask", engine.U32, q.Dim(0), blocks, blocks)
	if err != nil {
		return out, err
	}
	defer p.model.device.Free(mask)
	args.Mask = mask
	ops.NablaAttention(s, args)
	return out, p.trace(branch, fmt.Sprintf("nabla_mask.%d", block), mask)
}
