package clip

import (
	"context"
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Pooled returns the hidden row of the first end token, [D]. Ids are a whole sequence, from the begin token to the
// padding. With the published eos_token_id 2 the end token is the largest id; a config with another value names it.
func (m *Model) Pooled(ctx context.Context, ids []int32) ([]float32, error) {
	row, err := pooledRow(m.Config, ids)
	if err != nil {
		return nil, err
	}
	hidden, err := m.Hidden(ctx, ids)
	if err != nil {
		return nil, err
	}
	defer m.device.Free(hidden)
	return m.device.DownloadF32(ctx, hidden.Rows(row, row+1))
}

func pooledRow(c weights.CLIPConfig, ids []int32) (int, error) {
	if err := checkIDs(c, ids); err != nil {
		return 0, err
	}
	end := int32(c.EOSTokenID)
	if c.EOSTokenID == 2 {
		end = slices.Max(ids)
	}
	row := slices.Index(ids, end)
	if row < 0 {
		return 0, fmt.Errorf("CLIP: the end token %d is not among the %d ids", end, len(ids))
	}
	return row, nil
}

func checkIDs(c weights.CLIPConfig, ids []int32) error {
	if len(ids) == 0 || len(ids) > c.MaxPositionEmbeddings {
		return fmt.Errorf("CLIP: %d ids: 1 to %d are allowed", len(ids), c.MaxPositionEmbeddings)
	}
	for k, id := range ids {
		if id < 0 || int(id) >= c.VocabSize {
			return fmt.Errorf("CLIP: id %d at place %d is not in the vocabulary of %d (does the tokenizer belong to this model?)", id, k, c.VocabSize)
		}
	}
	return nil
}

// Hidden returns the hidden state of all rows after the final norm, F32 [L, D] for L ids. The tensor is the caller's to
// free. The work is submitted, not waited for.
func (m *Model) Hidden(ctx context.Context, ids []int32) (engine.Tensor, error) {
	if err := checkIDs(m.Config, ids); err != nil {
		return engine.Tensor{}, err
	}
	arena := m.device.NewArena("CLIP")
	defer arena.Release()
	b := hiddenBuffer(m.Config, len(ids))
	x, err := m.device.Alloc(b.Label, b.DType, b.Shape...)
	if err != nil {
		return x, err
	}
	if err := m.encode(ctx, arena, ids, x); err != nil {
		m.device.Free(x)
		return engine.Tensor{}, err
	}
	return x, nil
}

func (m *Model) encode(ctx context.Context, arena *engine.Arena, ids []int32, x engine.Tensor) error {
	w := m.newWorkspace(arena, len(ids))
	if err := arena.Err(); err != nil {
		return err
	}
	if err := m.embed(ctx, ids, x); err != nil {
		return err
	}
	s := m.device.Compute()
	ops.Add(s, x, x, m.params.Get("embeddings.position_embedding.weight").Rows(0, len(ids)))
	for i := range m.Config.NumHiddenLayers {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.layer(s, i, x, w)
		if m.device.Rehearsing() { // the others need the same kernels
			break
		}
	}
	m.norm(s, "final_layer_norm", x, x)
	_, err := s.Flush()
	return err
}

// embed uploads the tokens' rows of the embedding.
func (m *Model) embed(ctx context.Context, ids []int32, x engine.Tensor) error {
	if m.device.Rehearsing() {
		return nil
	}
	c := m.Config
	row := c.HiddenSize * 4
	data := make([]byte, len(ids)*row)
	for k, id := range ids {
		err := load.ReadRows(ctx, m.reader, tokenTable, []int{c.VocabSize, c.HiddenSize}, int(id), 1, engine.F32, data[k*row:(k+1)*row])
		if err != nil {
			return err
		}
	}
	return m.device.Upload(ctx, x, data)
}

func hiddenBuffer(c weights.CLIPConfig, tokens int) load.Buffer {
	return load.Buffer{Label: "CLIP: hidden state", DType: engine.F32, Shape: []int{tokens, c.HiddenSize}}
}

// workspace are the activations that layers use in turn.
type workspace struct {
	h       engine.Tensor // [L, D]: normed input of a layer, attention's output
	q, k, v engine.Tensor // [H, L, d]
	u       engine.Tensor // [L, F]
	scratch engine.Tensor // U32, for fp16 attention
}

func buffers(c weights.CLIPConfig, tokens int, halved bool) []load.Buffer {
	heads := []int{c.NumAttentionHeads, tokens, c.HiddenSize / c.NumAttentionHeads}
	list := []load.Buffer{
		{Label: "normed", DType: engine.F32, Shape: []int{tokens, c.HiddenSize}},
		{Label: "queries", DType: engine.F32, Shape: heads},
		{Label: "keys", DType: engine.F32, Shape: heads},
		{Label: "values", DType: engine.F32, Shape: heads},
		{Label: "feed-forward", DType: engine.F32, Shape: []int{tokens, c.IntermediateSize}},
	}
	if halved {
		words := ops.AttentionScratch(c.NumAttentionHeads, c.NumAttentionHeads)
		list = append(list, load.Buffer{Label: "attention scratch", DType: engine.U32, Shape: []int{words}})
	}
	return list
}

func (m *Model) newWorkspace(a *engine.Arena, tokens int) workspace {
	list := buffers(m.Config, tokens, m.half)
	t := make([]engine.Tensor, 6)
	for k, b := range list {
		t[k] = b.Alloc(a)
	}
	return workspace{h: t[0], q: t[1], k: t[2], v: t[3], u: t[4], scratch: t[5]}
}

// layer records one pre-norm transformer layer over the residual stream x.
func (m *Model) layer(s *engine.Stream, i int, x engine.Tensor, w workspace) {
	p := fmt.Sprintf("encoder.layers.%d.", i)
	d := m.Config.HiddenSize / m.Config.NumAttentionHeads
	linear := func(name string, a ops.MatmulArgs) {
		a.W, a.Bias, a.Half = m.params.Get(p+name+".weight"), m.params.Get(p+name+".bias"), m.half
		ops.Matmul(s, a)
	}
	m.norm(s, p+"layer_norm1", x, w.h)
	linear("self_attn.q_proj", ops.MatmulArgs{X: w.h, Y: w.q, HeadDim: d})
	linear("self_attn.k_proj", ops.MatmulArgs{X: w.h, Y: w.k, HeadDim: d})
	linear("self_attn.v_proj", ops.MatmulArgs{X: w.h, Y: w.v, HeadDim: d})
	ops.Attention(s, ops.AttentionArgs{Q: w.q, K: w.k, V: w.v, Out: w.h, Mode: ops.AttentionCausal, Half: m.half, Scratch: w.scratch})
	linear("self_attn.out_proj", ops.MatmulArgs{X: w.h, Y: x, Add: true})

	m.norm(s, p+"layer_norm2", x, w.h)
	linear("mlp.fc1", ops.MatmulArgs{X: w.h, Y: w.u, Activation: ops.QuickGELU})
	linear("mlp.fc2", ops.MatmulArgs{X: w.u, Y: x, Add: true})
}

func (m *Model) norm(s *engine.Stream, name string, x, y engine.Tensor) {
	ops.LayerNorm(s, ops.LayerNormArgs{X: x, Y: y, Weight: m.params.Get(name + ".weight"), Bias: m.params.Get(name + ".bias"),
		Eps: float32(m.Config.LayerNormEps)})
}
