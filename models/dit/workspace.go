package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// workspace are the activations that branches and blocks use in turn.
type workspace struct {
	patches  engine.Tensor // [N, patch volume · C]
	h        engine.Tensor // [N, D]: normed input of a layer; attention's output, once queries, keys and values exist
	q, k, v  engine.Tensor // [H, N, d]
	tk, tv   engine.Tensor // [H, L, d]: keys and values of the text
	ff       engine.Tensor // [chunk, F]
	mod      engine.Tensor // F32 [9D]
	timeIn   engine.Tensor // F32 [1, D]
	timeMid  engine.Tensor // F32 [1, Td]
	time     engine.Tensor // F32 [1, Td]
	rows     engine.Tensor // F32 [N, 4·C_out]
	scratch  engine.Tensor // U32, for fp16 attention
	nabla    engine.Tensor // F32, scratch of sparse attention
	textRope engine.Tensor // F32 [L, d/2, 2]
	rope     engine.Tensor // F32 [N, d/2, 2], in token order
}

// ffChunkBytes bounds the hidden layer of the feed-forward network, which is cut over tokens: whole it would be the
// largest tensor of all (1.5 GiB for 47,616 tokens of 16,384 features in bf16).
const ffChunkBytes = 256 << 20

// buffers lists the workspace's tensors; patches and output rows are listed where they do not fit into the memory of
// queries and keys, which are not needed at the same time.
func (c Config) buffers(act engine.DType, half bool, size Size, textRows int) []load.Buffer {
	n, d, h := size.Tokens(), c.HeadDim(), c.Heads()
	most := max(n, textRows)
	list := []load.Buffer{
		{Label: "normed", DType: act, Shape: []int{most, c.ModelDim}},
		{Label: "queries", DType: act, Shape: []int{h, most, d}},
		{Label: "keys", DType: act, Shape: []int{h, most, d}},
		{Label: "values", DType: act, Shape: []int{h, most, d}},
		{Label: "text keys", DType: act, Shape: []int{h, textRows, d}},
		{Label: "text values", DType: act, Shape: []int{h, textRows, d}},
		{Label: "feed-forward", DType: act, Shape: []int{ffChunk(act, c.FFDim, most), c.FFDim}},
		{Label: "modulation", DType: engine.F32, Shape: []int{9 * c.ModelDim}},
		{Label: "time input", DType: engine.F32, Shape: []int{1, c.ModelDim}},
		{Label: "time hidden", DType: engine.F32, Shape: []int{1, c.TimeDim}},
		{Label: "time", DType: engine.F32, Shape: []int{1, c.TimeDim}},
		{Label: "text rotations", DType: engine.F32, Shape: []int{textRows, d / 2, 2}},
		{Label: "rotations", DType: engine.F32, Shape: []int{n, d / 2, 2}},
	}
	if half {
		list = append(list, load.Buffer{Label: "attention scratch", DType: engine.U32, Shape: []int{ops.AttentionScratch(h, h)}})
	}
	if c.Nabla != nil {
		list = append(list, c.nablaBuffers(size)...)
	}
	for _, b := range []load.Buffer{c.patches(act, n), c.outputRows(n)} {
		if b.Bytes() > list[1].Bytes() {
			list = append(list, b)
		}
	}
	return list
}

func (c Config) patches(act engine.DType, tokens int) load.Buffer {
	return load.Buffer{Label: "patches", DType: act, Shape: []int{tokens, c.PatchVolume() * c.InputChannels()}}
}

func (c Config) outputRows(tokens int) load.Buffer {
	return load.Buffer{Label: "output rows", DType: engine.F32, Shape: []int{tokens, c.PatchVolume() * c.OutVisualDim}}
}

