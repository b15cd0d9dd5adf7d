package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Attention whose scores are products of signed bytes (SageAttention: Zhang et al., arXiv 2410.02367). Queries and keys are rounded in place.

// byteOrder is how attention_quantize.comp leaves bytes; the numbers are the shader's.
type byteOrder uint32

const (
	byteRows           byteOrder = iota // of a token after each other, then its scale
	leftByteFragments                   // left operands of 16 tokens by 32 channels
	rightByteFragments                  // right operands, a token being a column
)

// meanParts is in how many parts attention_mean.comp adds tokens up; quantizedRows is the tokens of a workgroup of attention_quantize.comp.
const (
	meanParts     = 32
	quantizedRows = 16
)

// maxInt8Head is the largest head whose queries and keys can be rounded.
const maxInt8Head = 128

// AttentionInt8Scratch returns the words of AttentionArgs.Scratch that Int8 needs.
func AttentionInt8Scratch(heads, kvHeads, dim int) int {
	return int(alignElems(int64(AttentionScratch(heads, kvHeads)))) + kvHeads*(meanParts+1)*dim
}

// sums is the part of the scratch that holds the sums and means of keys.
func (a AttentionArgs) sums() engine.Tensor {
	heads, kvHeads, dim := a.Q.Dim(0), a.K.Dim(0), a.K.Dim(2)
	return a.Scratch.View(alignElems(int64(AttentionScratch(heads, kvHeads))), kvHeads*(meanParts+1)*dim)
}

// headsAtATime calls f with the heads [from, to) of x that one binding holds; one, where not even that fits.
func headsAtATime(caps engine.Caps, x engine.Tensor, f func(from, to int)) {
	heads := x.Dim(0)
	step := int(max(1, bindRoom(caps)/(x.Elems()/int64(heads)*x.DType.Size())))
	for h := 0; h < heads; h += step {
		f(h, min(h+step, heads))
	}
}

// meanKeys records the means of keys over the tokens, per head and channel.
func (a AttentionArgs) meanKeys(s *engine.Stream) {
	caps, sums := s.Device().Caps(), a.sums()
	rows, dim := a.K.Dim(1), a.K.Dim(2)
	spec := shaders.AttentionMeanSpec{Dim: uint32(dim), XType: uint32(a.K.DType)}
	headsAtATime(caps, a.K, func(from, to int) {
		view, base := between(caps, a.K, int64(from)*int64(rows)*int64(dim), int64(to)*int64(rows)*int64(dim))
		push := shaders.AttentionMeanPush{Base: base, Rows: uint32(rows), Slot: uint32(from)}
		for _, finish := range []bool{false, true} {
			spec.Finish = finish
			groups := [3]uint32{meanParts, uint32(to - from), 1}
			if finish {
				groups[0] = 1
			}
			s.Dispatch(engine.Call{Shader: shaders.AttentionMean, Spec: spec.Values(), Push: push.Append(nil), Bind: []engine.Tensor{view, sums},
				Label: "attention means", Groups: groups, Cost: float64(to-from) * float64(rows) * float64(dim)})
		}
	})
}

// quantizeHeads records the rounding of queries, or, with strip, of keys less their means.
func (a AttentionArgs) quantizeHeads(s *engine.Stream, x engine.Tensor, strip bool, order byteOrder) {
	caps, sums := s.Device().Caps(), a.sums()
	rows, dim := x.Dim(1), x.Dim(2)
	spec := shaders.AttentionQuantizeSpec{Dim: uint32(dim), XType: uint32(x.DType), Smooth: strip, Strip: strip, Order: uint32(order)}.Values()
	// A head that exceeds a binding goes in pieces.
	fit := int(bindRoom(caps)/(int64(dim)*x.DType.Size())) / quantizedRows * quantizedRows
	piece := min(rows, max(fit, quantizedRows))
	headsAtATime(caps, x, func(from, to int) {
		for row := 0; row < rows; row += piece {
			n := min(piece, rows-row)
			first := (int64(from)*int64(rows) + int64(row)) * int64(dim)
			view, base := between(caps, x, first, first+(int64(to-1-from)*int64(rows)+int64(n))*int64(dim))
			if base%4 != 0 {
				panic(fmt.Sprintf("ops: attention: %v does not begin at a multiple of four elements", x))
			}
			groups := folded(caps, int64(ceilDiv(n, quantizedRows)))
			groups[2] = uint32(to - from)
			s.Dispatch(engine.Call{Shader: shaders.AttentionQuantize, Spec: spec, Bind: []engine.Tensor{view, sums}, Groups: groups,
				Push:  shaders.AttentionQuantizePush{Base: base, Rows: uint32(n), Slot: uint32(from)}.Append(nil),
				Label: fmt.Sprintf("round heads %dx%dx%d", to-from, n, dim), Cost: float64(to-from) * float64(n) * float64(dim)})
		}
	})
}

// attentionInt8 is attention by scores of signed bytes without matrices (attention.comp). depth of the tile counts words of four channels.
type attentionInt8 struct {
	attentionTile
	half bool
}

func (k attentionInt8) name() string {
	return fmt.Sprintf("int8 %dx%d/%dx%d", k.queries(), k.span(), k.depth, k.keys)
}

func (k attentionInt8) shader() string {
	if k.half {
		return shaders.AttentionInt8Half
	}
	return shaders.AttentionInt8
}

func (k attentionInt8) longer(engine.Caps) float64 { return 1 }

func (k attentionInt8) push(p shaders.AttentionPush) []byte { return p.Append(nil) }

func (k attentionInt8) prepare(s *engine.Stream, a AttentionArgs) {
	if k.half {
		a.magnitudes(s)
	}
	a.meanKeys(s)
	a.quantizeHeads(s, a.Q, false, byteRows)
	a.quantizeHeads(s, a.K, true, byteRows)
}

func (k attentionInt8) spec(a AttentionArgs, _ engine.Caps, _ bool) []shaders.SpecValue {
	return a.plainSpec(k.attentionTile, k.stageInt8(k.half))
}

// stageInt8 returns the vec4 elements of the staging area, which holds a slice of v, or the sums over columns.
func (t attentionTile) stageInt8(half bool) int {
	n := t.keys * t.columns * t.lanes
	if !half {
		n = max(n, t.lanes*t.queries()/4)
	}
	return n
}

// sharedInt8 returns the bytes of shared memory of a workgroup.
func (t attentionTile) sharedInt8(half bool) int64 {
	quads := t.queries() / 4
	vectors := t.span()*(quads+1) + t.stageInt8(half)
	words := 16 * (t.depth*(quads+1+t.lanes+1) + t.lanes)
	if half {
		return int64(8*vectors + words + 16*t.lanes*quads)
	}
	return int64(16*vectors + words)
}

// int8Kernels lists how attention by signed bytes can be computed, in order of preference. Tiles divide blocks of 64 tokens; the last fits Vulkan's
// smallest limits.
func (a AttentionArgs) int8Kernels(z attentionSizes, caps engine.Caps) (out []attentionKernel) {
	if out = a.byteFragmentTiles(z, caps); out != nil {
		return out
	}
	for _, t := range []attentionTile{
		{threads: 128, lanes: 16, rows: 8, depth: 8, keys: 16},
		{threads: 128, lanes: 8, rows: 4, depth: 4, keys: 8},
	} {
		t.columns = ceilDiv(z.dim, t.span())
		if t.sharedInt8(a.Half) <= caps.MaxSharedBytes && t.threads <= caps.MaxInvocations {
			out = append(out, attentionInt8{t, a.Half})
		}
	}
	return out
}
