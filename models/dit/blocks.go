package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// blockWork are the tensors that the blocks of a kind use in turn.
type blockWork struct {
	h       engine.Tensor // [N, D]: normed input of a layer; attention's output, once queries, keys and values exist
	normed  engine.Tensor // [n, D]: normed input of as many tokens as are projected at a time; h itself, where that is all
	q, k, v engine.Tensor // [H', N, d], of as many heads as attention is computed for at a time
	ff      engine.Tensor // [chunk, F]; may lie in the memory of q, which is not needed at the same time
	mod     engine.Tensor // F32 [9D], text blocks [6D]
	scratch engine.Tensor // U32, for fp16 attention
	bytes   engine.Tensor // I8, the operand rounded last, where linear layers are int8
	scales  engine.Tensor // F32, of its rows
	packed  engine.Tensor // [R, D], where attention's output is packed, in the memory of q; none: operands of linear layers are not packed
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

// operand is the input of linear layers, as it is, packed or, where weights are rounded, also rounded to bytes.
type operand struct {
	x, bytes, scales engine.Tensor
	packed           bool
}

// rounded rounds an operand where weights are rounded. It is good until the next one is rounded.
func (l layers) rounded(o operand) operand {
	if l.work.bytes.IsZero() || !ops.CanQuantize(o.x.Dim(-1)) {
		return o
	}
	n := rows(o.x)
	o.bytes, o.scales = l.work.bytes.View(0, n, o.x.Dim(-1)), l.work.scales.View(0, n)
	ops.Quantize(l.s, ops.QuantizeArgs{X: o.x, Y: o.bytes, Scale: o.scales})
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

// linear records a layer with the weights of that name. Where they are rounded or packed, so is the operand.
func (l layers) linear(name string, o operand, a ops.MatmulArgs) {
	l.linearRows(name, o, 0, l.weights.Get(name+".weight").Dim(0), a)
}

// linearRows is linear with count rows of the weights from low on.
func (l layers) linearRows(name string, o operand, low, count int, a ops.MatmulArgs) {
	a.X, a.Half, a.Packed = o.x, l.model.half, o.packed
	a.W = l.weights.Get(name+".weight").Rows(low, low+count)
	if bias, ok := l.weights.Maybe(name + ".bias"); ok {
		a.Bias = bias.View(int64(low), count)
	}
	if scale := l.weights.Scale(name + ".weight"); !scale.IsZero() {
		a.WScale, a.X, a.XScale = scale.View(int64(low), count), o.bytes, o.scales
	}
	ops.Matmul(l.s, a)
}

// normRows is norm of the rows [from, to), packed where layers want that.
func (l layers) normRows(x stream, m modulated, from, to int) operand {
	h, packed := l.work.normed.Rows(0, to-from), l.packsActivations()
	x.each(func(piece engine.Tensor, begin, end int) {
		if low, high := max(from, begin), min(to, end); low < high {
			ops.LayerNorm(l.s, ops.LayerNormArgs{X: piece.Rows(low-begin, high-begin), Y: h.Rows(low-from, high-from), Shift: m.shift, Scale: m.scale, Eps: layerNormEps, PackY: packed})
		}
	})
	return operand{x: h, packed: packed}
}

// projection is a linear layer of the normed stream whose result some heads of attention use.
type projection struct {
	name string
	y    engine.Tensor // [H', N, d]
}

// projectHeads computes projections of the normed stream for the heads from one on, as many as fit their tensors, cut over
// tokens.
func (l layers) projectHeads(x stream, m modulated, head int, list ...projection) {
	d := l.model.Config.HeadDim()
	cutRows(x.rows(), l.work.normed.Dim(0), func(from, to int) {
		h := l.rounded(l.normRows(x, m, from, to))
		for _, p := range list {
			low, count := head*d, p.y.Dim(0)*d
			l.linearRows(p.name, h, low, count, ops.MatmulArgs{Y: p.y, Row: from, HeadDim: d})
		}
	})
}

// project computes a projection of h, which is not packed, to heads: [H, rows, d].
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

// feedForward adds gate ⊙ W_out·GELU(W_in·norm(x)), cut over tokens.
func (l layers) feedForward(x stream, m modulated) {
	cutRows(x.rows(), l.work.normed.Dim(0), func(begin, end int) {
		h := l.normRows(x, m, begin, end)
		cutRows(end-begin, l.work.ff.Dim(0), func(from, to int) {
			u := l.work.ff.Rows(0, to-from)
			l.linear("feed_forward.in_layer", l.rounded(h.cut(from, to)), ops.MatmulArgs{Y: u, Activation: ops.GELU, PackY: h.packed})
			l.addLinear("feed_forward.out_layer", l.rounded(operand{x: u, packed: h.packed}), x.rowsOf(begin+from, begin+to), m.gate)
		})
	})
}

// attend computes attention over prepared heads, the first of which is given, into the workspace h. It may leave anything in q, k and v.
func (l layers) attend(q, k, v, mask engine.Tensor, head int) engine.Tensor {
	out := l.work.h.Rows(0, q.Dim(1))
	ops.Attention(l.s, ops.AttentionArgs{Q: q, K: k, V: v, Out: out, OutHead: head, Mask: mask, Half: l.model.half, Consume: true, Scratch: l.work.scratch})
	return out
}

// textBlock is one block of the text stream y, F32 [L, D] (kandinsky-5, kandinsky/models/dit.py, TransformerEncoderBlock).
func (p *Pass) textBlock(s *engine.Stream, work *textWork, w params, text, act, mask engine.Tensor) {
	l := layers{s, p.model, &work.blockWork, w}
	m := l.modulation("text_modulation.out_layer", act, 6)
	n, y := rows(text), stream{text}
	q, k, v := heads(l.work.q, n), heads(l.work.k, n), heads(l.work.v, n)
	l.projectHeads(y, m[0], 0, projection{"self_attention.to_query", q}, projection{"self_attention.to_key", k}, projection{"self_attention.to_value", v})
	table := work.rope.Rows(0, n)
	l.rotate("self_attention.query_norm", q, table)
	l.rotate("self_attention.key_norm", k, table)
	l.addAttention("self_attention.out_layer", l.attend(q, k, v, mask, 0), y, m[0].gate)
	l.feedForward(y, m[1])
}

// visualBlock is one block of the visual stream (kandinsky-5, kandinsky/models/dit.py, TransformerDecoderBlock).
func (p *Pass) visualBlock(s *engine.Stream, w params, branchIndex, i int, b *branch, act engine.Tensor) error {
	l := layers{s, p.model, &p.work.blockWork, w}
	m := l.modulation("visual_modulation.out_layer", act, 9)
	h, err := p.selfAttention(l, branchIndex, i, b, m[0])
	if err != nil {
		return err
	}
	l.addAttention("self_attention.out_layer", h, b.v, m[0].gate)
	l.addAttention("cross_attention.out_layer", p.crossAttention(l, b, m[1]), b.v, m[1].gate)
	l.feedForward(b.v, m[2])
	if err := s.Err(); err != nil {
		return fmt.Errorf("visual block %d: %w", i, err)
	}
	return nil
}

// selfAttention computes the attention of the normed stream to itself, some heads at a time.
func (p *Pass) selfAttention(l layers, branchIndex, i int, b *branch, m modulated) (out engine.Tensor, err error) {
	n, total := p.size.Tokens(), p.model.Config.Heads()
	mask, free, err := p.tracedMask(total)
	if err != nil {
		return out, err
	}
	defer free()
	for head := 0; head < total; head += p.work.q.Dim(0) {
		q, k, v := heads(p.work.q, n), heads(p.work.k, n), heads(p.work.v, n)
		l.projectHeads(b.v, m, head, projection{"self_attention.to_query", q}, projection{"self_attention.to_key", k}, projection{"self_attention.to_value", v})
		l.rotate("self_attention.query_norm", q, p.work.rope)
		l.rotate("self_attention.key_norm", k, p.work.rope)
		if p.model.Config.Nabla != nil {
			out = p.attendSparse(l.s, q, k, v, mask, head)
		} else {
			out = l.attend(q, k, v, engine.Tensor{}, head)
		}
	}
	if mask.IsZero() {
		return out, l.s.Err()
	}
	return out, p.trace(branchIndex, fmt.Sprintf("nabla_mask.%d", i), mask)
}

// crossAttention computes the attention of the normed stream to the text, some heads of queries at a time.
func (p *Pass) crossAttention(l layers, b *branch, m modulated) (out engine.Tensor) {
	n, text := p.size.Tokens(), rows(b.ctx)
	tk, tv := heads(p.work.tk, text), heads(p.work.tv, text)
	context := l.rounded(operand{x: b.ctx})
	l.project("cross_attention.to_key", context, tk)
	l.project("cross_attention.to_value", context, tv)
	l.rotate("cross_attention.key_norm", tk, engine.Tensor{})
	q := heads(p.work.q, n)
	for head, step := 0, q.Dim(0); head < p.model.Config.Heads(); head += step {
		l.projectHeads(b.v, m, head, projection{"cross_attention.to_query", q})
		l.rotate("cross_attention.query_norm", q, engine.Tensor{})
		out = l.attend(q, tk.Rows(head, head+step), tv.Rows(head, head+step), b.mask, head)
	}
	return out
}
