package ops

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// bytes tells whether the layer is one of signed bytes.
func (a MatmulArgs) bytes() bool { return a.X.DType == engine.I8 && a.W.DType == engine.I8 }

// fitsBytes tells whether scales and sizes are those of a layer of signed bytes.
func (m *matmul) fitsBytes() bool {
	scales := func(t engine.Tensor, n int) bool {
		return t.DType == engine.F32 && !t.IsZero() && t.Elems() == int64(n) && vectors(t)
	}
	return scales(m.XScale, m.rows) && scales(m.WScale, m.cols) && CanQuantize(m.k) && vectors(m.X) && vectors(m.W)
}

// bytesTile is what matmul_int8.comp computes at a time.
var bytesTile = gemmTile{m: 64, n: 64, k: 16, regM: 8, regN: 4}

// ofBytes is a tile for operands of 8 bits, which takes twice as many along k in the same shared memory, and whether the
// device can run it.
func (t matrixTile) ofBytes(caps engine.Caps, shape engine.MatrixShape) (matrixTile, bool) {
	shape.K /= 2
	ok := shape.K > 0 && t.fits(caps, shape)
	t.k *= 2
	return t, ok
}

// chooseBytesMatrix returns the kernel of cooperative matrices for a layer of signed bytes, nil where there is none.
func (m *matmul) chooseBytesMatrix(caps engine.Caps) *matrixKernel {
	c := &matrixKernel{shader: shaders.MatmulInt8Matrix, shape: caps.Matrix.I8}
	if caps.Tier < engine.TierMatrix || c.shape == (engine.MatrixShape{}) {
		return nil
	}
	if c.shape.K%16 != 0 {
		c.shader = shaders.MatmulInt8MatrixShort
	}
	for _, t := range matrixTiles {
		if caps.SubgroupSize <= emulatedSubgroup && t.matrixTile != smallMatrixTile {
			continue
		}
		tile, ok := t.ofBytes(caps, c.shape)
		if ok && ceilDiv(m.rows, int(t.m))*ceilDiv(m.cols, int(t.n)) >= t.least {
			c.tile = tile
			return c
		}
	}
	return nil
}

// bytesCall fills in the dispatch for a rectangle of the result of a layer of signed bytes.
func (m *matmul) bytesCall(caps engine.Caps, c *engine.Call, row, rows, col, cols int, vecN bool) {
	c.Label = "int8 " + c.Label
	c.Bind = append(c.Bind, m.XScale.View(int64(row), rows), m.WScale.View(int64(col), cols))
	tileM, tileN := bytesTile.m, bytesTile.n
	if m.matrix == nil {
		c.Shader = shaders.MatmulInt8
		c.Spec = shaders.MatmulInt8Spec{BiasType: uint32(m.Bias.DType), YType: uint32(m.Y.DType), Bias: !m.Bias.IsZero(),
			Gate: !m.Gate.IsZero(), Add: m.Add, Activation: uint32(m.Activation), VecN: vecN}.Values()
	} else {
		t, s := m.matrix.tile, m.matrix.shape
		tileM, tileN = t.m, t.n
		c.Shader = m.matrix.shader
		c.Spec = shaders.MatmulInt8MatrixSpec{BiasType: uint32(m.Bias.DType), YType: uint32(m.Y.DType), Bias: !m.Bias.IsZero(),
			Gate: !m.Gate.IsZero(), Add: m.Add, Activation: uint32(m.Activation), VecN: vecN,
			TileM: t.m, TileN: t.n, TileK: t.k, SubM: t.subM, SubN: t.subN, Subgroup: uint32(caps.SubgroupSize),
			MatM: uint32(s.M), MatN: uint32(s.N), MatK: uint32(s.K), FullK: m.k%int(t.k) == 0,
			LocalSizeX: t.subgroups() * uint32(caps.SubgroupSize)}.Values()
	}
	c.Groups = [3]uint32{uint32(ceilDiv(cols, int(tileN))), uint32(ceilDiv(rows, int(tileM))), 1}
}
