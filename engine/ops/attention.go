package ops

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// AttentionMode says which keys a query sees.
type AttentionMode uint32

// Attention modes.
const (
	AttentionFull   AttentionMode = iota // all keys
	AttentionCausal                      // keys j <= i + Tk - Tq
	AttentionFrames                      // keys of its own and of earlier frames of Frame tokens
	AttentionRanges                      // keys Ranges[i][0] <= j < Ranges[i][1]
	AttentionBlocks                      // the blocks of 64 keys listed for its block of 64 queries
)

func (m AttentionMode) String() string {
	return [...]string{"full", "causal", "frames", "ranges", "blocks"}[m]
}

// AttentionArgs are the operands of Attention. H query heads share Hkv key/value heads evenly: head h reads h/(H/Hkv).
// Q, K, V and Out are f32, bf16 or f16, each by itself.
type AttentionArgs struct {
	Q    engine.Tensor // [H, Tq, d]
	K, V engine.Tensor // [Hkv, Tk, d]
	// Out is [Tq, Hout, d] (or [Tq, Hout*d]); heads OutHead … OutHead+H-1 of it are written, all when Hout = H.
	Out     engine.Tensor
	OutHead int
	Scale   float32 // of the scores; 0 means 1/√d

	Mode    AttentionMode
	Frame   int           // tokens per frame, for AttentionFrames
	Ranges  engine.Tensor // U32 [Tq, 2], for AttentionRanges
	Counts  engine.Tensor // U32 [H, Tq/64], for AttentionBlocks: how many blocks of keys each block of queries sees,
	Indices engine.Tensor // U32 [H, Tq/64, Tk/64]: and which, at the front of each row
	Mask    engine.Tensor // U32 [Tk], optional in all modes: keys with 0 are seen by no query

	// Half multiplies in fp16 with short fp16 sums (the device must have HasFloat16): operands are scaled by powers of
	// two, so no size of them overflows. Where Caps.Tier has cooperative matrices these compute the modes full and blocks,
	// in bf16 if Q, K and V are and the device can, else in fp16 likewise scaled, summed in fp32. Scratch then holds at least AttentionScratch words, type U32.
	Half    bool
	Scratch engine.Tensor
	// Consume says that Q, K and V are not needed any more: with Half, devices that have Caps.Fragments then put bf16 heads of 128 channels in
	// the order of their matrices, in place, where the tokens are a multiple of 16 and there is no mask.
	Consume bool
	// Int8 computes the scores from queries and keys that are rounded to signed bytes, in their own memory, so Consume must be set: what is left in
	// Q and K are bytes. Heads have at most 128 channels. What keys have in common is subtracted first, which no softmax sees. Scratch then holds at
	// least AttentionInt8Scratch words, type U32, with and without Half.
	Int8 bool
}

// attentionPeaks is how many words of scratch a head gets: the largest magnitude is looked for by so many workgroups.
const attentionPeaks = 32

// AttentionScratch returns the words of AttentionArgs.Scratch that the half variant needs.
func AttentionScratch(heads, kvHeads int) int { return attentionPeaks * (heads + 2*kvHeads) }

// Attention records out = softmax(scale·q·kᵀ)·v per head over the visible keys, with scores, softmax and sums in fp32
// (online softmax: Dao et al., FlashAttention, arXiv 2205.14135). A query that sees no key gives zeros. Keys that are
// not seen have weight zero, but their values must be finite: write what a cache does not hold yet with zeros.
//
// d is a multiple of 4, at most 512, for AttentionBlocks at most 128. The work is cut over heads and queries until each
// dispatch fits the device's limits; the result does not depend on the cuts. Keys are never cut: one head's K or V
// must fit a binding (at 128 MiB: 262,144 tokens of 128 channels in f32), and the shortest dispatch is one tile of
// queries against all keys (4·64·Tk·d operations: 8e9 for those 262,144).
// It panics on shapes that do not fit together.
func Attention(s *engine.Stream, a AttentionArgs) {
	z := a.check()
	caps := s.Device().Caps()
	k, ok := a.chooseKernel(z, caps)
	if !ok {
		s.Fail(fmt.Errorf("ops: attention with heads of %d: the device has %d bytes of shared memory and %d invocations in a workgroup, at least 16384 and 128 are needed",
			z.dim, caps.MaxSharedBytes, caps.MaxInvocations))
		return
	}
	k = a.take(z, caps, k, s.Choose(func() engine.Operation { return a.operation(z, caps, k) }))
	a.record(s, z, k)
}

