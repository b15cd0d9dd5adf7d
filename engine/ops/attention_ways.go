package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// attentionKernel is one way to compute an attention: by matrices, or by the plain kernel with a tile.
type attentionKernel struct {
	matrix *attentionMatrix
	tile   attentionTile // where matrix is nil
}

// name is the way's name in tuning: the kernel, and how much of queries and keys it takes at a time.
func (k attentionKernel) name() string {
	switch m := k.matrix; {
	case m == nil:
		return fmt.Sprintf("plain %dx%d/%dx%d", k.tile.queries(), k.tile.span(), k.tile.depth, k.tile.keys)
	case m.fragments != nil:
		return m.fragments.name()
	case m.flexible != nil:
		return fmt.Sprintf("flexible %dx%d", m.flexible.subs, m.flexible.keys)
	default:
		t := m.tile
		return fmt.Sprintf("matrix %dx%dx%d/%d", t.subsM, t.subsN, t.fragsQ, t.keys)
	}
}

// shader is the variant that computes it.
func (k attentionKernel) shader(half bool) string {
	switch {
	case k.matrix != nil && k.matrix.flexible != nil:
		return k.matrix.flexible.shader
	case k.matrix != nil:
		return k.matrix.shader
	case half:
		return shaders.AttentionHalf
	}
	return shaders.Attention
}

// chooseKernel returns the way that is taken where none was measured, false where the device can run none.
func (a AttentionArgs) chooseKernel(z attentionSizes, caps engine.Caps) (attentionKernel, bool) {
	if m, ok := a.chooseMatrix(z, caps); ok {
		return attentionKernel{matrix: &m}, true
	}
	tile, ok := chooseAttentionTile(z.dim, a.Half, caps)
	return attentionKernel{tile: tile}, ok
}

// ways lists what computes the attention on the device. Where matrices can, only they do: a tier says what is computed by
// what. Ways differ in the order of sums, so their results differ by rounding.
func (a AttentionArgs) ways(z attentionSizes, caps engine.Caps) (out []attentionKernel) {
	for _, m := range a.matrixKernels(z, caps) {
		out = append(out, attentionKernel{matrix: &m})
	}
	if out != nil {
		return out
	}
	for _, t := range attentionTiles(z.dim, a.Half, caps) {
		out = append(out, attentionKernel{tile: t})
	}
	return out
}

// operation describes the attention for tuning. For lists of blocks the cost is that of all blocks: how many are listed
// is known to the device alone.
func (a AttentionArgs) operation(z attentionSizes, caps engine.Caps, byDefault attentionKernel) engine.Operation {
	o := engine.Operation{
		Kernel: "attention", Default: byDefault.name(),
		Cost: 4 * float64(z.heads) * float64(z.tq) * float64(z.tk) * float64(z.dim),
		Shape: fmt.Sprintf("%v %v·%v·%v→%v %d/%d heads of %d, ≤%d×%d", a.Mode, a.Q.DType, a.K.DType, a.V.DType, a.Out.DType,
			z.heads, z.heads/z.group, z.dim, rowClass(z.tq), rowClass(z.tk)),
		Record: func(s *engine.Stream, way string) { a.recordKernel(s, z, a.take(z, caps, byDefault, way)) },
	}
	if !a.Mask.IsZero() {
		o.Shape = "masked " + o.Shape
	}
	if a.Half {
		o.Shape = "half " + o.Shape
	}
	for _, k := range a.ways(z, caps) {
		o.Ways = append(o.Ways, engine.Way{Name: k.name(), Shader: k.shader(a.Half)})
	}
	return o
}

// take returns the way of that name if the device can run it, else the one it is given.
func (a AttentionArgs) take(z attentionSizes, caps engine.Caps, otherwise attentionKernel, name string) attentionKernel {
	if name == "" {
		return otherwise
	}
	for _, k := range a.ways(z, caps) {
		if k.name() == name {
			return k
		}
	}
	return otherwise
}

// recordKernel dispatches the attention in a way.
func (a AttentionArgs) recordKernel(s *engine.Stream, z attentionSizes, k attentionKernel) {
	if k.matrix != nil {
		a.recordMatrix(s, z, *k.matrix)
		return
	}
	a.record(s, z, k.tile)
}
