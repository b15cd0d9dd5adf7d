package ops

import (
	"fmt"
	"math/bits"

	"github.com/vkandinsky/vkandinsky/engine"
)

// rowClass rounds a number of rows up to 2ⁿ or 3·2ⁿ. What is fastest depends on the size of a work, not on every row of
// it: one measurement serves clips of nearly the same length.
func rowClass(rows int) int {
	if rows <= 2 {
		return rows
	}
	power := 1 << (bits.Len(uint(rows-1)) - 1) // the largest power of two below rows
	if rows <= power+power/2 {
		return power + power/2
	}
	return 2 * power
}

// name is the tile's name in tuning: workgroup's share, step along k, and an invocation's share.
func (t gemmTile) name() string { return fmt.Sprintf("%dx%dx%d/%dx%d", t.m, t.n, t.k, t.regM, t.regN) }

// name is the tile's name in tuning.
func (t matrixTile) name() string {
	name := fmt.Sprintf("%dx%dx%d/%dx%d", t.m, t.n, t.k, t.subM, t.subN)
	if t.ahead {
		name += "+ahead"
	}
	return name
}

// gemmWays are the tiles that wide layers can be computed with. They give the same bits.
func gemmWays(caps engine.Caps, half bool) []gemmTile {
	var out []gemmTile
	for _, t := range []gemmTile{{128, 128, 16, 8, 8}, {64, 64, 16, 8, 4}, {64, 64, 8, 8, 4}} {
		if int(t.invocations()) <= caps.MaxInvocations && t.sharedBytes(half) <= caps.MaxSharedBytes {
			out = append(out, t)
		}
	}
	return out
}

// narrow is the number of columns up to which a layer has a tile of its own.
const narrow = 32

// operation describes a planned layer for tuning.
func (m *matmul) operation(caps engine.Caps) engine.Operation {
	o := engine.Operation{
		Kernel: "matmul", Cost: 2 * float64(m.rows) * float64(m.cols) * float64(m.k),
		Shape: fmt.Sprintf("%v·%v→%v ≤%d×%d×%d", m.X.DType, m.weightName(), m.Y.DType, rowClass(m.rows), m.cols, m.k),
		Record: func(s *engine.Stream, way string) {
			again := *m
			again.take(caps, way)
			again.record(s)
		},
	}
	switch {
	case m.fragments != nil:
		o.Shape = "fragments " + o.Shape
		o.Default = m.fragments.tile.name()
		for _, t := range fragmentTiles {
			o.Ways = append(o.Ways, engine.Way{Name: t.name(), Shader: m.fragments.shader})
		}
	case m.small() || m.cols <= narrow:
	case m.matrix != nil:
		o.Default = m.matrix.tile.name()
		for _, t := range m.matrixWays(caps) {
			o.Ways = append(o.Ways, engine.Way{Name: t.name(), Shader: m.matrix.shader})
		}
	case m.bytes(): // one way
	default:
		shader := m.plainShader()
		if m.Half {
			o.Shape = "half " + o.Shape
		}
		o.Default = m.tile.name()
		for _, t := range gemmWays(caps, m.Half) {
			o.Ways = append(o.Ways, engine.Way{Name: t.name(), Shader: shader})
		}
	}
	return o
}

// matrixWays are the tiles that the device can run with a layer's matrices.
func (m *matmul) matrixWays(caps engine.Caps) []matrixTile {
	var out []matrixTile
	for _, t := range matrixTiles {
		tile, ok := t.matrixTile, t.fits(caps, m.matrix.shape)
		if m.bytes() {
			tile, ok = tile.ofBytes(caps, m.matrix.shape)
		}
		if ok && (caps.SubgroupSize > emulatedSubgroup || t.matrixTile == smallMatrixTile) {
			out = append(out, tile)
		}
	}
	return out
}

// take plans a layer anew in a way, if the device can run it; a name of no tile changes nothing.
func (m *matmul) take(caps engine.Caps, way string) {
	switch {
	case m.fragments != nil:
		for _, t := range fragmentTiles {
			if t.name() == way {
				f := *m.fragments
				f.tile = t
				m.planFragments(caps, &f)
			}
		}
	case way == "" || m.small() || m.cols <= narrow:
	case m.matrix != nil:
		for _, t := range m.matrixWays(caps) {
			if t.name() == way {
				m.planMatrix(caps, &matrixKernel{shader: m.matrix.shader, shape: m.matrix.shape, tile: t})
				return
			}
		}
	case m.bytes():
	default:
		for _, t := range gemmWays(caps, m.Half) {
			if t.name() == way {
				m.tile = t
				m.planMatrix(caps, nil)
				return
			}
		}
	}
}
