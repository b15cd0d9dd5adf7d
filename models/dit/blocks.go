package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// modulation computes W·SiLU(c) + b and returns its chunks of D as triples (shift, scale, gate).
func (p *Pass) modulation(s *engine.Stream, w params, name string, b *branch, chunks int) []modulated {
	d := p.model.Config.ModelDim
	weight, bias := w.linear(name)
	all := p.work.mod.View(0, 1, chunks*d)
	ops.Matmul(s, ops.MatmulArgs{X: b.act.Reshape(1, p.model.Config.TimeDim), W: weight, Bias: bias, Y: all})
	out := make([]modulated, chunks/3)
	for k := range out {
		part := func(n int) engine.Tensor { return all.View(int64((3*k+n)*d), d) }
		out[k] = modulated{shift: part(0), scale: part(1), gate: part(2)}
	}
	return out
}

type modulated struct{ shift, scale, gate engine.Tensor }

// norm computes LN(x)·(1 + scale) + shift as an operand.
func (p *Pass) norm(s *engine.Stream, x stream, m modulated) engine.Tensor {
	h := p.work.h.Rows(0, x.rows())
	x.each(func(piece engine.Tensor, from, to int) {
		ops.LayerNorm(s, ops.LayerNormArgs{X: piece, Y: h.Rows(from, to), Shift: m.shift, Scale: m.scale, Eps: layerNormEps})
	})
	return h
}

// project computes a projection of h to heads: [H, rows, d].
func (p *Pass) project(s *engine.Stream, w params, name string, h, y engine.Tensor) {
	weight, bias := w.linear(name)
	ops.Matmul(s, ops.MatmulArgs{X: h, W: weight, Bias: bias, Y: y, HeadDim: p.model.Config.HeadDim(), Half: p.model.half})
}

// rotate applies the RMSNorm of queries or keys, and the rotation where there is one.
func (p *Pass) rotate(s *engine.Stream, w params, name string, x, table engine.Tensor) {
	ops.Rope(s, ops.RopeArgs{X: ops.HeadMajor(x), Table: table, Gain: w.Get(name + ".weight"), Eps: rmsNormEps})
}

// addLinear adds gate ⊙ (W·h + b) to the stream.
func (p *Pass) addLinear(s *engine.Stream, w params, name string, h engine.Tensor, x stream, gate engine.Tensor) {
	weight, bias := w.linear(name)
	x.each(func(piece engine.Tensor, from, to int) {
		ops.Matmul(s, ops.MatmulArgs{X: h.Rows(from, to), W: weight, Bias: bias, Y: piece, Add: true, Gate: gate, Half: p.model.half})
	})
}

// feedForward adds gate ⊙ W_out·GELU(W_in·h), cut over tokens.
func (p *Pass) feedForward(s *engine.Stream, w params, h engine.Tensor, x stream, gate engine.Tensor) {
	in, _ := w.linear("feed_forward.in_layer")
	chunk := p.work.ff.Dim(0)
	x.each(func(piece engine.Tensor, from, to int) {
		for at := from; at < to; at += chunk {
			end := min(at+chunk, to)
			u := p.work.ff.Rows(0, end-at)
			ops.Matmul(s, ops.MatmulArgs{X: h.Rows(at, end), W: in, Y: u, Activation: ops.GELU, Half: p.model.half})
			p.addLinear(s, w, "feed_forward.out_layer", u, stream{piece.Rows(at-from, end-from)}, gate)
		}
	})
}

// attend computes attention over prepared heads into the workspace h.
func (p *Pass) attend(s *engine.Stream, q, k, v, mask engine.Tensor) engine.Tensor {
	out := p.work.h.Rows(0, q.Dim(1))
	ops.Attention(s, ops.AttentionArgs{Q: q, K: k, V: v, Out: out, Mask: mask, Half: p.model.half, Scratch: p.work.scratch})
	return out
}

// textBlock is one block of the text stream (kandinsky-5, kandinsky/models/dit.py, TransformerEncoderBlock).
func (p *Pass) textBlock(s *engine.Stream, w params, b *branch) {
	m := p.modulation(s, w, "text_modulation.out_layer", b, 6)
	l := rows(b.y)
	y := stream{b.y}
	h := p.norm(s, y, m[0])
	q, k, v := heads(p.work.q, l), heads(p.work.k, l), heads(p.work.v, l)
	p.project(s, w, "self_attention.to_query", h, q)
	p.project(s, w, "self_attention.to_key", h, k)
	p.project(s, w, "self_attention.to_value", h, v)
	table := p.work.textRope.Rows(0, l)
	p.rotate(s, w, "self_attention.query_norm", q, table)
	p.rotate(s, w, "self_attention.key_norm", k, table)
	p.addLinear(s, w, "self_attention.out_layer", p.attend(s, q, k, v, b.mask), y, m[0].gate)
	p.feedForward(s, w, p.norm(s, y, m[1]), y, m[1].gate)
}

// visualBlock is one block of the visual stream (kandinsky-5, kandinsky/models/dit.py, TransformerDecoderBlock).
func (p *Pass) visualBlock(s *engine.Stream, w params, branchIndex, i int, b *branch) error {
	m := p.modulation(s, w, "visual_modulation.out_layer", b, 9)
	n, l := p.size.Tokens(), rows(b.y)
	h := p.norm(s, b.v, m[0])
	q, k, v := heads(p.work.q, n), heads(p.work.k, n), heads(p.work.v, n)
	p.project(s, w, "self_attention.to_query", h, q)
	p.project(s, w, "self_attention.to_key", h, k)
	p.project(s, w, "self_attention.to_value", h, v)
	p.rotate(s, w, "self_attention.query_norm", q, p.work.rope)
	p.rotate(s, w, "self_attention.key_norm", k, p.work.rope)
	if p.model.Config.Nabla != nil {
		var err error
		if h, err = p.attendSparse(s, branchIndex, i, q, k, v); err != nil {
			return err
		}
	} else {
		h = p.attend(s, q, k, v, engine.Tensor{})
	}
	p.addLinear(s, w, "self_attention.out_layer", h, b.v, m[0].gate)

	h = p.norm(s, b.v, m[1])
	tk, tv := heads(p.work.tk, l), heads(p.work.tv, l)
	p.project(s, w, "cross_attention.to_query", h, q)
	p.project(s, w, "cross_attention.to_key", b.ctx, tk)
	p.project(s, w, "cross_attention.to_value", b.ctx, tv)
	p.rotate(s, w, "cross_attention.query_norm", q, engine.Tensor{})
	p.rotate(s, w, "cross_attention.key_norm", tk, engine.Tensor{})
	p.addLinear(s, w, "cross_attention.out_layer", p.attend(s, q, tk, tv, b.mask), b.v, m[1].gate)

	p.feedForward(s, w, p.norm(s, b.v, m[2]), b.v, m[2].gate)
	if err := s.Err(); err != nil {
		return fmt.Errorf("visual block %d: %w", i, err)
	}
	return nil
}
