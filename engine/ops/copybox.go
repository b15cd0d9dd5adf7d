package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Box is a run of elements of a tensor along four axes: element p lies Offset + Σ p[k]·Stride[k] elements into Tensor,
// whose own shape is not looked at.
type Box struct {
	Tensor engine.Tensor
	Offset int64
	Stride [4]int64 // not negative
}

// extent is the number of elements from the first to the last of a box of this size.
func (b Box) extent(size [4]int) int64 {
	n := int64(1)
	for k, stride := range b.Stride {
		n += int64(size[k]-1) * stride
	}
	return n
}

// from returns the box that starts at p.
func (b Box) from(p [4]int) Box {
	for k, stride := range b.Stride {
		b.Offset += int64(p[k]) * stride
	}
	return b
}

// CopyBoxArgs are the operands of CopyBox.
type CopyBoxArgs struct {
	Dst, Src Box // f32, bf16 or f16, each for itself; they must not overlap
	Size     [4]int
	// FadeExtent > 0 blends along axis FadeAxis: dst = src·(1 − i/FadeExtent) + dst·(i/FadeExtent), i the place along
	// that axis.
	FadeAxis, FadeExtent int
}

// CopyBox records the copy of a box: cropping, concatenating, permuting axes, converting. It is cut along its longest
// strides as the device needs it, with the same results. See CopyRegion, PermuteAxes and Blend for common uses.
func CopyBox(s *engine.Stream, a CopyBoxArgs) {
	if s.Err() != nil || !a.check() {
		return
	}
	c := copyBox{CopyBoxArgs: a, stream: s, caps: s.Device().Caps()}
	c.vec = a.Size[3]%4 == 0 && a.Dst.quads() && a.Src.quads() && !(a.FadeExtent > 0 && a.FadeAxis == 3)
	c.cut([4]int{}, a.Size)
}

// quads tells whether the last axis can be moved four elements at a time.
func (b Box) quads() bool {
	for _, stride := range b.Stride[:3] {
		if stride%4 != 0 {
			return false
		}
	}
	return b.Stride[3] == 1 && b.Offset%4 == 0 && quadAligned(b.Tensor)
}

// check returns whether there is anything to copy.
func (a CopyBoxArgs) check() bool {
	bad := func(why string) { panic(fmt.Sprintf("ops.CopyBox: %s: %+v", why, a)) }
	if !floats(a.Dst.Tensor, a.Src.Tensor) {
		bad("both tensors must hold floats")
	}
	for k, n := range a.Size {
		if n < 0 || a.Dst.Stride[k] < 0 || a.Src.Stride[k] < 0 {
			bad("negative size or stride")
		}
		if n == 0 {
			return false
		}
	}
	for _, b := range []Box{a.Dst, a.Src} {
		if b.Offset < 0 || b.Offset+b.extent(a.Size) > b.Tensor.Elems() {
			bad("the box reaches beyond its tensor")
		}
	}
	if a.FadeExtent < 0 || a.FadeExtent > 0 && (a.FadeAxis < 0 || a.FadeAxis > 3 || a.Size[a.FadeAxis] > a.FadeExtent) {
		bad("the box is longer than the fade")
	}
	return true
}

// copyBox is a checked call while it is cut into dispatches.
type copyBox struct {
	CopyBoxArgs
	stream *engine.Stream
	caps   engine.Caps
	vec    bool
}

// cut halves the box along the axis that spreads it furthest until a dispatch can take it.
func (c copyBox) cut(at, size [4]int) {
	room := c.caps.MaxStorageRange - 256
	dst, src := c.Dst.extent(size)*c.Dst.Tensor.DType.Size(), c.Src.extent(size)*c.Src.Tensor.DType.Size()
	count := float64(size[0]) * float64(size[1]) * float64(size[2]) * float64(size[3])
	axis, far := -1, int64(0)
	for k, n := range size {
		unit := 1
		if k == 3 && c.vec {
			unit = 4
		}
		if reach := int64(n) * max(c.Dst.Stride[k], c.Src.Stride[k]); n > unit && reach > far {
			axis, far = k, reach
		}
	}
	if axis < 0 || dst <= room && src <= room && 4*count <= c.caps.MaxDispatchCost && count < 1<<31 {
		c.dispatch(at, size, count)
		return
	}
	low, high, next := size, size, at
	low[axis] = (size[axis]/2 + 3) &^ 3
	if axis != 3 || !c.vec {
		low[axis] = size[axis] / 2
	}
	high[axis] -= low[axis]
	next[axis] += low[axis]
	c.cut(at, low)
	c.cut(next, high)
}