// record dispatches the attention in a way.
func (a AttentionArgs) record(s *engine.Stream, z attentionSizes, k attentionKernel) {
	caps := s.Device().Caps()
	limits := caps
	limits.MaxDispatchCost *= k.longer(caps)
	cuts, err := planAttention(z, k.queries(), limits)
	if err != nil {
		s.Fail(fmt.Errorf("ops: attention: %w", err))
		return
	}
	k.prepare(s, a)
	label := fmt.Sprintf("attention %v %dx%dx%dx%d", a.Mode, z.heads, z.tq, z.tk, z.dim)
	for _, c := range cuts {
		bind, push := a.part(z, c, caps)
		vecOut := (push.OutBase|push.OutStride)%4 == 0 && vectors(bind[3])
		s.Dispatch(engine.Call{
			Shader: k.shader(), Spec: k.spec(a, caps, vecOut), Push: k.push(push), Bind: bind, Label: label,
			Groups: [3]uint32{uint32(ceilDiv(c.row1-c.row0, k.queries())), uint32(c.head1 - c.head0), 1},
			Cost:   4 * float64(c.head1-c.head0) * float64(c.row1-c.row0) * float64(z.tk) * float64(z.dim),
		})
	}
}

// check panics unless the shapes fit together.
func (a AttentionArgs) check() attentionSizes {
	bad := func(what string) {
		panic(fmt.Sprintf("ops: attention %v: %s: q %v, k %v, v %v, out %v, frame %d, ranges %v, counts %v, indices %v, mask %v, scratch %v",
			a.Mode, what, a.Q, a.K, a.V, a.Out, a.Frame, a.Ranges, a.Counts, a.Indices, a.Mask, a.Scratch))
	}
	if len(a.Q.Shape) != 3 || len(a.K.Shape) != 3 || len(a.V.Shape) != 3 || len(a.Out.Shape) < 2 {
		bad("wrong number of axes")
	}
	z := attentionSizes{heads: a.Q.Dim(0), tq: a.Q.Dim(1), tk: a.K.Dim(1), dim: a.Q.Dim(2)}
	if min(z.heads, z.tq, z.tk, z.dim, a.K.Dim(0)) == 0 || z.heads%a.K.Dim(0) != 0 || a.K.Dim(2) != z.dim {
		bad("heads, tokens or channels do not match")
	}
	z.group = z.heads / a.K.Dim(0)
	for i, n := range a.K.Shape {
		if a.V.Shape[i] != n {
			bad("k and v differ in shape")
		}
	}
	if z.dim%4 != 0 || z.dim > 512 || (a.Mode == AttentionBlocks && z.dim > 128) {
		bad("head size is not supported")
	}
	outElems := int(a.Out.Elems()) / a.Out.Dim(0)
	if a.Out.Dim(0) != z.tq || outElems%z.dim != 0 || a.OutHead < 0 || (a.OutHead+z.heads)*z.dim > outElems {
		bad("out does not hold the result")
	}
	for _, t := range []engine.Tensor{a.Q, a.K, a.V, a.Out} {
		if !t.DType.IsFloat() {
			bad("operands are not floats")
		}
	}
	holds := func(t engine.Tensor, n int) bool {
		return !t.IsZero() && t.DType == engine.U32 && t.Elems() == int64(n)
	}
	switch {
	case a.Mode > AttentionBlocks:
		bad("unknown mode")
	case a.Mode == AttentionFrames && a.Frame <= 0:
		bad("no frame size")
	case a.Mode == AttentionRanges && !holds(a.Ranges, 2*z.tq):
		bad("ranges are not U32 [Tq, 2]")
	case a.Mode == AttentionBlocks && (z.tq%64 != 0 || z.tk%64 != 0 || z.tq != z.tk ||
		!holds(a.Counts, z.heads*z.tq/64) || !holds(a.Indices, z.heads*(z.tq/64)*(z.tk/64))):
		bad("blocks are not U32 [H, T/64] and [H, T/64, T/64] with T a multiple of 64")
	case !a.Mask.IsZero() && !holds(a.Mask, z.tk):
		bad("mask is not U32 [Tk]")
	case a.Half && (a.Scratch.DType != engine.U32 || a.Scratch.IsZero() || a.Scratch.Elems() < int64(AttentionScratch(z.heads, a.K.Dim(0)))):
		bad("scratch is too small")
	case a.Int8 && (!a.Consume || z.dim > maxInt8Head || a.Scratch.DType != engine.U32 || a.Scratch.IsZero() ||
		a.Scratch.Elems() < int64(AttentionInt8Scratch(z.heads, a.K.Dim(0), z.dim))):
		bad("int8 needs heads of at most 128 that may be consumed, and more scratch")
	}
	size := func(t engine.Tensor) int64 { return int64(z.dim) * t.DType.Size() }
	z.qRow, z.kRow, z.vRow = size(a.Q), size(a.K), size(a.V)
	z.outRow = int64(outElems) * a.Out.DType.Size()
	if a.Mode == AttentionBlocks {
		z.lists = int64(z.tq/64) * int64(z.tk/64) * 4
	}
	return z
}

