package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
)

// NablaAttentionArgs are the operands of NablaAttention.
type NablaAttentionArgs struct {
	Q, K, V engine.Tensor // [H, 64·S, d], any float types, tokens in fractal order
	Out     engine.Tensor // [64·S, Hout, d], of which heads from OutHead on are written
	OutHead int
	Scale   float32 // of the attention scores; 0 means 1/√d (the choice of blocks always uses 1/√d)
	Grid    [3]int  // as NablaArgs
	P       float32
	Window  [3]int
	Half    bool          // multiply in fp16, as AttentionArgs
	Consume bool          // q, k and v are not needed any more, as AttentionArgs
	Int8    bool          // scores of signed bytes, as AttentionArgs; blocks are chosen by q and k as they were
	Mask    engine.Tensor // out, U32 [H, S, S], optional

	// Scratch is F32, at least NablaAttentionScratch(1, S, d, Int8) elements; with NablaAttentionScratch(n, S, d, Int8) n heads go
	// together. A head takes about 8·S² bytes: 107 MB at S = 3,660.
	Scratch engine.Tensor
}

// nablaAttentionLayout returns the offsets of the parts of NablaAttentionArgs.Scratch: the scratch of NablaMask at 0,
// counts, indices, the scratch of Attention, and the total.
func nablaAttentionLayout(heads, blocks, dim int, bytes bool) (counts, indices, peaks, total int64) {
	rows := int64(heads) * int64(blocks)
	counts = NablaScratch(heads, blocks, dim)
	indices = counts + alignElems(rows)
	peaks = indices + alignElems(rows*int64(blocks))
	return counts, indices, peaks, peaks + alignElems(int64(nablaAttentionWords(heads, dim, bytes)))
}

// nablaAttentionWords is the scratch of the attention itself.
func nablaAttentionWords(heads, dim int, bytes bool) int {
	if bytes {
		return AttentionInt8Scratch(heads, heads, dim)
	}
	return AttentionScratch(heads, heads)
}

// NablaAttentionScratch returns the elements of NablaAttentionArgs.Scratch for so many heads at a time, with scores of signed bytes or without.
func NablaAttentionScratch(heads, blocks, dim int, bytes bool) int64 {
	_, _, _, total := nablaAttentionLayout(heads, blocks, dim, bytes)
	return total
}

// NablaAttention records NABLA's choice of blocks and the attention over them, as many heads at a time as the scratch
// tensor holds: the lists of all heads would take gigabytes for a long HD video. The result does not depend on the
// size of the scratch tensor. It panics on shapes that do not fit together.
func NablaAttention(s *engine.Stream, a NablaAttentionArgs) {
	if len(a.Q.Shape) != 3 || a.Scratch.IsZero() || a.Scratch.DType != engine.F32 {
		panic(fmt.Sprintf("ops: nabla attention: q %v, scratch %v", a.Q, a.Scratch))
	}
	heads, dim := a.Q.Dim(0), a.Q.Dim(2)
	blocks := a.Grid[0] * a.Grid[1] * a.Grid[2]
	batch := heads
	for batch > 1 && NablaAttentionScratch(batch, blocks, dim, a.Int8) > a.Scratch.Elems() {
		batch--
	}
	if need := NablaAttentionScratch(batch, blocks, dim, a.Int8); need > a.Scratch.Elems() {
		panic(fmt.Sprintf("ops: nabla attention: scratch %v, one head of %d blocks and %d channels needs %d", a.Scratch, blocks, dim, need))
	}
	for h := 0; h < heads; h += batch {
		n := min(batch, heads-h)
		countsAt, indicesAt, peaksAt, _ := nablaAttentionLayout(n, blocks, dim, a.Int8)
		words := func(from int64, shape ...int) engine.Tensor {
			t := a.Scratch.View(from, shape...)
			t.DType = engine.U32
			return t
		}
		counts, indices := words(countsAt, n, blocks), words(indicesAt, n, blocks, blocks)
		mask := a.Mask
		if !mask.IsZero() {
			mask = mask.Rows(h, h+n)
		}
		NablaMask(s, NablaArgs{
			Q: a.Q.Rows(h, h+n), K: a.K.Rows(h, h+n), Grid: a.Grid, P: a.P, Window: a.Window,
			Counts: counts, Indices: indices, Mask: mask, Scratch: a.Scratch.View(0, int(countsAt)),
		})
		Attention(s, AttentionArgs{
			Q: a.Q.Rows(h, h+n), K: a.K.Rows(h, h+n), V: a.V.Rows(h, h+n), Out: a.Out, OutHead: a.OutHead + h, Scale: a.Scale,
			Mode: AttentionBlocks, Counts: counts, Indices: indices, Half: a.Half, Consume: a.Consume, Int8: a.Int8,
			Scratch: words(peaksAt, nablaAttentionWords(n, dim, a.Int8)),
		})
	}
}
