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

// fragmentTiles are the tiles in order of preference. They give the same bits. Measured on an H100 for 47,616×4096×4096: 403, 407 and
// 413 TFLOP/s; the first takes fewer registers than the second and reads less than the third.
var fragmentTiles = []fragmentTile{{3, 4, 2, 2}, {4, 4, 2, 2}, {2, 4, 4, 2}}

const (
	fragmentGroup = 4         // fragments below each other that a subgroup reads one after the other
	fragmentRows  = 384       // rows of x that are packed at a time are a multiple: whole tiles of every shape, and gemmCut
	fragmentLeast = 1024      // rows from which on packing w is worth while
	fragmentPart  = 4096      // rows of x to have beside w, that a large device has enough to do
	fragmentBytes = 264 << 20 // of packed rows of x that are enough: 8,448 of 16,384 elements, the rows that a feed-forward layer gets at a time
)

// fragmentKernel is how a layer is computed from packed operands.
type fragmentKernel struct {
	shader string
	tile   fragmentTile
	w, x   engine.Tensor // places for packed operands, in the scratch; none where they are packed already
}

// fitsPacked tells whether the operands can be packed ones.
func (m *matmul) fitsPacked() bool {
	return m.X.DType == engine.BF16 && m.W.DType == engine.BF16 && m.NF4 == nil && m.Scratch.IsZero() && m.XScale.IsZero() && m.WScale.IsZero() &&
		m.k%packStrip == 0 && vectors(m.X) && vectors(m.W)
}

// fitsPackedY tells whether the result can become a packed operand.
func (m *matmul) fitsPackedY() bool {
	return m.Packed && m.HeadDim == 0 && !m.Add && m.Y.DType == engine.BF16 && m.cols%packStrip == 0 && vectors(m.Y)
}

// MatmulScratch returns how many bytes of MatmulArgs.Scratch let a layer of so many rows, columns and inner elements run well by
// fragments: w and up to 264 MiB of x. It is 0 where the layer has too few rows, so that a scratch would make it slower, or cannot be computed so.
func MatmulScratch(rows, cols, k int) int64 {
	if rows < fragmentLeast || k%packStrip != 0 {
		return 0
	}
	row := int64(k) * engine.BF16.Size()
	part := max(fragmentRows, int(fragmentBytes/row)/fragmentRows*fragmentRows)
	return row * int64(packedRows(cols, fragmentGroup)+min(part, packedRows(rows, fragmentGroup)))
}

// chooseFragments returns the kernel for a layer, nil where it has no scratch or cannot be computed so. That does not depend on
// how many rows or columns it has.
func (m *matmul) chooseFragments(caps engine.Caps) *fragmentKernel {
	if m.Packed {
		f := &fragmentKernel{tile: fragmentTiles[0], shader: fragmentShader(caps, shaders.MatmulFragments, shaders.MatmulFragmentsEmulated)}
		if f.shader == "" {
			panic("ops.Matmul: packed operands on a device that has no fragments")
		}
		return f
	}
	if m.Scratch.IsZero() || !m.Half || m.small() || m.X.DType != engine.BF16 || m.W.DType != engine.BF16 || m.NF4 != nil ||
		m.k%packStrip != 0 || !vectors(m.X) || !vectors(m.W) || !vectors(m.Scratch) {
		return nil
	}
	f := &fragmentKernel{tile: fragmentTiles[0], shader: fragmentShader(caps, shaders.MatmulFragments, shaders.MatmulFragmentsEmulated)}
	if f.shader == "" {
		return nil
	}
	for _, t := range fragmentTiles {
		if t.invocations() > caps.MaxInvocations {
			return nil
		}
	}
	row := int64(m.k) * engine.BF16.Size()
	total, unit := int(m.Scratch.Bytes()/row), m.colUnit()
	if total < unit+fragmentRows || caps.MaxStorageRange < row*int64(max(unit, fragmentRows)) ||
		m.HeadDim == 0 && caps.MaxStorageRange < int64(m.cols)*m.Y.DType.Size()*fragmentRows {
		return nil
	}
	cols := packedRows(m.cols, fragmentGroup)
	if rest := min(fragmentPart, packedRows(m.rows, fragmentGroup)); cols > total-max(rest, fragmentRows) {
		cols = max(unit, min(total/2, total-fragmentRows)/unit*unit)
	}
	words := m.Scratch
	words.DType, words.Shape = engine.BF16, []int{total, m.k}
	f.w, f.x = words.Rows(0, cols), words.Rows(cols, total)
	return f
}

