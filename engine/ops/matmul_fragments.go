package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// fragmentTile is a shape of matmul_fragments.comp: matrices of a subgroup's share of the result, and subgroups of a workgroup, down the rows
// and along the columns.
type fragmentTile struct{ fragsM, fragsN, subsM, subsN uint32 }

// rows and cols are a workgroup's share.
func (t fragmentTile) rows() int { return int(t.fragsM*t.subsM) * fragmentEdge }
func (t fragmentTile) cols() int { return int(t.fragsN*t.subsN) * fragmentEdge }

func (t fragmentTile) invocations() int { return int(t.subsM*t.subsN) * engine.FragmentLanes }

// name is the tile's name in tuning: a subgroup's share, and subgroups.
func (t fragmentTile) name() string {
	return fmt.Sprintf("%dx%d/%dx%d", t.fragsM*fragmentEdge, t.fragsN*fragmentEdge, t.subsM, t.subsN)
}

// fragmentTiles are the tiles in order of preference, of at most engine.FragmentInvocations. They give the same bits. Measured on an H100 for
// 47,616×4096×4096: 403, 407 and 413 TFLOP/s; the first takes fewer registers than the second and reads less than the third.
var fragmentTiles = []fragmentTile{{3, 4, 2, 2}, {4, 4, 2, 2}, {2, 4, 4, 2}}

// fragmentRows divides the cuts of rows: whole tiles of every shape, gemmCut, and packUnit.
const fragmentRows = 384

// fragmentKernel is how a layer is computed from packed operands.
type fragmentKernel struct {
	shader string
	tile   fragmentTile
}

// fitsPacked tells whether the operands can be packed ones.
func (m *matmul) fitsPacked() bool {
	return m.X.DType == engine.BF16 && m.W.DType == engine.BF16 && m.NF4 == nil && m.XScale.IsZero() && m.WScale.IsZero() &&
		m.k%packStrip == 0 && vectors(m.X) && vectors(m.W)
}

// fitsPackedY tells whether the result can become a packed operand.
func (m *matmul) fitsPackedY() bool {
	return m.Packed && m.HeadDim == 0 && !m.Add && m.Y.DType == engine.BF16 && m.cols%packStrip == 0 && vectors(m.Y)
}

// fragmentKernelOf returns the kernel for packed operands.
func fragmentKernelOf(caps engine.Caps) *fragmentKernel {
	shader := fragmentShader(caps, shaders.MatmulFragments, shaders.MatmulFragmentsEmulated)
	if shader == "" {
		panic("ops.Matmul: packed operands on a device that has no fragments")
	}
	return &fragmentKernel{shader: shader, tile: fragmentTiles[0]}
}

// planFragments decides the cuts: as many columns and rows as a binding holds.
func (m *matmul) planFragments(caps engine.Caps, f *fragmentKernel) {
	m.fragments = f
	most := func(rows, cols int) int {
		return min(PackedRows(rows), int(caps.MaxStorageRange/(int64(cols)*engine.BF16.Size()))/packUnit*packUnit)
	}
	rows := most(m.rows, m.k)
	if m.PackY {
		rows = min(rows, most(m.rows, m.cols))
	}
	m.cut(caps, cutLimits{tileM: f.tile.rows(), tileN: f.tile.cols(), rowUnit: fragmentRows, rows: rows, cols: most(m.cols, m.k)})
}

// fragmentCall makes c the call of the kernel for packed operands.
func (m *matmul) fragmentCall(c *engine.Call, rows, cols int) {
	f, t := m.fragments, m.fragments.tile
	pairs := m.cols%2 == 0 && m.head%2 == 0 && vectors(c.Bind[3])
	c.Shader = f.shader
	c.Bind[0], c.Bind[1] = packedView(c.Bind[0]), packedView(c.Bind[1])
	if m.PackY {
		c.Bind[3] = packedView(c.Bind[3])
	}
	c.Spec = shaders.MatmulFragmentsSpec{BiasType: uint32(m.Bias.DType), YType: uint32(m.Y.DType), Bias: !m.Bias.IsZero(), Gate: !m.Gate.IsZero(),
		Add: m.Add, Activation: uint32(m.Activation), Pairs: pairs, Pack: m.PackY, FragsM: t.fragsM, FragsN: t.fragsN, SubsM: t.subsM, SubsN: t.subsN,
		K: uint32(m.k), LocalSizeX: uint32(t.invocations())}.Values()
	c.Groups = [3]uint32{uint32(ceilDiv(cols, t.cols())), uint32(ceilDiv(rows, t.rows())), 1}
	c.Label = fmt.Sprintf("matmul fragments %dx%dx%d", rows, cols, m.k)
}