// branchBuffers lists a branch's tensors. The visual stream, in fp32 the largest of all, is cut over tokens into pieces
// that one allocation can hold.
func (c Config) branchBuffers(act engine.DType, size Size, textRows int, masked bool, maxAllocation int64) []load.Buffer {
	list := []load.Buffer{
		{Label: "embedded prompt", DType: engine.F32, Shape: []int{textRows, c.ModelDim}},
		{Label: "pooled prompt", DType: engine.F32, Shape: []int{c.TimeDim}},
		{Label: "conditioning", DType: engine.F32, Shape: []int{c.TimeDim}},
		{Label: "activated conditioning", DType: engine.F32, Shape: []int{c.TimeDim}},
		{Label: "text stream", DType: engine.F32, Shape: []int{textRows, c.ModelDim}},
		{Label: "text context", DType: act, Shape: []int{textRows, c.ModelDim}},
		{Label: "velocity", DType: engine.F32, Shape: []int{size.Frames, size.Height, size.Width, c.OutVisualDim}},
	}
	if masked {
		list = append(list, load.Buffer{Label: "text mask", DType: engine.U32, Shape: []int{textRows}})
	}
	return append(list, c.streamBuffers(size.Tokens(), maxAllocation)...)
}

// streamBuffers lists the pieces of the visual stream, all but the last of a multiple of 64 tokens, so that cuts of
// other tensors at the same tokens are aligned.
func (c Config) streamBuffers(tokens int, maxAllocation int64) []load.Buffer {
	piece := tokens
	if row := 4 * int64(c.ModelDim); maxAllocation > 0 && row*int64(tokens) > maxAllocation {
		piece = max(64, int(maxAllocation/row)/64*64)
	}
	var list []load.Buffer
	for at := 0; at < tokens; at += piece {
		list = append(list, load.Buffer{Label: streamLabel(len(list)), DType: engine.F32, Shape: []int{min(piece, tokens-at), c.ModelDim}})
	}
	return list
}

func streamLabel(piece int) string {
	if piece == 0 {
		return "visual stream"
	}
	return fmt.Sprintf("visual stream, piece %d", piece+1)
}

// stream is a tensor [rows, D] in pieces of whole rows.
type stream []engine.Tensor

func (s stream) rows() int {
	n := 0
	for _, piece := range s {
		n += rows(piece)
	}
	return n
}

// each calls f with every piece and the rows [from, to) of the whole that it holds.
func (s stream) each(f func(piece engine.Tensor, from, to int)) {
	from := 0
	for _, piece := range s {
		to := from + rows(piece)
		f(piece, from, to)
		from = to
	}
}

// tensors are allocated buffers by label.
type tensors map[string]engine.Tensor

func allocAll(a *engine.Arena, list []load.Buffer) tensors {
	out := tensors{}
	for _, b := range list {
		out[b.Label] = b.Alloc(a)
	}
	return out
}

func (w *workspace) alloc(a *engine.Arena, m *Model, size Size, textRows int) {
	t := allocAll(a, m.Config.buffers(m.act, m.half, size, textRows))
	*w = workspace{
		h: t["normed"], q: t["queries"], k: t["keys"], v: t["values"], tk: t["text keys"], tv: t["text values"], ff: t["feed-forward"],
		mod: t["modulation"], timeIn: t["time input"], timeMid: t["time hidden"], time: t["time"], scratch: t["attention scratch"],
		textRope: t["text rotations"], rope: t["rotations"], nabla: t["sparse attention scratch"],
		patches: t.within("queries", m.Config.patches(m.act, size.Tokens())), rows: t.within("keys", m.Config.outputRows(size.Tokens())),
	}
}

// stream collects the pieces of the visual stream.
func (t tensors) stream() stream {
	var out stream
	for {
		piece, ok := t[streamLabel(len(out))]
		if !ok {
			return out
		}
		out = append(out, piece)
	}
}

// within returns a buffer in the memory of another tensor that is not needed at the same time, or its own where it has
// one.
func (t tensors) within(over string, b load.Buffer) engine.Tensor {
	if own, ok := t[b.Label]; ok {
		return own
	}
	return engine.Tensor{Mem: t[over].Mem, Offset: t[over].Offset, DType: b.DType, Shape: b.Shape}
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