func (c copyBox) dispatch(at, size [4]int, count float64) {
	var push shaders.CopyboxPush
	for k, n := range size {
		push.Size[k] = uint32(n)
		push.SrcStride[k], push.DstStride[k] = uint32(c.Src.Stride[k]), uint32(c.Dst.Stride[k])
	}
	if c.FadeExtent > 0 {
		push.BlendAxis, push.BlendFirst, push.BlendExtent = uint32(c.FadeAxis), uint32(at[c.FadeAxis]), uint32(c.FadeExtent)
	}
	bind := make([]engine.Tensor, 2)
	dst, src := c.Dst.from(at), c.Src.from(at)
	bind[0], push.SrcBase = alignedView(c.caps, src.Tensor, src.Offset, src.extent(size))
	bind[1], push.DstBase = alignedView(c.caps, dst.Tensor, dst.Offset, dst.extent(size))
	invocations := int64(count)
	if c.vec {
		invocations /= 4
	}
	c.stream.Dispatch(engine.Call{
		Shader: shaders.Copybox, Push: push.Append(nil), Bind: bind,
		Spec: shaders.CopyboxSpec{SrcType: uint32(c.Src.Tensor.DType), DstType: uint32(c.Dst.Tensor.DType),
			Blend: c.FadeExtent > 0, Vec: c.vec}.Values(),
		Groups: folded(c.caps, (invocations+elementsPerGroup-1)/elementsPerGroup),
		Cost:   4 * count, Label: fmt.Sprintf("copy %v", size),
	})
}

// box views t, of at most four axes, from element at on.
func box(t engine.Tensor, at []int) Box {
	if len(t.Shape) > 4 || len(at) != len(t.Shape) {
		panic(fmt.Sprintf("ops: box at %v of %v: a box has at most four axes, one place for each", at, t))
	}
	b := Box{Tensor: t}
	stride := int64(1)
	for k := len(at) - 1; k >= 0; k-- {
		b.Stride[k+4-len(at)] = stride
		b.Offset += int64(at[k]) * stride
		stride *= int64(t.Shape[k])
	}
	return b
}

// inside panics unless a region of this size, from at on, lies in t.
func inside(op string, t engine.Tensor, at, size []int) {
	ok := len(at) == len(t.Shape) && len(size) == len(t.Shape)
	for k := 0; ok && k < len(at); k++ {
		ok = at[k] >= 0 && size[k] >= 0 && at[k]+size[k] <= t.Shape[k]
	}
	if !ok {
		panic(fmt.Sprintf("ops.%s: a region of %v from %v on is not in %v", op, size, at, t))
	}
}

// boxSize pads a size in front to four axes.
func boxSize(size []int) [4]int {
	out := [4]int{1, 1, 1, 1}
	copy(out[4-len(size):], size)
	return out
}

// CopyRegion records the copy of a region of size elements from place srcAt of src to place dstAt of dst, tensors with
// the same number of axes, at most four: cropping and concatenation.
func CopyRegion(s *engine.Stream, dst engine.Tensor, dstAt []int, src engine.Tensor, srcAt []int, size []int) {
	if s.Err() != nil {
		return
	}
	inside("CopyRegion", dst, dstAt, size)
	inside("CopyRegion", src, srcAt, size)
	CopyBox(s, CopyBoxArgs{Dst: box(dst, dstAt), Src: box(src, srcAt), Size: boxSize(size)})
}

// PermuteAxes records dst[…] = src with its axes reordered: axis k of dst is axis axes[k] of src, at most four of them.
// Channels-first [C, T, H, W] becomes [T, H, W, C] by axes 1, 2, 3, 0, and goes back by 3, 0, 1, 2.
func PermuteAxes(s *engine.Stream, dst, src engine.Tensor, axes ...int) {
	if s.Err() != nil {
		return
	}
	from := box(src, make([]int, len(src.Shape)))
	to := box(dst, make([]int, len(dst.Shape)))
	pad := 4 - len(axes)
	stride := [4]int64{}
	seen := 0
	for k, axis := range axes {
		if len(axes) != len(src.Shape) || len(axes) != len(dst.Shape) || axis < 0 || axis >= len(axes) || dst.Shape[k] != src.Shape[axis] {
			panic(fmt.Sprintf("ops.PermuteAxes: %v is not %v with axes %v", dst, src, axes))
		}
		stride[k+pad] = from.Stride[axis+pad]
		seen |= 1 << axis
	}
	if seen != 1<<len(axes)-1 {
		panic(fmt.Sprintf("ops.PermuteAxes: axes %v name one twice", axes))
	}
	from.Stride = stride
	CopyBox(s, CopyBoxArgs{Dst: to, Src: from, Size: boxSize(dst.Shape)})
}

// Blend records the cross-fade between neighbouring tiles of a decoded video, in place in next: along axis, the first
// extent places of next become prev[len − extent + i]·(1 − i/extent) + next[i]·(i/extent). The extent is clipped to both
// lengths; along the other axes the tensors must be equal (kandinsky-5, kandinsky/models/vae.py, blend_v, blend_h and
// blend_t).
func Blend(s *engine.Stream, next, prev engine.Tensor, axis, extent int) {
	if s.Err() != nil {
		return
	}
	if len(next.Shape) != len(prev.Shape) || axis < 0 || axis >= len(next.Shape) {
		panic(fmt.Sprintf("ops.Blend: %v and %v along axis %d", prev, next, axis))
	}
	extent = min(extent, next.Shape[axis], prev.Shape[axis])
	if extent <= 0 {
		return
	}
	size := append([]int(nil), next.Shape...)
	size[axis] = extent
	from := make([]int, len(size))
	from[axis] = prev.Shape[axis] - extent
	to := make([]int, len(size))
	inside("Blend", prev, from, size)
	CopyBox(s, CopyBoxArgs{Dst: box(next, to), Src: box(prev, from), Size: boxSize(size), FadeAxis: axis + 4 - len(size), FadeExtent: extent})
}