// planFragments decides the cuts: as many columns and rows as the scratch holds, and a binding.
func (m *matmul) planFragments(caps engine.Caps, f *fragmentKernel) {
	m.fragments = f
	bound := int(caps.MaxStorageRange / (int64(m.k) * engine.BF16.Size()))
	most := func(t engine.Tensor, rows int) int {
		if m.Packed {
			rows = PackedRows(rows)
		} else {
			rows = t.Dim(0)
		}
		return min(rows, bound) / packUnit * packUnit
	}
	rows := most(f.x, m.rows)
	if m.PackY {
		rows = min(rows, int(caps.MaxStorageRange/(int64(m.cols)*m.Y.DType.Size()))/packUnit*packUnit)
	}
	m.cut(caps, cutLimits{tileM: f.tile.rows(), tileN: f.tile.cols(), rowUnit: fragmentRows, rows: rows, cols: most(f.w, m.cols)})
}

// packedPart is what so many rows take of a place for packed ones.
func packedPart(t engine.Tensor, rows int) engine.Tensor {
	return t.Rows(0, packedRows(rows, fragmentGroup))
}

// recordFragments packs the columns of w and the rows of x that the scratch holds, and multiplies them.
func (m *matmul) recordFragments(s *engine.Stream) {
	for col := 0; col < m.cols; col += m.colStep {
		cols := min(m.colStep, m.cols-col)
		if !m.Packed {
			m.packColumns(s, col, cols)
		}
		for row := 0; row < m.rows; row += m.rowStep {
			rows := min(m.rowStep, m.rows-row)
			if !m.Packed && (col == 0 || m.rowStep < m.rows) { // else they are there
				m.packRows(s, row, rows)
			}
			s.Dispatch(m.call(s.Device().Caps(), row, rows, col, cols))
		}
	}
}

// packColumns packs columns of y, which are rows of w.
func (m *matmul) packColumns(s *engine.Stream, col, cols int) {
	packFragments(s, m.W.Rows(col, col+cols), packedPart(m.fragments.w, cols), 1, cols, m.k, fragmentGroup, RightFragments)
}

// packRows packs rows of x.
func (m *matmul) packRows(s *engine.Stream, row, rows int) {
	x := m.X.Reshape(m.rows, m.k).Rows(row, row+rows)
	packFragments(s, x, packedPart(m.fragments.x, rows), 1, rows, m.k, fragmentGroup, LeftFragments)
}

// fragmentCall makes c the call of the kernel for packed operands.
func (m *matmul) fragmentCall(c *engine.Call, rows, cols int) {
	f, t := m.fragments, m.fragments.tile
	pairs := m.cols%2 == 0 && m.head%2 == 0 && vectors(c.Bind[3])
	c.Shader = f.shader
	if m.Packed {
		c.Bind[0], c.Bind[1] = packedView(c.Bind[0]), packedView(c.Bind[1])
	} else {
		c.Bind[0], c.Bind[1] = packedPart(f.x, rows), packedPart(f.w, cols)
	}
	if m.PackY {
		c.Bind[3] = packedView(c.Bind[3])
	}
	c.Spec = shaders.MatmulFragmentsSpec{BiasType: uint32(m.Bias.DType), YType: uint32(m.Y.DType), Bias: !m.Bias.IsZero(), Gate: !m.Gate.IsZero(),
		Add: m.Add, Activation: uint32(m.Activation), Pairs: pairs, Pack: m.PackY, FragsM: t.fragsM, FragsN: t.fragsN, SubsM: t.subsM, SubsN: t.subsN,
		K: uint32(m.k), LocalSizeX: uint32(t.invocations())}.Values()
	c.Groups = [3]uint32{uint32(ceilDiv(cols, t.cols())), uint32(ceilDiv(rows, t.rows())), 1}
	c.Label = fmt.Sprintf("matmul fragments %dx%dx%d", rows, cols, m.k)
}
