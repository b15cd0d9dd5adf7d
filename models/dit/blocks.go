package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// blockWork are the tensors that the blocks of a kind use in turn.
type blockWork struct {
	h       engine.Tensor // [N, D]: normed input of a layer; attention's output, once queries, keys and values exist
	q, k, v engine.Tensor // [H, N, d]
	ff      engine.Tensor // [chunk, F]; may lie in the memory of q, which is not needed at the same time
	mod     engine.Tensor // F32 [9D], text blocks [6D]
	scratch engine.Tensor // U32, for fp16 attention
	bytes   engine.Tensor // I8, the operand rounded last, where linear layers are int8
	scales  engine.Tensor // F32, of its rows
}

// layers record the layers of one block: its weights, and the tensors that it works in.
type layers struct {
	s       *engine.Stream
	model   *Model
	work    *blockWork
	weights params
}

// modulation computes W·SiLU(c) + b and returns its chunks of D as triples (shift, scale, gate).
func (l layers) modulation(name string, act engine.Tensor, chunks int) []modulated {
	d := l.model.Config.ModelDim
	weight, bias := l.weights.linear(name)
	all := l.work.mod.View(0, 1, chunks*d)
	ops.Matmul(l.s, ops.MatmulArgs{X: act.Reshape(1, l.model.Config.TimeDim), W: weight, Bias: bias, Y: all})
	out := make([]modulated, chunks/3)
	for k := range out {
		part := func(n int) engine.Tensor { return all.View(int64((3*k+n)*d), d) }
		out[k] = modulated{shift: part(0), scale: part(1), gate: part(2)}
	}
	return out
}

type modulated struct{ shift, scale, gate engine.Tensor }

// norm computes LN(x)·(1 + scale) + shift as an operand.
func (l layers) norm(x stream, m modulated) engine.Tensor {
	h := l.work.h.Rows(0, x.rows())
	x.each(func(piece engine.Tensor, from, to int) {
		ops.LayerNorm(l.s, ops.LayerNormArgs{X: piece, Y: h.Rows(from, to), Shift: m.shift, Scale: m.scale, Eps: layerNormEps})
	})
	return h
}

// operand is the input of linear layers, as it is and, where weights are rounded, rounded to bytes.
type operand struct{ x, bytes, scales engine.Tensor }

// rounded makes an operand, which is good until the next one is made.
func (l layers) rounded(x engine.Tensor) operand {
	if l.work.bytes.IsZero() || !ops.CanQuantize(x.Dim(-1)) {
		return operand{x: x}
	}
	n := rows(x)
	o := operand{x: x, bytes: l.work.bytes.View(0, n, x.Dim(-1)), scales: l.work.scales.View(0, n)}
	ops.Quantize(l.s, ops.QuantizeArgs{X: x, Y: o.bytes, Scale: o.scales})
	return o
}

// cut returns rows of an operand.
func (o operand) cut(from, to int) operand {
	o.x = o.x.Rows(from, to)
	if !o.bytes.IsZero() {
		o.bytes, o.scales = o.bytes.Rows(from, to), o.scales.Rows(from, to)
	}
	return o
}

// linear records a layer with the weights of that name. Where they are rounded, so is the operand.
func (l layers) linear(name string, o operand, a ops.MatmulArgs) {
	a.X, a.Half = o.x, l.model.half
	a.W, a.WScale = l.weights.Get(name+".weight"), l.weights.Scale(name+".weight")
	a.Bias, _ = l.weights.Maybe(name + ".bias")
	if !a.WScale.IsZero() {
		a.X, a.XScale = o.bytes, o.scales
	}
	ops.Matmul(l.s, a)
}

// project computes a projection of h to heads: [H, rows, d].
func (l layers) project(name string, h operand, y engine.Tensor) {
	l.linear(name, h, ops.MatmulArgs{Y: y, HeadDim: l.model.Config.HeadDim()})
}

// rotate applies the RMSNorm of queries or keys, and the rotation where there is one.
func (l layers) rotate(name string, x, table engine.Tensor) {
	ops.Rope(l.s, ops.RopeArgs{X: ops.HeadMajor(x), Table: table, Gain: l.weights.Get(name + ".weight"), Eps: rmsNormEps})
}

// addLinear adds gate ⊙ (W·h + b) to the stream.
func (l layers) addLinear(name string, h operand, x stream, gate engine.Tensor) {
	x.each(func(piece engine.Tensor, from, to int) {
		l.linear(name, h.cut(from, to), ops.MatmulArgs{Y: piece, Add: true, Gate: gate})
	})
}

