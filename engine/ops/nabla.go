package ops

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// NablaBlock is the number of consecutive tokens (in fractal order, an 8x8 patch of one frame) that NABLA keeps or
// drops together.
const NablaBlock = 64

// NablaArgs are the operands of NablaMask. S = Grid[0]·Grid[1]·Grid[2] is the number of blocks.
type NablaArgs struct {
	Q, K   engine.Tensor // [H, 64·S, d], any float types, after norm and rotation, tokens in fractal order
	Grid   [3]int        // T, H'/8, W'/8: frames, rows and columns of blocks
	P      float32       // of each row's probability, at least P is kept
	Window [3]int        // wT, wH, wW: always kept are blocks at most ⌊w/2⌋ away on each axis

	Counts  engine.Tensor // out, U32 [H, S]: kept key blocks per query block
	Indices engine.Tensor // out, U32 [H, S, S]: which, ascending, at the front of each row; the rest is left as it was
	Mask    engine.Tensor // out, U32 [H, S, S], optional: 1 = kept, query block first

	// Scratch is F32, at least NablaScratch(1, S, d) elements; with NablaScratch(n, S, d) n heads go together, which
	// pays where S is small.
	Scratch engine.Tensor
}

// nablaLayout places the block means and scores of some heads in the scratch tensor: element offsets of the means of
// k and of the scores (those of q are at 0), and the total. All are aligned for binding.
func nablaLayout(heads, blocks, dim int) (keys, scores, total int64) {
	means := alignElems(int64(heads) * int64(blocks) * int64(dim))
	return means, 2 * means, 2*means + alignElems(int64(heads)*int64(blocks)*int64(blocks))
}

// alignElems rounds a number of 4-byte elements up to 256 bytes.
func alignElems(n int64) int64 { return (n + 63) &^ 63 }

// NablaScratch returns the elements of NablaArgs.Scratch for so many heads at a time.
func NablaScratch(heads, blocks, dim int) int64 {
	_, _, total := nablaLayout(heads, blocks, dim)
	return total
}

// NablaMask records the choice of key blocks per head and query block (kandinsky-5, kandinsky/models/utils.py,
// nablaT_v2 and fast_sta_nabla): softmax over the scores of block means, sorted ascending; entries whose running sum
// is at least 1−P are kept, and so is the window. Among equal probabilities those with lower indices are dropped first.
//
// Means, scores and softmax are fp32; the running sum is exact on probabilities rounded to multiples of 2⁻³¹, so the
// choice does not depend on an order of summation. The scores exist for a few heads at a time only.
// S is limited by a row in shared memory: 3,798 blocks with 16 KiB, 7,894 with 32 KiB (a 10 s 768x1280 video has
// 3,660). It panics on shapes that do not fit together.
func NablaMask(s *engine.Stream, a NablaArgs) {
	heads, blocks, dim := a.check()
	caps := s.Device().Caps()
	capacity := nablaCapacity(blocks, caps)
	if capacity < blocks {
		s.Fail(fmt.Errorf("ops: nabla: a row of %d blocks does not fit %d bytes of shared memory: use full attention or a smaller video", blocks, caps.MaxSharedBytes))
		return
	}
	batch := a.batch(heads, blocks, dim, caps)
	if batch == 0 {
		s.Fail(fmt.Errorf("ops: nabla: the scores of one head, %d² blocks of 4 bytes, or its %d tokens exceed a binding of %d bytes", blocks, 64*blocks, caps.MaxStorageRange))
		return
	}
	for h := 0; h < heads; h += batch {
		n := min(batch, heads-h)
		keys, scores, _ := nablaLayout(n, blocks, dim)
		means := int64(n) * int64(blocks) * int64(dim)
		q := a.Scratch.View(0, int(means))
		k := a.Scratch.View(keys, int(means))
		matrix := a.Scratch.View(scores, n, blocks, blocks)
		nablaMeans(s, a.Q, q, h, n, blocks, dim)
		nablaMeans(s, a.K, k, h, n, blocks, dim)
		nablaScores(s, q, k, matrix, n, blocks, dim)
		a.sel(s, matrix, h, n, blocks, capacity)
	}
}

func (a NablaArgs) check() (heads, blocks, dim int) {
	bad := func(what string) {
		panic(fmt.Sprintf("ops: nabla: %s: q %v, k %v, grid %v, window %v, P %v, counts %v, indices %v, mask %v, scratch %v",
			what, a.Q, a.K, a.Grid, a.Window, a.P, a.Counts, a.Indices, a.Mask, a.Scratch))
	}
	if len(a.Q.Shape) != 3 || fmt.Sprint(a.Q.Shape) != fmt.Sprint(a.K.Shape) || !a.Q.DType.IsFloat() || !a.K.DType.IsFloat() {
		bad("q and k are not floats of one shape [H, tokens, d]")
	}
	heads, dim = a.Q.Dim(0), a.Q.Dim(2)
	blocks = a.Grid[0] * a.Grid[1] * a.Grid[2]
	if blocks < 1 || a.Q.Dim(1) != NablaBlock*blocks || dim%4 != 0 {
		bad("tokens are not 64 per block of the grid, or channels no multiple of 4")
	}
	words := func(t engine.Tensor, n int64) bool { return t.DType == engine.U32 && !t.IsZero() && t.Elems() == n }
	rows := int64(heads) * int64(blocks)
	if !words(a.Counts, rows) || !words(a.Indices, rows*int64(blocks)) || (!a.Mask.IsZero() && !words(a.Mask, rows*int64(blocks))) {
		bad("outputs are not U32 [H, S] and [H, S, S]")
	}
	if a.Scratch.IsZero() || a.Scratch.DType != engine.F32 || a.Scratch.Elems() < NablaScratch(1, blocks, dim) {
		bad("scratch is too small")
	}
	if !(a.P >= 0 && a.P <= 1) || min(a.Window[0], a.Window[1], a.Window[2]) < 0 {
		bad("P or window out of range")
	}
	return heads, blocks, dim
}

