package qwen

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// layer records one decoder layer over a sequence's residual stream.
func (m *Model) layer(s *engine.Stream, i int, p load.Params, q *sequence, w workspace) {
	n := q.x.Dim(0)
	h := w.h.Rows(0, n)
	ops.RMSNorm(s, ops.RMSNormArgs{X: q.x, Y: h, Weight: p.Get("input_layernorm.weight"), Eps: m.eps()})
	queries, keys, values := heads(w.q, n), heads(w.k, n), heads(w.v, n)
	m.project(s, p, "self_attn.q_proj", h, queries)
	m.project(s, p, "self_attn.k_proj", h, keys)
	m.project(s, p, "self_attn.v_proj", h, values)
	ops.Rope(s, ops.RopeArgs{X: ops.HeadMajor(queries), Table: q.table, Split: true})
	a := ops.AttentionArgs{Q: queries, K: keys, V: values, Out: h, Mode: ops.AttentionCausal, Mask: q.mask, Half: m.half, Scratch: w.scratch}
	rotated := ops.RopeArgs{X: ops.HeadMajor(keys), Table: q.table, Split: true}
	if q.cache != nil {
		a.K, a.V, a.Mode, a.Ranges = q.cache.keys[i], q.cache.values[i], ops.AttentionRanges, q.ranges
		rotated.Y = q.cache.from(a.K, n)
		ops.CopyRegion(s, a.V, []int{0, q.cache.used, 0}, values, []int{0, 0, 0}, values.Shape)
	}
	ops.Rope(s, rotated)
	ops.Attention(s, a)
	linear(s, p, "self_attn.o_proj", ops.MatmulArgs{X: h, Y: q.x, Add: true, Half: m.half})

	ops.RMSNorm(s, ops.RMSNormArgs{X: q.x, Y: h, Weight: p.Get("post_attention_layernorm.weight"), Eps: m.eps()})
	feedForward(s, p, h, q.x, w.gate, w.up, m.half)
}

// project computes a projection of h to heads: [heads, rows, d].
func (m *Model) project(s *engine.Stream, p load.Params, name string, h, y engine.Tensor) {
	linear(s, p, name, ops.MatmulArgs{X: h, Y: y, HeadDim: y.Dim(2), Half: m.half})
}

// linear records a linear layer by its name; it has the bias that the group has.
func linear(s *engine.Stream, p load.Params, name string, a ops.MatmulArgs) {
	a.W, a.NF4 = p.Get(name+".weight"), p.NF4(name+".weight")
	a.Bias, _ = p.Maybe(name + ".bias")
	ops.Matmul(s, a)
}

func (m *Model) eps() float32 { return float32(m.Config.Text.RMSNormEps) }
