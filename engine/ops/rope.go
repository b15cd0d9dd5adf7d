package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// HeadView is a tensor seen as rows of Dim elements, one per head and token. The row of head h and token t starts
// h·HeadStride + t·TokenStride elements into Tensor.
type HeadView struct {
	Tensor                  engine.Tensor
	Heads, Tokens, Dim      int
	HeadStride, TokenStride int64 // elements
}

// HeadMajor views t [heads, tokens, dim].
func HeadMajor(t engine.Tensor) HeadView {
	if len(t.Shape) != 3 {
		panic(fmt.Sprintf("ops.HeadMajor: %v has no three axes", t))
	}
	h, n, d := t.Dim(0), t.Dim(1), t.Dim(2)
	return HeadView{t, h, n, d, int64(n) * int64(d), int64(d)}
}

// TokenMajor views columns [first, first + heads·dim) of t [tokens, width], such as the queries in the output of a fused
// query, key and value layer.
func TokenMajor(t engine.Tensor, first, heads, dim int) HeadView {
	if len(t.Shape) != 2 || first < 0 || first+heads*dim > t.Dim(1) {
		panic(fmt.Sprintf("ops.TokenMajor: columns %d to %d of %v", first, first+heads*dim, t))
	}
	n, w := t.Dim(0), t.Dim(1)
	rest := t.View(int64(first), int(t.Elems())-first)
	return HeadView{rest, heads, n, dim, int64(dim), int64(w)}
}

// extent is the number of elements from the first to the last of some heads and tokens.
func (v HeadView) extent(heads, tokens int) int64 {
	return int64(heads-1)*v.HeadStride + int64(tokens-1)*v.TokenStride + int64(v.Dim)
}

// RopeArgs are the operands of Rope.
type RopeArgs struct {
	X HeadView
	Y HeadView // the zero view stands for X: in place
	// Table holds cos and sin of every token and pair, f32 [tokens, dim/2, 2], see RopeTable. None: no rotation.
	Table engine.Tensor
	// Split pairs element j with j + dim/2 (Qwen2.5-VL) instead of 2j with 2j + 1 (Kandinsky 5).
	Split bool
	// Gain, [dim], is the weight of a preceding RMSNorm over each row with Eps. None: no normalisation.
	Gain engine.Tensor
	Eps  float32
}

// Rope records per-head RMSNorm, rotary position embedding, or both, in fp32 with one rounding at the end. It also moves
// heads between layouts when X and Y differ. Dim must be a multiple of 4 (of 8 with Split), and so must strides and first
// elements. Work is cut over heads and tokens as the device needs it, with the same results.
func Rope(s *engine.Stream, a RopeArgs) {
	if s.Err() != nil {
		return
	}
	if a.Y.Tensor.IsZero() {
		a.Y = a.X
	}
	a.check()
	r := rope{RopeArgs: a, caps: s.Device().Caps(), stream: s}
	items := a.X.Dim / 4
	if a.Split {
		items /= 2
	}
	r.lanes = rowLanes(items)
	r.spec = shaders.RopeSpec{XType: uint32(a.X.Tensor.DType), YType: uint32(a.Y.Tensor.DType), GainType: uint32(a.Gain.DType),
		Lanes: r.lanes, Norm: !a.Gain.IsZero(), Rotate: !a.Table.IsZero(), Split: a.Split && !a.Table.IsZero()}.Values()
	r.cut(0, a.X.Heads, 0, a.X.Tokens)
}