const nablaThreads = 128

// nablaCapacity returns the words of shared memory for a row: blocks rounded up, so that few pipelines are made, where
// there is room. The rest of the shader's shared memory is two words per thread and 33.
func nablaCapacity(blocks int, caps engine.Caps) int {
	room := int(caps.MaxSharedBytes/4) - 2*nablaThreads - 33 - 9 // what drivers may lose to alignment
	return min((blocks+511)/512*512, room)
}

// batch returns how many heads go together, 0 when not even one fits.
func (a NablaArgs) batch(heads, blocks, dim int, caps engine.Caps) int {
	room := bindRoom(caps)
	tokens := int64(NablaBlock*blocks) * int64(dim) * max(a.Q.DType.Size(), a.K.DType.Size())
	matrix := int64(blocks) * int64(blocks) * 4
	fit := min(int64(heads), room/tokens, room/matrix, int64(caps.MaxGroups[1]), int64(caps.MaxGroups[2]))
	cost := 2 * float64(blocks) * float64(blocks) * float64(max(dim, 64))
	fit = min(fit, int64(max(caps.MaxDispatchCost/cost, 1)))
	for fit > 1 && NablaScratch(int(fit), blocks, dim) > a.Scratch.Elems() {
		fit--
	}
	return int(fit)
}

// nablaMeans records the means of every 64 tokens of heads [h, h+n) of x.
func nablaMeans(s *engine.Stream, x, means engine.Tensor, h, n, blocks, dim int) {
	stride := int64(NablaBlock*blocks) * int64(dim)
	view, base := between(s.Device().Caps(), x, int64(h)*stride, int64(h+n)*stride)
	if base%4 != 0 {
		panic(fmt.Sprintf("ops: nabla: %v does not begin at a multiple of four elements", x))
	}
	push := shaders.NablaMeansPush{Base: base, Stride: uint32(stride), Blocks: uint32(blocks), Dim: uint32(dim)}
	s.Dispatch(engine.Call{
		Shader: shaders.NablaMeans, Spec: shaders.NablaMeansSpec{XType: uint32(x.DType)}.Values(),
		Push: push.Append(nil), Bind: []engine.Tensor{view, means}, Label: "nabla means",
		Groups: [3]uint32{uint32(ceilDiv(blocks*dim/4, nablaThreads)), uint32(n), 1},
		Cost:   float64(n) * float64(stride),
	})
}

// nablaScores records the scaled products of all pairs of block means of n heads.
func nablaScores(s *engine.Stream, q, k, scores engine.Tensor, n, blocks, dim int) {
	push := shaders.NablaScoresPush{Blocks: uint32(blocks), Dim: uint32(dim), Scale: float32(1 / math.Sqrt(float64(dim)))}
	tiles := uint32(ceilDiv(blocks, 64))
	s.Dispatch(engine.Call{
		Shader: shaders.NablaScores, Push: push.Append(nil), Bind: []engine.Tensor{q, k, scores}, Label: "nabla scores",
		Groups: [3]uint32{tiles, tiles, uint32(n)},
		Cost:   2 * float64(n) * float64(blocks) * float64(blocks) * float64(dim),
	})
}

// sel records the choice for heads [h, h+n).
func (a NablaArgs) sel(s *engine.Stream, scores engine.Tensor, h, n, blocks, capacity int) {
	caps := s.Device().Caps()
	rows, cells := int64(blocks), int64(blocks)*int64(blocks)
	push := shaders.NablaSelectPush{
		Blocks: uint32(blocks), RowsY: uint32(a.Grid[1]), RowsX: uint32(a.Grid[2]),
		ReachT: uint32(a.Window[0] / 2), ReachY: uint32(a.Window[1] / 2), ReachX: uint32(a.Window[2] / 2),
		Threshold: uint32(math.Ceil((1 - float64(a.P)) * (1 << 31))),
	}
	counts, base := between(caps, a.Counts, int64(h)*rows, int64(h+n)*rows)
	push.CountBase = base
	indices, base := between(caps, a.Indices, int64(h)*cells, int64(h+n)*cells)
	push.IndexBase = base
	mask := a.Mask
	if !mask.IsZero() {
		mask, push.MaskBase = between(caps, a.Mask, int64(h)*cells, int64(h+n)*cells)
	}
	s.Dispatch(engine.Call{
		Shader: shaders.NablaSelect, Spec: shaders.NablaSelectSpec{Threads: nablaThreads, Capacity: uint32(capacity), Mask: !mask.IsZero()}.Values(),
		Push: push.Append(nil), Bind: []engine.Tensor{scores, counts, indices, mask}, Label: "nabla select",
		Groups: [3]uint32{uint32(blocks), uint32(n), 1},
		Cost:   40 * float64(n) * float64(cells), // a pass per bit of the threshold and some more
	})
}
