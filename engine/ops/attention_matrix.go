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

// attentionMatrix is how an attention is computed by cooperative matrices.
type attentionMatrix struct {
	shader string
	shape  engine.MatrixShape
	tile   attentionMatrixTile
	// flexible, if set, is the kernel for matrices of VK_NV_cooperative_matrix2 that does it instead.
	flexible *attentionFlexible
	// fragments, if set, is the kernel for packed fragments that does it instead.
	fragments *attentionFragments
}

func (m attentionMatrix) queries() int {
	if m.fragments != nil {
		return m.fragments.queries()
	}
	if m.flexible != nil {
		return m.flexible.queries()
	}
	return m.tile.subsM * m.tile.fragsQ * m.shape.M
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

// chooseMatrix returns how matrices compute the attention; false where they cannot.
func (a AttentionArgs) chooseMatrix(z attentionSizes, caps engine.Caps) (attentionMatrix, bool) {
	if list := a.matrixKernels(z, caps); list != nil {
		return list[0], true
	}
	return attentionMatrix{}, false
}

// matrixKernels lists how matrices can compute the attention, in order of preference.
func (a AttentionArgs) matrixKernels(z attentionSizes, caps engine.Caps) (out []attentionMatrix) {
	if !a.Half || a.Mode != AttentionFull && a.Mode != AttentionBlocks || z.dim > maxMatrixHead || !vectors(a.Q) || !vectors(a.K) || !vectors(a.V) {
		return nil
	}
	for _, f := range a.fragmentTiles(z, caps) {
		out = append(out, attentionMatrix{shader: attentionFragmentShader(caps), fragments: &f})
	}
	if caps.Tier < engine.TierMatrix {
		return out
	}
	m := attentionMatrix{shader: shaders.AttentionMatrixF16, shape: caps.Matrix.F16}
	if a.Q.DType == engine.BF16 && a.K.DType == engine.BF16 && a.V.DType == engine.BF16 && caps.Matrix.BF16 != (engine.MatrixShape{}) {
		m.shader, m.shape = shaders.AttentionMatrixBf16, caps.Matrix.BF16
	}
	if m.shape == (engine.MatrixShape{}) {
		return out
	}
	for _, f := range flexibleTiles(m.shader == shaders.AttentionMatrixBf16, caps, z.dim, a.Mode) {
		m.flexible = &f
		out = append(out, m)
	}
	m.flexible = nil
	for _, t := range attentionMatrixTiles {
		m.tile = t
		if (caps.SubgroupSize > emulatedSubgroup || t == smallAttentionMatrixTile) && m.fits(caps, z.dim, a.Mode) {
			out = append(out, m)
		}
	}
	return out
}

// recordMatrix dispatches the kernel for matrices.
func (a AttentionArgs) recordMatrix(s *engine.Stream, z attentionSizes, m attentionMatrix) {
	caps := s.Device().Caps()
	if m.fragments != nil && caps.Fragments == engine.MatrixFragments {
		caps.MaxDispatchCost *= fragmentDispatch
	}
	cuts, err := planAttention(z, m.queries(), caps)
	if err != nil {
		s.Fail(fmt.Errorf("ops: attention: %w", err))
		return
	}
	switch {
	case m.fragments != nil:
		a.pack(s)
	case m.shader == shaders.AttentionMatrixF16:
		a.magnitudes(s)
	}
	label := fmt.Sprintf("attention %v %dx%dx%dx%d", a.Mode, z.heads, z.tq, z.tk, z.dim)
	for _, c := range cuts {
		bind, p := a.part(z, c, caps)
		push := shaders.AttentionMatrixPush{Tq: p.Tq, Tk: p.Tk, Row: p.Row, QBase: p.QBase, KBase: p.KBase, VBase: p.VBase, OutBase: p.OutBase,
			QStride: p.QStride, KvStride: p.KvStride, OutStride: p.OutStride, Head: p.Head, KvHead: p.KvHead, Group: p.Group,
			Blocks: p.Blocks, ListBase: p.ListBase, IndexBase: p.IndexBase, Heads: p.Heads, KvHeads: p.KvHeads, Scale: p.Scale}
		vecOut := (p.OutBase|p.OutStride)%4 == 0 && vectors(bind[3])
		shader, spec := m.shader, []shaders.SpecValue(nil)
		switch {
		case m.fragments != nil:
			spec = a.fragmentSpec(*m.fragments, vecOut)
		case m.flexible != nil:
			shader, spec = m.flexible.shader, a.flexibleSpec(caps, *m.flexible, vecOut)
		default:
			spec = a.matrixSpec(caps, m, vecOut)
		}
		s.Dispatch(engine.Call{
			Shader: shader, Spec: spec, Push: push.Append(nil), Bind: bind, Label: label,
			Groups: [3]uint32{uint32(ceilDiv(c.row1-c.row0, m.queries())), uint32(c.head1 - c.head0), 1},
			Cost:   4 * float64(c.head1-c.head0) * float64(c.row1-c.row0) * float64(z.tk) * float64(z.dim),
		})
	}
}

func (a AttentionArgs) matrixSpec(caps engine.Caps, m attentionMatrix, vecOut bool) []shaders.SpecValue {
	t, s := m.tile, m.shape
	return shaders.AttentionMatrixSpec{
		SubsM: uint32(t.subsM), SubsN: uint32(t.subsN), FragsQ: uint32(t.fragsQ), HeadDim: uint32(a.Q.Dim(2)), Keys: uint32(t.keys),
		Subgroup: uint32(caps.SubgroupSize), MatM: uint32(s.M), MatN: uint32(s.N), MatK: uint32(s.K),
		Mode: uint32(a.Mode), Masked: !a.Mask.IsZero(),
		QType: uint32(a.Q.DType), KType: uint32(a.K.DType), VType: uint32(a.V.DType), OutType: uint32(a.Out.DType),
		VecOut: vecOut, LocalSizeX: uint32(t.subgroups() * caps.SubgroupSize),
	}.Values()
}
