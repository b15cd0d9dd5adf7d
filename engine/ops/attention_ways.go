package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// attentionKernel is one way to compute an attention: a kernel with a tile.
type attentionKernel interface {
	name() string                                                            // the way's name in tuning: the kernel, and how much of queries and keys it takes at a time
	shader() string                                                          // the variant that computes it
	queries() int                                                            // of one workgroup
	longer(engine.Caps) float64                                              // how much more work than others a dispatch of it may do
	prepare(*engine.Stream, AttentionArgs)                                   // records what has to come before
	push(shaders.AttentionPush) []byte                                       // the push constants of the shader
	spec(a AttentionArgs, caps engine.Caps, vecOut bool) []shaders.SpecValue // vecOut: rows of out begin at multiples of 4 elements
}

// attentionPlain is attention without matrices (attention.comp).
type attentionPlain struct {
	attentionTile
	half bool
}

func (k attentionPlain) name() string {
	return fmt.Sprintf("plain %dx%d/%dx%d", k.queries(), k.span(), k.depth, k.keys)
}

func (k attentionPlain) shader() string {
	if k.half {
		return shaders.AttentionHalf
	}
	return shaders.Attention
}

func (k attentionPlain) longer(engine.Caps) float64 { return 1 }

func (k attentionPlain) push(p shaders.AttentionPush) []byte { return p.Append(nil) }

func (k attentionPlain) prepare(s *engine.Stream, a AttentionArgs) {
	if k.half {
		a.magnitudes(s)
	}
}

func (k attentionPlain) spec(a AttentionArgs, _ engine.Caps, _ bool) []shaders.SpecValue {
	return a.plainSpec(k.attentionTile, k.stage(k.half))
}

// plainSpec are the specialization constants of attention.comp.
func (a AttentionArgs) plainSpec(t attentionTile, stage int) []shaders.SpecValue {
	return shaders.AttentionSpec{
		Threads: uint32(t.threads), Lanes: uint32(t.lanes), Rows: uint32(t.rows), HeadDim: uint32(a.Q.Dim(2)),
		Columns: uint32(t.columns), Depth: uint32(t.depth), Keys: uint32(t.keys), Stage: uint32(stage),
		Mode: uint32(a.Mode), Masked: !a.Mask.IsZero(),
		QType: uint32(a.Q.DType), KType: uint32(a.K.DType), VType: uint32(a.V.DType), OutType: uint32(a.Out.DType),
	}.Values()
}

// chooseKernel returns the way that is taken where none was measured, false where the device can run none.
func (a AttentionArgs) chooseKernel(z attentionSizes, caps engine.Caps) (attentionKernel, bool) {
	if list := a.ways(z, caps); list != nil {
		return list[0], true
	}
	return nil, false
}

// ways lists what computes the attention on the device. Where matrices can, only they do: a tier says what is computed by
// what. Ways differ in the order of sums, so their results differ by rounding.
func (a AttentionArgs) ways(z attentionSizes, caps engine.Caps) (out []attentionKernel) {
	if a.Int8 {
		return a.int8Kernels(z, caps)
	}
	if out = a.matrixKernels(z, caps); out != nil {
		return out
	}
	for _, t := range attentionTiles(z.dim, a.Half, caps) {
		out = append(out, attentionPlain{t, a.Half})
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
		Record: func(s *engine.Stream, way string) {
			if a.Int8 { // bytes that were left by the last time are no numbers to round again
				s.Fill(a.Q, tuningFill)
				s.Fill(a.K, tuningFill)
			}
			a.record(s, z, a.take(z, caps, byDefault, way))
		},
	}
	if !a.Mask.IsZero() {
		o.Shape = "masked " + o.Shape
	}
	if a.Half {
		o.Shape = "half " + o.Shape
	}
	if a.Int8 {
		o.Shape = "int8 " + o.Shape
	}
	for _, k := range a.ways(z, caps) {
		o.Ways = append(o.Ways, engine.Way{Name: k.name(), Shader: k.shader()})
	}
	return o
}

// tuningFill is two small numbers in any of the 16-bit types, and one in fp32.
const tuningFill = 0x3c003c10

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
