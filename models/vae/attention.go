package vae

import (
	"fmt"
	"math"

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
		stats := n.stats(x)
		normal := n.pool.take(n.act, tokens, channels)
		for t := range x.frames {
			n.normalise(name+"group_norm", normal.Rows(t*places, (t+1)*places), x.frames[t].Tensor, stats.Tensor, false)
		}
		n.pool.put(stats)
		if n.matrices {
			normal = n.attendByProducts(name, normal, places)
		} else {
			n.attendAtOnce(name, normal, places)
		}
		out := n.pool.take(engine.F32, tokens, channels)
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

// attendAtOnce replaces x, [tokens, channels], by its attention.
func (n *net) attendAtOnce(name string, x buffer, places int) {
	take := func() buffer { return n.pool.take(n.act, x.Shape...) }
	q, k, v := take(), take(), take()
	n.linear(name+"to_q", q.Tensor, x.Tensor)
	n.linear(name+"to_k", k.Tensor, x.Tensor)
	n.linear(name+"to_v", v.Tensor, x.Tensor)
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
		ops.Attention(n.stream, ops.AttentionArgs{Q: head(q.Tensor), K: head(k.Tensor), V: head(v.Tensor), Out: x.Tensor, Mode: ops.AttentionFrames,
			Frame: places, Half: n.half, Scratch: scratch.Tensor})
	}
	if n.half {
		n.pool.put(scratch)
	}
	n.pool.put(q, k, v)
}

// maxScores is the most bytes of fp32 scores that exist at a time.
const maxScores = 1 << 30

// shareGain is what the shares of a query's keys add up to, so that the smallest that matter are normal numbers in fp16:
// of 30,000 equal ones each is 2⁻⁹.
const shareGain = 64

// attendByProducts puts x back and returns its attention as attendAtOnce computes it, in products of matrices: attention
// kernels by matrices hold heads of at most 128 channels, and this one has 512. For each frame, and for as many of its
// queries at a time as maxScores allows, there are the scores of all keys up to the frame's own, their softmax, and its
// product with the values. Values are computed with channels as rows, so that keys lie next to each other; their bias is
// added to the result, because shares add up to one.
func (n *net) attendByProducts(name string, x buffer, places int) buffer {
	tokens, channels := x.Dim(0), x.Dim(1)
	q, k := n.pool.take(n.act, tokens, channels), n.pool.take(n.act, tokens, channels)
	n.linear(name+"to_q", q.Tensor, x.Tensor)
	n.linear(name+"to_k", k.Tensor, x.Tensor)
	bias := n.pool.take(engine.F32, channels)
	if !n.planning() {
		ops.Affine(n.stream, bias.Tensor, n.params.Get(name+"to_v.bias"), shareGain, 0)
	}
	for at := 0; at < tokens; at += places {
		n.attendFrame(name, q.Rows(at, at+places), k.Rows(0, at+places), x.Rows(0, at+places), bias.Tensor)
	}
	n.pool.put(x, k, bias)
	return q
}

// attendFrame replaces a frame's queries by their attention to keys, whose values are made of x.
func (n *net) attendFrame(name string, frame, k, x, bias engine.Tensor) {
	places, channels, keys := frame.Dim(0), frame.Dim(1), k.Dim(0)
	step := min(places, max(maxScores/4/keys&^127, 128)) // parts begin where the device can bind them
	q, values := n.pool.take(n.act, places, channels), n.pool.take(n.act, channels, keys)
	scores, shares := n.pool.take(engine.F32, step, keys), n.pool.take(n.act, step, keys)
	sums := n.pool.take(engine.F32, places, channels)
	if !n.planning() {
		n.stream.Copy(q.Tensor, frame)
		ops.Matmul(n.stream, ops.MatmulArgs{X: n.params.Get(name + "to_v.weight"), W: x, Y: values.Tensor, Half: true})
		for from := 0; from < places; from += step {
			rows := min(step, places-from)
			s, p := scores.Rows(0, rows), shares.Rows(0, rows)
			ops.Matmul(n.stream, ops.MatmulArgs{X: q.Rows(from, from+rows), W: k, Y: s, Half: true})
			ops.Softmax(n.stream, ops.SoftmaxArgs{X: s, Y: p, Scale: float32(1 / math.Sqrt(float64(channels))), Gain: shareGain})
			ops.Matmul(n.stream, ops.MatmulArgs{X: p, W: values.Tensor, Bias: bias, Y: sums.Rows(from, from+rows), Half: true})
		}
		ops.Affine(n.stream, frame, sums.Tensor, 1.0/shareGain, 0)
	}
	n.pool.put(q, values, scores, shares, sums)
}