// part returns what one dispatch binds and its push constants.
func (a AttentionArgs) part(z attentionSizes, c attentionCut, caps engine.Caps) ([]engine.Tensor, shaders.AttentionPush) {
	dim, tq, tk := int64(z.dim), int64(z.tq), int64(z.tk)
	kv0, kv1 := int64(c.head0/z.group), int64((c.head1-1)/z.group+1)
	scale := a.Scale
	if scale == 0 {
		scale = float32(1 / math.Sqrt(float64(z.dim)))
	}
	// All queries of several heads, or the dispatch's queries of a single one. Bases count from query 0, so they may
	// wrap below zero; adding the query's offset in the shader wraps them back.
	row := int64(0)
	from, to := int64(c.head0)*tq*dim, int64(c.head1)*tq*dim
	if c.head1 == c.head0+1 {
		row = int64(c.row0)
		from, to = from+row*dim, from+int64(c.row1)*dim
	}
	q, qBase := between(caps, a.Q, from, to)
	k, kBase := between(caps, a.K, kv0*tk*dim, kv1*tk*dim)
	v, vBase := between(caps, a.V, kv0*tk*dim, kv1*tk*dim)
	if (qBase|kBase|vBase)%4 != 0 {
		panic(fmt.Sprintf("ops: attention: q %v, k %v or v %v does not begin at a multiple of four elements", a.Q, a.K, a.V))
	}
	outRow := a.Out.Elems() / tq
	out, outBase := between(caps, a.Out, int64(c.row0)*outRow, int64(c.row1)*outRow)
	push := shaders.AttentionPush{
		Tq: uint32(tq), Tk: uint32(tk), Row: uint32(c.row0),
		QBase: qBase - uint32(row*dim), KBase: kBase, VBase: vBase,
		OutBase: outBase + uint32((a.OutHead+c.head0)*z.dim) - uint32(int64(c.row0)*outRow),
		QStride: uint32(tq * dim), KvStride: uint32(tk * dim), OutStride: uint32(outRow),
		Head: uint32(c.head0), KvHead: uint32(kv0), Group: uint32(z.group), Frame: uint32(a.Frame),
		Heads: uint32(z.heads), KvHeads: uint32(z.heads / z.group), Scale: scale,
	}
	bind := []engine.Tensor{q, k, v, out, a.Mask, {}, {}, {}}
	switch a.Mode {
	case AttentionRanges:
		bind[5] = a.Ranges
	case AttentionBlocks:
		blocks := tq / 64
		push.Blocks = uint32(blocks)
		bind[6], push.ListBase = between(caps, a.Counts, int64(c.head0)*blocks, int64(c.head1)*blocks)
		bind[7], push.IndexBase = between(caps, a.Indices, int64(c.head0)*blocks*blocks, int64(c.head1)*blocks*blocks)
	}
	if a.Half {
		bind = append(bind, a.Scratch)
	}
	return bind, push
}

// magnitudes records the largest magnitudes per head of q, k and v into the scratch words, with Int8 those of v alone.
func (a AttentionArgs) magnitudes(s *engine.Stream) {
	caps := s.Device().Caps()
	slot := 0
	for i, x := range []engine.Tensor{a.Q, a.K, a.V} {
		heads := x.Dim(0)
		if a.Int8 && i < 2 {
			slot += heads
			continue
		}
		count := x.Elems() / int64(heads)
		// As many heads as fit a binding, or, where not even one does, a head in pieces.
		fit := bindRoom(caps) / x.DType.Size() / 4 * 4
		step := int(max(1, min(fit/count, int64(caps.MaxGroups[1]))))
		piece := min(count, fit)
		for h := 0; h < heads; h += step {
			n := min(step, heads-h)
			for at := int64(0); at < count; at += piece {
				part := min(piece, count-at)
				first := int64(h)*count + at
				view, base := between(caps, x, first, first+int64(n-1)*count+part)
				push := shaders.AttentionAbsmaxPush{Base: base, Stride: uint32(count), Count: uint32(part), Slot: uint32(slot + h)}
				if at > 0 {
					push.More = 1
				}
				s.Dispatch(engine.Call{
					Shader: shaders.AttentionAbsmax, Spec: shaders.AttentionAbsmaxSpec{XType: uint32(x.DType)}.Values(),
					Push: push.Append(nil), Bind: []engine.Tensor{view, a.Scratch}, Label: "attention magnitudes",
					Groups: [3]uint32{attentionPeaks, uint32(n), 1}, Cost: float64(n) * float64(part),
				})
			}
		}
		slot += heads
	}
}
