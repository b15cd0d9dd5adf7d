package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// attentionFlexible is a tile of attention_flexible.comp: subgroups of mat queries each, and how many keys are taken at a time.
type attentionFlexible struct {
	variant         string
	subs, keys, mat int
}

func (f attentionFlexible) name() string { return fmt.Sprintf("flexible %dx%d", f.subs, f.keys) }

func (f attentionFlexible) shader() string { return f.variant }

func (f attentionFlexible) queries() int { return f.subs * f.mat }

func (f attentionFlexible) longer(engine.Caps) float64 { return 1 }

func (f attentionFlexible) push(p shaders.AttentionPush) []byte { return matrixPush(p) }

// prepare finds the sizes of operands, which fp16 does not hold as they are.
func (f attentionFlexible) prepare(s *engine.Stream, a AttentionArgs) {
	if f.variant == shaders.AttentionFlexibleF16 {
		a.magnitudes(s)
	}
}

// stage returns the 16-byte words of the shader's staging area, by the same formula.
func (f attentionFlexible) stage(dim int) int {
	pitch, strip := dim/8+1, dim
	if dim%64 == 0 {
		strip = 64
	}
	return max(2*f.keys*pitch, f.queries()*pitch, f.queries()*(strip/4+1))
}

// fits tells whether the device can run the tile for heads of so many channels.
func (f attentionFlexible) fits(caps engine.Caps, dim int, mode AttentionMode) bool {
	if dim%f.mat != 0 || f.keys%f.mat != 0 || mode == AttentionBlocks && (64%f.queries() != 0 || 64%f.keys != 0) {
		return false
	}
	return f.subs*caps.SubgroupSize <= caps.MaxInvocations && int64(16*f.stage(dim)+4*f.keys) <= caps.MaxSharedBytes
}

// attentionFlexibleTiles are the tiles in order of preference; mat is filled in by the device's granularity. On an NVIDIA H100 the first gave 295
// TFLOP/s for heads of 128, the second 285, the third, which suits blocks of 64 queries, 270.
var attentionFlexibleTiles = []attentionFlexible{
	{subs: 8, keys: 64},
	{subs: 8, keys: 32},
	{subs: 4, keys: 32},
	smallAttentionFlexible,
	// What follows is taken where tuning finds it faster: here the first of these gave 287, the other 187.
	{subs: 8, keys: 48},
	{subs: 4, keys: 64},
}

// smallAttentionFlexible is what drivers that emulate matrices compile in bearable time.
var smallAttentionFlexible = attentionFlexible{subs: 2, keys: 16}

// maxFlexibleMat is the largest edge of the kernel's square matrices; larger ones spill registers.
const maxFlexibleMat = 16

// flexibleEdge returns the smallest edge that the device's matrices have, a multiple of 8; on an NVIDIA card it is 16.
func flexibleEdge(grain engine.MatrixShape) int {
	edge := 8
	for _, n := range []int{grain.M, grain.N, grain.K} {
		edge = edge / gcd(edge, n) * n
	}
	return edge
}

// flexibleTiles lists the tiles that the device can run, in order of preference; none where it has no such matrices.
func flexibleTiles(bf16 bool, caps engine.Caps, dim int, mode AttentionMode) (out []attentionFlexible) {
	list, shader := caps.Matrix2.F16, shaders.AttentionFlexibleF16
	if bf16 {
		list, shader = caps.Matrix2.BF16, shaders.AttentionFlexibleBf16
	}
	grain, ok := engine.Find(list, 0)
	if caps.Tier < engine.TierMatrix2 || !ok || flexibleEdge(grain) > maxFlexibleMat {
		return nil
	}
	for _, f := range attentionFlexibleTiles {
		usable := caps.SubgroupSize > emulatedSubgroup || f == smallAttentionFlexible
		f.variant, f.mat = shader, flexibleEdge(grain)
		if usable && f.fits(caps, dim, mode) {
			out = append(out, f)
		}
	}
	return out
}

func (f attentionFlexible) spec(a AttentionArgs, caps engine.Caps, vecOut bool) []shaders.SpecValue {
	return shaders.AttentionFlexibleSpec{
		Subs: uint32(f.subs), HeadDim: uint32(a.Q.Dim(2)), Keys: uint32(f.keys), Subgroup: uint32(caps.SubgroupSize), Mat: uint32(f.mat),
		Mode: uint32(a.Mode), Masked: !a.Mask.IsZero(),
		QType: uint32(a.Q.DType), KType: uint32(a.K.DType), VType: uint32(a.V.DType), OutType: uint32(a.Out.DType),
		VecOut: vecOut, LocalSizeX: uint32(f.subs * caps.SubgroupSize),
	}.Values()
}
