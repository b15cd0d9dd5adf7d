package qwen

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// chunkBytes bounds the hidden layer of a feed-forward network, which is cut over tokens: whole it would be the largest
// tensor of all (620 MB for a prompt with the largest picture).
const chunkBytes = 128 << 20

// chunkRows returns how many tokens go through a feed-forward network at a time: a multiple of 128, so that cuts are
// aligned, or all.
func chunkRows(act engine.DType, width, tokens int) int {
	chunk := max(128, int(chunkBytes/(int64(width)*act.Size()))/128*128)
	return min(chunk, tokens)
}

// workspace are the activations that layers and prompts use in turn.
type workspace struct {
	h        engine.Tensor // [L, D]: normed input of a layer; attention's output, once queries, keys and values exist
	q, k, v  engine.Tensor // F32 [heads, L, d]: they are small, and rounding queries and keys costs the most precision
	gate, up engine.Tensor // [chunk, F]
	scratch  engine.Tensor // U32, for fp16 attention
}

func workspaceBuffers(c weights.QwenTextConfig, act engine.DType, tokens int, halved bool) []load.Buffer {
	chunk, d := chunkRows(act, c.IntermediateSize, tokens), c.HeadDim()
	list := []load.Buffer{
		{Label: "normed", DType: act, Shape: []int{tokens, c.HiddenSize}},
		{Label: "queries", DType: engine.F32, Shape: []int{c.NumAttentionHeads, tokens, d}},
		{Label: "keys", DType: engine.F32, Shape: []int{c.NumKeyValueHeads, tokens, d}},
		{Label: "values", DType: engine.F32, Shape: []int{c.NumKeyValueHeads, tokens, d}},
		{Label: "feed-forward gate", DType: act, Shape: []int{chunk, c.IntermediateSize}},
		{Label: "feed-forward", DType: act, Shape: []int{chunk, c.IntermediateSize}},
	}
	if halved {
		words := ops.AttentionScratch(c.NumAttentionHeads, c.NumKeyValueHeads)
		list = append(list, load.Buffer{Label: "attention scratch", DType: engine.U32, Shape: []int{words}})
	}
	return list
}

func newWorkspace(a *engine.Arena, list []load.Buffer) workspace {
	t := make([]engine.Tensor, 7)
	for k, b := range list {
		t[k] = b.Alloc(a)
	}
	return workspace{h: t[0], q: t[1], k: t[2], v: t[3], gate: t[4], up: t[5], scratch: t[6]}
}

// heads returns room for n tokens of every head of a head-major tensor: [heads, n, d], packed.
func heads(t engine.Tensor, n int) engine.Tensor { return t.View(0, t.Dim(0), n, t.Dim(2)) }

// feedForward records x ← x + down(SiLU(gate(h)) ⊙ up(h)), cut over tokens.
func feedForward(s *engine.Stream, p load.Params, h, x, gate, up engine.Tensor, half bool) {
	for at, rows := 0, h.Dim(0); at < rows; at += gate.Dim(0) {
		end := min(at+gate.Dim(0), rows)
		g, u := gate.Rows(0, end-at), up.Rows(0, end-at)
		linear(s, p, "mlp.gate_proj", ops.MatmulArgs{X: h.Rows(at, end), Y: g, Half: half})
		linear(s, p, "mlp.up_proj", ops.MatmulArgs{X: h.Rows(at, end), Y: u, Half: half})
		ops.ActivateMul(s, g, g, u, ops.SiLU)
		linear(s, p, "mlp.down_proj", ops.MatmulArgs{X: g, Y: x.Rows(at, end), Add: true, Half: half})
	}
}
