package dit

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// workspace are the activations that branches and blocks use in turn.
type workspace struct {
	patches   engine.Tensor // [N, patch volume · C]
	h         engine.Tensor // [N, D]: normed input of a layer; attention's output, once queries, keys and values exist
	q, k, v   engine.Tensor // [H, N, d]
	tk, tv    engine.Tensor // [H, L, d]: keys and values of the text
	ff        engine.Tensor // [chunk, F]
	mod       engine.Tensor // F32 [9D]
	timeIn    engine.Tensor // F32 [1, D]
	timeMid   engine.Tensor // F32 [1, Td]
	time      engine.Tensor // F32 [1, Td]
	rows      engine.Tensor // F32 [N, 4·C_out]
	scratch   engine.Tensor // U32, for fp16 attention
	nabla     nablaSpace
	ffChunk   int
	headMajor [3]int // of q, k, v
}

// ffChunkBytes bounds the hidden layer of the feed-forward network, which is cut over tokens: whole it would be the
// largest tensor of all (1.5 GiB for 47,616 tokens of 16,384 features in bf16).
const ffChunkBytes = 256 << 20

func (w *workspace) alloc(a *engine.Arena, m *Model, size Size, textRows int) {
	c := m.Config
	n, d := size.Tokens(), c.HeadDim()
	w.ffChunk = ffChunk(m.act, c.FFDim, max(n, textRows))
	w.headMajor = [3]int{c.Heads(), n, d}
	w.h = a.Alloc("normed", m.act, max(n, textRows), c.ModelDim)
	w.q = a.Alloc("queries", m.act, c.Heads(), max(n, textRows), d)
	w.k = a.Alloc("keys", m.act, c.Heads(), max(n, textRows), d)
	w.v = a.Alloc("values", m.act, c.Heads(), max(n, textRows), d)
	w.tk = a.Alloc("text keys", m.act, c.Heads(), textRows, d)
	w.tv = a.Alloc("text values", m.act, c.Heads(), textRows, d)
	w.ff = a.Alloc("feed-forward", m.act, w.ffChunk, c.FFDim)
	w.mod = a.Alloc("modulation", engine.F32, 9*c.ModelDim)
	w.timeIn = a.Alloc("time", engine.F32, 1, c.ModelDim)
	w.timeMid = a.Alloc("time", engine.F32, 1, c.TimeDim)
	w.time = a.Alloc("time", engine.F32, 1, c.TimeDim)
	if m.half {
		w.scratch = a.Alloc("attention scratch", engine.U32, ops.AttentionScratch(c.Heads(), c.Heads()))
	}
	// Patches and the output's rows are needed only outside the blocks, where queries and keys are not.
	w.patches = shared(a, w.q, "patches", m.act, n, c.PatchVolume()*c.InputChannels())
	w.rows = shared(a, w.k, "output rows", engine.F32, n, c.PatchVolume()*c.OutVisualDim)
	w.nabla.alloc(a, m, size)
}

// shared returns a tensor in the memory of another one that is not needed at the same time, or memory of its own where
// that is too small.
func shared(a *engine.Arena, over engine.Tensor, label string, dt engine.DType, shape ...int) engine.Tensor {
	t := engine.Tensor{Mem: over.Mem, Offset: over.Offset, DType: dt, Shape: shape}
	if over.IsZero() || t.Bytes() > over.Bytes() {
		return a.Alloc(label, dt, shape...)
	}
	return t
}

// ffChunk returns how many tokens go through the feed-forward network at a time: a multiple of 64, so that cuts are
// aligned.
func ffChunk(act engine.DType, ffDim, tokens int) int {
	chunk := max(64, int(ffChunkBytes/(int64(ffDim)*act.Size()))/64*64)
	return min(chunk, tokens)
}

// heads returns the first n rows of every head of a head-major workspace tensor: [H, n, d], packed.
func heads(t engine.Tensor, n int) engine.Tensor {
	return t.View(0, t.Dim(0), n, t.Dim(2))
}
