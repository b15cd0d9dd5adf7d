package ops

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// matrixTile is a shape of matmul_matrix.comp: a workgroup's share of the result, the step along k, a subgroup's share,
// and whether matrices are loaded a step ahead of their products.
type matrixTile struct {
	m, n, k, subM, subN uint32
	ahead               bool
}

// subgroups is the number of subgroups of a workgroup.
func (t matrixTile) subgroups() uint32 { return t.m / t.subM * (t.n / t.subN) }

// sharedBytes is what the tile takes of a workgroup's shared memory: slices of both operands with 16 bytes of padding a
// row, or a strip of sums per subgroup where that is more.
func (t matrixTile) sharedBytes(shape engine.MatrixShape) int64 {
	operands := (t.m + t.n) * (t.k/8 + 1)
	sums := t.subgroups() * uint32(shape.M) * (t.subN/4 + 1)
	return 16*int64(max(operands, sums)) + 16 + nf4TableBytes
}

// fits tells whether the device can run the tile.
func (t matrixTile) fits(caps engine.Caps, shape engine.MatrixShape) bool {
	divides := func(a int, b uint32) bool { return b%uint32(a) == 0 }
	return divides(shape.M, t.subM) && divides(shape.N, t.subN) && divides(shape.K, t.k) && t.m%t.subM == 0 && t.n%t.subN == 0 &&
		int(t.subgroups())*caps.SubgroupSize <= caps.MaxInvocations && t.sharedBytes(shape) <= caps.MaxSharedBytes
}

// matrixTiles are the tiles in order of preference, each for results of at least so many tiles: fewer would leave much of
// a large GPU idle.
var matrixTiles = []struct {
	matrixTile
	least int
}{
	{matrixTile{m: 192, n: 128, k: 64, subM: 48, subN: 64}, 256},
	{matrixTile{m: 128, n: 192, k: 64, subM: 64, subN: 48}, 256}, // as fast; a device may prefer it
	{matrixTile{m: 128, n: 128, k: 64, subM: 64, subN: 32}, 128},
	{matrixTile{m: 64, n: 64, k: 64, subM: 32, subN: 32}, 0},
	{smallMatrixTile, 0},
}

// smallMatrixTile fits anything. Drivers that emulate matrices take minutes to compile the large tiles, whose products are
// all unrolled, and seconds for this one; they are known by their narrow subgroups.
var smallMatrixTile = matrixTile{m: 32, n: 32, k: 16, subM: 16, subN: 16}

const emulatedSubgroup = 8 // invocations

// Workgroups walk the result in bands of row tiles. A band holds about as much of x as an H100's cache does, but no fewer
// and no more row tiles than were measured to be good: 192×128 tiles of 47,616×4096×4096 ran at 321 TFLOP/s in bands of 4
// and of 8 row tiles, 327 of 16, 338 of 31 (49 MB of x); a variant that ran at 330 of 31 did at 328 of 62 and 299 of 124.
const (
	bandBytes = 31 * 192 * 4096 * 2
	minBand   = 8  // row tiles
	maxBand   = 31 // row tiles
)

// bandTiles returns how many of a dispatch's row tiles make a band: bands of nearly the same height, so that none is left
// over that would read all of w for a few rows.
func bandTiles(rows, rowBytes, tileM int) int {
	most := min(max(bandBytes/(rowBytes*tileM), minBand), maxBand)
	tiles := ceilDiv(rows, tileM)
	return ceilDiv(tiles, ceilDiv(tiles, most))
}

// matrixKernel is how a layer is computed by cooperative matrices.
type matrixKernel struct {
	shader string
	shape  engine.MatrixShape
	tile   matrixTile
}

// chooseMatrix returns the kernel for a layer, nil where matrices cannot compute it.
func (m *matmul) chooseMatrix(caps engine.Caps) *matrixKernel {
	if !m.Half || caps.Tier < engine.TierMatrix || m.small() || m.k%8 != 0 || !vectors(m.X) || !vectors(m.W) {
		return nil
	}
	c := &matrixKernel{shader: m.variant(shaders.MatmulMatrixF16, shaders.MatmulMatrixF16Nf4), shape: caps.Matrix.F16}
	if m.X.DType == engine.BF16 && (m.W.DType == engine.BF16 || m.NF4 != nil) && caps.Matrix.BF16 != (engine.MatrixShape{}) {
		c.shader, c.shape = m.variant(shaders.MatmulMatrixBf16, shaders.MatmulMatrixBf16Nf4), caps.Matrix.BF16
	}
	if c.shape == (engine.MatrixShape{}) {
		return nil
	}
	for _, t := range matrixTiles {
		if caps.SubgroupSize <= emulatedSubgroup && t.matrixTile != smallMatrixTile {
			continue
		}
		if t.fits(caps, c.shape) && ceilDiv(m.rows, int(t.m))*ceilDiv(m.cols, int(t.n)) >= t.least {
			c.tile = t.matrixTile
			return c
		}
	}
	return nil
}

// bandOf returns the height of a band in a dispatch of so many rows, 0 where no matrices compute it.
func (m *matmul) bandOf(rows int) int {
	switch {
	case m.band > 0:
		return m.band
	case m.fragments != nil:
		return bandTiles(rows, m.k*int(m.X.DType.Size()), m.fragments.tile.rows())
	case m.matrix != nil:
		return bandTiles(rows, m.k*int(m.X.DType.Size()), int(m.matrix.tile.m))
	}
	return 0
}

func (m *matmul) matrixSpec(caps engine.Caps, vecN bool) []shaders.SpecValue {
	t, s := m.matrix.tile, m.matrix.shape
	return shaders.MatmulMatrixSpec{XType: uint32(m.X.DType), WType: m.wType(), WPlain: m.plainScales(), BiasType: uint32(m.Bias.DType),
		YType: uint32(m.Y.DType), VecN: vecN, Bias: !m.Bias.IsZero(), Gate: !m.Gate.IsZero(), Add: m.Add,
		Activation: uint32(m.Activation), TileM: t.m, TileN: t.n, TileK: t.k, SubM: t.subM, SubN: t.subN,
		Subgroup: uint32(caps.SubgroupSize), MatM: uint32(s.M), MatN: uint32(s.N), MatK: uint32(s.K), FullK: m.k%int(t.k) == 0,
		Ahead: t.ahead, LocalSizeX: t.subgroups() * uint32(caps.SubgroupSize)}.Values()
}
