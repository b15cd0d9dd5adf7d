package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// workspace are the activations that branches and visual blocks use in turn.
type workspace struct {
	blockWork
	patches engine.Tensor // [N, patch volume · C]
	tk, tv  engine.Tensor // [H, L, d]: keys and values of the text
	rows    engine.Tensor // F32 [N, 4·C_out]
	nabla   engine.Tensor // F32, scratch of sparse attention
	rope    engine.Tensor // F32 [N, d/2, 2], in token order
}

// ffChunkBytes bounds the hidden layer of the feed-forward network, which is cut over tokens: whole it would be the
// largest tensor of all (1.5 GiB for 47,616 tokens of 16,384 features in bf16).
const ffChunkBytes = 256 << 20

// buffers lists the workspace's tensors; patches, output rows and the hidden layer of the feed-forward network are listed
// where they do not fit into the memory of queries and keys, which are not needed at the same time.
//
// With several groups of heads queries, keys and values exist for one group at a time, and the normed input they are computed
// from for some tokens at a time. The results are the same bits.
func (c Config) buffers(act engine.DType, half, packs bool, linear load.Linear, size Size, textRows, groups int) []load.Buffer {
	n, d, h := size.Tokens(), c.HeadDim(), c.Heads()
	list := []load.Buffer{
		{Label: "normed", DType: act, Shape: []int{c.normedRows(n, packs), c.ModelDim}},
		{Label: "queries", DType: act, Shape: []int{h / groups, queryRows(n, groups, packs), d}},
		{Label: "keys", DType: act, Shape: []int{h / groups, n, d}},
		{Label: "values", DType: act, Shape: []int{h / groups, n, d}},
		{Label: "text keys", DType: act, Shape: []int{h, textRows, d}},
		{Label: "text values", DType: act, Shape: []int{h, textRows, d}},
		{Label: "modulation", DType: engine.F32, Shape: []int{9 * c.ModelDim}},
		{Label: "rotations", DType: engine.F32, Shape: []int{n, d / 2, 2}},
	}
	if half {
		list = append(list, load.Buffer{Label: "attention scratch", DType: engine.U32, Shape: []int{ops.AttentionScratch(h, h)}})
	}
	if c.Nabla != nil {
		list = append(list, c.nablaBuffers(size)...)
	}
	if linear == load.LinearInt8 {
		list = append(list, c.roundedBuffers(act, n, textRows, groups)...)
	}
	if groups > 1 {
		list = append(list, load.Buffer{Label: "normed piece", DType: act, Shape: []int{packedRows(pieceRows(n, groups), packs), c.ModelDim}})
	}
	for _, b := range []load.Buffer{c.patches(act, n), c.outputRows(n), c.hidden(act, n, groups, packs)} {
		if b.Bytes() > list[2].Bytes() { // the keys, which are never larger than the queries
			list = append(list, b)
		}
	}
	return list
}

func (c Config) patches(act engine.DType, tokens int) load.Buffer {
	return load.Buffer{Label: "patches", DType: act, Shape: []int{tokens, c.PatchVolume() * c.InputChannels()}}
}

// hidden is as large as the queries of a group, where there are several.
func (c Config) hidden(act engine.DType, tokens, groups int, packs bool) load.Buffer {
	chunk := ffChunk(act, c.FFDim, tokens)
	if groups > 1 {
		chunk = min(chunk, wholeTiles(tokens*c.ModelDim/groups/c.FFDim))
	}
	return load.Buffer{Label: "feed-forward", DType: act, Shape: []int{packedRows(chunk, packs), c.FFDim}}
}

// pieceRows returns how many tokens are projected at a time where heads are cut into groups.
func pieceRows(tokens, groups int) int {
	return min(tokens, wholeTiles((tokens+2*groups-1)/(2*groups)+63))
}

// wholeTiles rounds down to a multiple of 64 rows, from 128 on.
func wholeTiles(rows int) int { return max(128, rows/64*64) }

// fewRows is the most rows that linear layers compute in another way than many (ops.MatmulArgs.Half).
const fewRows = 8

// cutRows calls f with the rows [from, to) of pieces that cover n rows. A piece has as many rows as there may be at a time, but
// the last two are such that neither has so few that it would be computed in another way.
func cutRows(n, atATime int, f func(from, to int)) {
	for from := 0; from < n; {
		to := min(from+atATime, n)
		if rest := n - to; rest > 0 && rest <= fewRows && to-from >= 2*64 {
			to -= 64
		}
		f(from, to)
		from = to
	}
}

// roundedBuffers lists the tensors of rounded operands, as many bytes as the largest has, and their scales.
func (c Config) roundedBuffers(act engine.DType, tokens, textRows, groups int) []load.Buffer {
	chunk := c.hidden(act, tokens, groups, false).Shape[0]
	return []load.Buffer{
		{Label: "rounded operand", DType: engine.I8, Shape: []int{max(max(tokens, textRows)*c.ModelDim, chunk*c.FFDim)}},
		{Label: "scales of the rounded operand", DType: engine.F32, Shape: []int{max(tokens, textRows)}},
	}
}

func (c Config) outputRows(tokens int) load.Buffer {
	return load.Buffer{Label: "output rows", DType: engine.F32, Shape: []int{tokens, c.PatchVolume() * c.OutVisualDim}}
}

// branchBuffers lists the tensors that a branch has from the start, besides one actBuffer per time.
func (c Config) branchBuffers(act engine.DType, textRows int, masked bool) []load.Buffer {
	list := []load.Buffer{{Label: "text context", DType: act, Shape: []int{textRows, c.ModelDim}}}
	if masked {
		list = append(list, load.Buffer{Label: "text mask", DType: engine.U32, Shape: []int{textRows}})
	}
	return list
}

// visualBuffers lists the tensors that a branch has once the text blocks are done. The visual stream, in fp32 the largest
// of all, is cut over tokens into pieces that one allocation can hold.
func (c Config) visualBuffers(size Size, maxAllocation int64) []load.Buffer {
	velocity := load.Buffer{Label: "velocity", DType: engine.F32, Shape: []int{size.Frames, size.Height, size.Width, c.OutVisualDim}}
	return append([]load.Buffer{velocity}, c.streamBuffers(size.Tokens(), maxAllocation)...)
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

// rowsOf returns the rows [from, to).
func (s stream) rowsOf(from, to int) stream {
	var out stream
	s.each(func(piece engine.Tensor, begin, end int) {
		if low, high := max(from, begin), min(to, end); low < high {
			out = append(out, piece.Rows(low-begin, high-begin))
		}
	})
	return out
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
	t := allocAll(a, m.Config.buffers(m.act, m.half, m.packs, m.linear, size, textRows, m.groups))
	n := size.Tokens()
	*w = workspace{
		blockWork: blockWork{h: t["normed"], q: t["queries"], k: t["keys"], v: t["values"], ff: t.within("queries", m.Config.hidden(m.act, n, m.groups, m.packs)),
			mod: t["modulation"], scratch: t["attention scratch"], bytes: t["rounded operand"], scales: t["scales of the rounded operand"]},
		tk: t["text keys"], tv: t["text values"], rope: t["rotations"], nabla: t["sparse attention scratch"],
		patches: t.within("queries", m.Config.patches(m.act, n)), rows: t.within("keys", m.Config.outputRows(n)),
	}
	if m.packs {
		w.packed = w.q.View(0, int(w.q.Elems())/m.Config.ModelDim/packUnit*packUnit, m.Config.ModelDim)
	}
	w.normed = w.h
	if m.groups > 1 {
		w.normed = t["normed piece"]
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