// feedForward adds gate ⊙ W_out·GELU(W_in·h), cut over tokens.
func (l layers) feedForward(h engine.Tensor, x stream, gate engine.Tensor) {
	chunk := l.work.ff.Dim(0)
	x.each(func(piece engine.Tensor, from, to int) {
		for at := from; at < to; at += chunk {
			end := min(at+chunk, to)
			u := l.work.ff.Rows(0, end-at)
			l.linear("feed_forward.in_layer", l.rounded(h.Rows(at, end)), ops.MatmulArgs{Y: u, Activation: ops.GELU})
			l.addLinear("feed_forward.out_layer", l.rounded(u), stream{piece.Rows(at-from, end-from)}, gate)
		}
	})
}

// attend computes attention over prepared heads into the workspace h.
func (l layers) attend(q, k, v, mask engine.Tensor) engine.Tensor {
	out := l.work.h.Rows(0, q.Dim(1))
	ops.Attention(l.s, ops.AttentionArgs{Q: q, K: k, V: v, Out: out, Mask: mask, Half: l.model.half, Scratch: l.work.scratch})
	return out
}

// textBlock is one block of the text stream y, F32 [L, D] (kandinsky-5, kandinsky/models/dit.py, TransformerEncoderBlock).
func (p *Pass) textBlock(s *engine.Stream, work *textWork, w params, text, act, mask engine.Tensor) {
	l := layers{s, p.model, &work.blockWork, w}
	m := l.modulation("text_modulation.out_layer", act, 6)
	n, y := rows(text), stream{text}
	h := l.rounded(l.norm(y, m[0]))
	q, k, v := heads(l.work.q, n), heads(l.work.k, n), heads(l.work.v, n)
	l.project("self_attention.to_query", h, q)
	l.project("self_attention.to_key", h, k)
	l.project("self_attention.to_value", h, v)
	table := work.rope.Rows(0, n)
	l.rotate("self_attention.query_norm", q, table)
	l.rotate("self_attention.key_norm", k, table)
	l.addLinear("self_attention.out_layer", l.rounded(l.attend(q, k, v, mask)), y, m[0].gate)
	l.feedForward(l.norm(y, m[1]), y, m[1].gate)
}

// visualBlock is one block of the visual stream (kandinsky-5, kandinsky/models/dit.py, TransformerDecoderBlock).
func (p *Pass) visualBlock(s *engine.Stream, w params, branchIndex, i int, b *branch, act engine.Tensor) error {
	l := layers{s, p.model, &p.work.blockWork, w}
	m := l.modulation("visual_modulation.out_layer", act, 9)
	n, text := p.size.Tokens(), rows(b.ctx)
	normed := l.rounded(l.norm(b.v, m[0]))
	q, k, v := heads(p.work.q, n), heads(p.work.k, n), heads(p.work.v, n)
	l.project("self_attention.to_query", normed, q)
	l.project("self_attention.to_key", normed, k)
	l.project("self_attention.to_value", normed, v)
	l.rotate("self_attention.query_norm", q, p.work.rope)
	l.rotate("self_attention.key_norm", k, p.work.rope)
	var h engine.Tensor
	if p.model.Config.Nabla != nil {
		var err error
		if h, err = p.attendSparse(s, branchIndex, i, q, k, v); err != nil {
			return err
		}
	} else {
		h = l.attend(q, k, v, engine.Tensor{})
	}
	l.addLinear("self_attention.out_layer", l.rounded(h), b.v, m[0].gate)

	l.project("cross_attention.to_query", l.rounded(l.norm(b.v, m[1])), q)
	tk, tv := heads(p.work.tk, text), heads(p.work.tv, text)
	context := l.rounded(b.ctx)
	l.project("cross_attention.to_key", context, tk)
	l.project("cross_attention.to_value", context, tv)
	l.rotate("cross_attention.query_norm", q, engine.Tensor{})
	l.rotate("cross_attention.key_norm", tk, engine.Tensor{})
	l.addLinear("cross_attention.out_layer", l.rounded(l.attend(q, tk, tv, b.mask)), b.v, m[1].gate)

	l.feedForward(l.norm(b.v, m[2]), b.v, m[2].gate)
	if err := s.Err(); err != nil {
		return fmt.Errorf("visual block %d: %w", i, err)
	}
	return nil
}
