package vae

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/memory"
)

// attention is the self-attention of the middle: one head over all places of all frames, a query seeing its own and
// earlier frames; added to the clip, in place.
func (n *net) attention(name string) layer {
	return func(x clip) clip {
		places, channels := x.h*x.w, x.channels()
		tokens := len(x.frames) * places
		take := func(dt engine.DType) buffer { return n.pool.take(dt, tokens, channels) }
		stats := n.stats(x)
		normal := take(n.act)
		for t := range x.frames {
			n.normalise(name+"group_norm", normal.Rows(t*places, (t+1)*places), x.frames[t].Tensor, stats.Tensor, false)
		}
		n.pool.put(stats)
		q, k, v := take(n.act), take(n.act), take(n.act)
		for _, p := range []struct {
			name string
			y    buffer
		}{{"to_q", q}, {"to_k", k}, {"to_v", v}} {
			n.linear(name+p.name, p.y.Tensor, normal.Tensor)
		}
		n.attend(q.Tensor, k.Tensor, v.Tensor, normal.Tensor, places)
		n.pool.put(q, k, v)
		out := take(engine.F32)
		n.linear(name+"to_out.0", out.Tensor, normal.Tensor)
		for t, frame := range x.frames {
			if !n.planning() {
				ops.Add(n.stream, frame.Tensor, frame.Tensor, out.Rows(t*places, (t+1)*places).Reshape(frame.Shape...))
			}
		}
		n.pool.put(normal, out)
		return x
	}
}

func (n *net) linear(name string, y, x engine.Tensor) {
	if !n.planning() {
		ops.Matmul(n.stream, ops.MatmulArgs{X: x, W: n.params.Get(name + ".weight"), Bias: n.params.Get(name + ".bias"), Y: y, Half: n.half})
	}
}

// attend records the attention of q, k and v, [tokens, channels] each.
func (n *net) attend(q, k, v, out engine.Tensor, places int) {
	if k.Bytes()+slabAlign > n.maxBinding && n.pool.err == nil { // ops.Attention never cuts keys
		n.pool.err = fmt.Errorf("vae: attention over %d places at once needs %s in one binding, the device allows %s: use smaller tiles",
			k.Dim(0), memory.Size(k.Bytes()), memory.Size(n.maxBinding))
	}
	var scratch buffer
	if n.half {
		scratch = n.pool.take(engine.U32, ops.AttentionScratch(1, 1))
	}
	head := func(t engine.Tensor) engine.Tensor { return t.Reshape(1, t.Dim(0), t.Dim(1)) }
	if !n.planning() {
		ops.Attention(n.stream, ops.AttentionArgs{Q: head(q), K: head(k), V: head(v), Out: out, Mode: ops.AttentionFrames, Frame: places,
			Half: n.half, Scratch: scratch.Tensor})
	}
	if n.half {
		n.pool.put(scratch)
	}
}