func (a RopeArgs) check() {
	x, y := a.X, a.Y
	bad := func(why string) {
		panic(fmt.Sprintf("ops.Rope: %s: x %v as %d heads, %d tokens, %d elements (strides %d, %d), y %v as %d, %d, %d (%d, %d), table %v, gain %v", why,
			x.Tensor, x.Heads, x.Tokens, x.Dim, x.HeadStride, x.TokenStride, y.Tensor, y.Heads, y.Tokens, y.Dim, y.HeadStride, y.TokenStride, a.Table, a.Gain))
	}
	if !floats(x.Tensor, y.Tensor) || x.Heads < 1 || x.Tokens < 1 {
		bad("x and y must be float tensors that are not empty")
	}
	if x.Heads != y.Heads || x.Tokens != y.Tokens || x.Dim != y.Dim {
		bad("x and y must have the same heads, tokens and elements")
	}
	if x.extent(x.Heads, x.Tokens) > x.Tensor.Elems() || y.extent(y.Heads, y.Tokens) > y.Tensor.Elems() {
		bad("a view reaches beyond its tensor")
	}
	unit := 4
	if a.Split {
		unit = 8
	}
	if x.Dim < unit || x.Dim%unit != 0 || x.Dim > 512 || (x.HeadStride|x.TokenStride|y.HeadStride|y.TokenStride)%4 != 0 ||
		!quadAligned(x.Tensor, y.Tensor, a.Table, a.Gain) {
		bad(fmt.Sprintf("rows must have a multiple of %d elements, at most 512, and start at a multiple of 4", unit))
	}
	if !a.Table.IsZero() && (a.Table.DType != engine.F32 || a.Table.Elems() != int64(x.Tokens)*int64(x.Dim)) {
		bad("the table must be f32 [tokens, elements/2, 2]")
	}
	if !vectorOf(a.Gain, x.Dim) {
		bad("gain must hold one float per element")
	}
	if a.Table.IsZero() && a.Gain.IsZero() {
		bad("there is neither a table nor a gain")
	}
}

// rope is a checked call while it is cut into dispatches.
type rope struct {
	RopeArgs
	stream *engine.Stream
	caps   engine.Caps
	lanes  uint32
	spec   []shaders.SpecValue
}

// cut halves heads or tokens, whichever spreads the rows of x further, until a dispatch can take them.
func (r rope) cut(head, heads, token, tokens int) {
	cost := 10 * float64(heads) * float64(tokens) * float64(r.X.Dim)
	room := r.caps.MaxStorageRange - 256
	fits := cost <= r.caps.MaxDispatchCost && r.X.extent(heads, tokens)*r.X.Tensor.DType.Size() <= room &&
		r.Y.extent(heads, tokens)*r.Y.Tensor.DType.Size() <= room && int64(tokens)*int64(r.X.Dim)*4 <= room
	switch {
	case fits || heads == 1 && tokens == 1:
		r.dispatch(head, heads, token, tokens, cost)
	case tokens == 1 || heads > 1 && int64(heads)*r.X.HeadStride >= int64(tokens)*r.X.TokenStride:
		r.cut(head, heads/2, token, tokens)
		r.cut(head+heads/2, heads-heads/2, token, tokens)
	default:
		r.cut(head, heads, token, tokens/2)
		r.cut(head, heads, token+tokens/2, tokens-tokens/2)
	}
}

func (r rope) dispatch(head, heads, token, tokens int, cost float64) {
	push := shaders.RopePush{Heads: uint32(heads), Tokens: uint32(tokens), Dim: uint32(r.X.Dim), Eps: r.Eps,
		XHeadStride: uint32(r.X.HeadStride), XTokenStride: uint32(r.X.TokenStride),
		YHeadStride: uint32(r.Y.HeadStride), YTokenStride: uint32(r.Y.TokenStride)}
	bind := make([]engine.Tensor, 4)
	view := func(v HeadView) (engine.Tensor, uint32) {
		return alignedView(r.caps, v.Tensor, int64(head)*v.HeadStride+int64(token)*v.TokenStride, v.extent(heads, tokens))
	}
	bind[0], push.XBase = view(r.X)
	bind[1], push.YBase = view(r.Y)
	bind[2], push.TableBase = alignedView(r.caps, r.Table, int64(token)*int64(r.X.Dim), int64(tokens)*int64(r.X.Dim))
	bind[3], push.GainBase = alignedView(r.caps, r.Gain, 0, int64(r.X.Dim))
	rows := int64(heads) * int64(tokens)
	r.stream.Dispatch(engine.Call{
		Shader: shaders.Rope, Spec: r.spec, Push: push.Append(nil), Bind: bind,
		Groups: folded(r.caps, (rows*int64(r.lanes)+127)/128),
		Cost:   cost, Label: fmt.Sprintf("rope %dx%dx%d", heads, tokens, r.X.Dim),
	})
}
