package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// attentionMatrixTile is a shape of attention_matrix.comp: subgroups in a grid of subsM × subsN, each holding fragsQ
// matrices of queries, and how many keys are taken at a time.
type attentionMatrixTile struct{ subsM, subsN, fragsQ, keys int }

func (t attentionMatrixTile) subgroups() int { return t.subsM * t.subsN }

// attentionMatrix is attention by cooperative matrices (attention_matrix.comp).
type attentionMatrix struct {
	variant string
	shape   engine.MatrixShape
	tile    attentionMatrixTile
}

func (m attentionMatrix) name() string {
	t := m.tile
	return fmt.Sprintf("matrix %dx%dx%d/%d", t.subsM, t.subsN, t.fragsQ, t.keys)
}

func (m attentionMatrix) shader() string { return m.variant }

func (m attentionMatrix) queries() int { return m.tile.subsM * m.tile.fragsQ * m.shape.M }

func (m attentionMatrix) longer(engine.Caps) float64 { return 1 }

func (m attentionMatrix) push(p shaders.AttentionPush) []byte { return matrixPush(p) }

// prepare finds the sizes of operands, which fp16 does not hold as they are.
func (m attentionMatrix) prepare(s *engine.Stream, a AttentionArgs) {
	if m.variant == shaders.AttentionMatrixF16 {
		a.magnitudes(s)
	}
}

func (m attentionMatrix) spec(a AttentionArgs, caps engine.Caps, vecOut bool) []shaders.SpecValue {
	t, s := m.tile, m.shape
	return shaders.AttentionMatrixSpec{
		SubsM: uint32(t.subsM), SubsN: uint32(t.subsN), FragsQ: uint32(t.fragsQ), HeadDim: uint32(a.Q.Dim(2)), Keys: uint32(t.keys),
		Subgroup: uint32(caps.SubgroupSize), MatM: uint32(s.M), MatN: uint32(s.N), MatK: uint32(s.K),
		Mode: uint32(a.Mode), Masked: !a.Mask.IsZero(),
		QType: uint32(a.Q.DType), KType: uint32(a.K.DType), VType: uint32(a.V.DType), OutType: uint32(a.Out.DType),
		VecOut: vecOut, LocalSizeX: uint32(t.subgroups() * caps.SubgroupSize),
	}.Values()
}

// matrixPush are the push constants of include/attention.glsl.
func matrixPush(p shaders.AttentionPush) []byte {
	return shaders.AttentionMatrixPush{Tq: p.Tq, Tk: p.Tk, Row: p.Row, QBase: p.QBase, KBase: p.KBase, VBase: p.VBase, OutBase: p.OutBase,
		QStride: p.QStride, KvStride: p.KvStride, OutStride: p.OutStride, Head: p.Head, KvHead: p.KvHead, Group: p.Group,
		Blocks: p.Blocks, ListBase: p.ListBase, IndexBase: p.IndexBase, Heads: p.Heads, KvHeads: p.KvHeads, Scale: p.Scale}.Append(nil)
}

// stage returns the 16-byte words of the shader's staging area, by the same formula.
func (m attentionMatrix) stage(dim int) int {
	t, s := m.tile, m.shape
	pitch, cols := dim/8+1, dim/t.subsN
	loop := 2*t.keys*pitch + m.queries()*(t.keys/8+1) + t.subgroups()*s.M*s.N/4
	strip := cols
	if cols%64 == 0 {
		strip = 64
	}
	return max(loop, m.queries()*pitch, t.subgroups()*s.M*(strip/4+1), m.queries()*t.subsN*s.N/4)
}

func (m attentionMatrix) sharedBytes(dim int) int64 {
	return int64(16*m.stage(dim) + 4*(m.queries()+m.tile.keys+4))
}

// fits tells whether the device can run the tile for heads of so many channels.
func (m attentionMatrix) fits(caps engine.Caps, dim int, mode AttentionMode) bool {
	t, s := m.tile, m.shape
	if dim%8 != 0 || dim%s.K != 0 || dim%(t.subsN*s.N) != 0 || t.keys%s.K != 0 || t.keys%(t.subsN*s.N) != 0 {
		return false
	}
	if mode == AttentionBlocks && (64%m.queries() != 0 || 64%t.keys != 0) {
		return false
	}
	return t.subgroups()*caps.SubgroupSize <= caps.MaxInvocations && m.sharedBytes(dim) <= caps.MaxSharedBytes
}

// attentionMatrixTiles are the tiles in order of preference.
var attentionMatrixTiles = []attentionMatrixTile{
	{subsM: 4, subsN: 2, fragsQ: 2, keys: 32},
	{subsM: 2, subsN: 2, fragsQ: 2, keys: 64}, // 64 queries: blocks
	{subsM: 4, subsN: 1, fragsQ: 1, keys: 32},
	smallAttentionMatrixTile,
	// What follows is taken where tuning finds it faster.
	{subsM: 4, subsN: 2, fragsQ: 1, keys: 32},
	{subsM: 8, subsN: 1, fragsQ: 1, keys: 32},
	{subsM: 4, subsN: 1, fragsQ: 2, keys: 32},
}

// smallAttentionMatrixTile is what drivers that emulate matrices compile in bearable time.
var smallAttentionMatrixTile = attentionMatrixTile{subsM: 2, subsN: 1, fragsQ: 1, keys: 16}

// maxMatrixHead is the largest head that attention by matrices holds in registers.
const maxMatrixHead = 128

// matrixKernels lists how matrices can compute the attention, in order of preference.
func (a AttentionArgs) matrixKernels(z attentionSizes, caps engine.Caps) (out []attentionKernel) {
	if !a.Half || a.Mode != AttentionFull && a.Mode != AttentionBlocks || z.dim > maxMatrixHead || !vectors(a.Q) || !vectors(a.K) || !vectors(a.V) {
		return nil
	}
	for _, f := range a.fragmentTiles(z, caps) {
		out = append(out, f)
	}
	if caps.Tier < engine.TierMatrix {
		return out
	}
	m := attentionMatrix{variant: shaders.AttentionMatrixF16, shape: caps.Matrix.F16}
	bf16 := a.Q.DType == engine.BF16 && a.K.DType == engine.BF16 && a.V.DType == engine.BF16 && caps.Matrix.BF16 != (engine.MatrixShape{})
	if bf16 {
		m.variant, m.shape = shaders.AttentionMatrixBf16, caps.Matrix.BF16
	}
	if m.shape == (engine.MatrixShape{}) {
		return out
	}
	for _, f := range flexibleTiles(bf16, caps, z.dim, a.Mode) {
		out = append(out, f)
	}
	for _, t := range attentionMatrixTiles {
		m.tile = t
		if (caps.SubgroupSize > emulatedSubgroup || t == smallAttentionMatrixTile) && m.fits(caps, z.dim, a.Mode) {
			out = append(out, m)
		}
	}
	return out
}
