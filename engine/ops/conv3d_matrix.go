package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// convMatrixTile is a shape of conv3d_matrix.comp: a workgroup's rectangle of positions and its output channels, a
// subgroup's share, the channels of a slice, and how many taps' weights are brought at a time.
type convMatrixTile struct{ h, w, n, subM, subN, slice, taps uint32 }

func (t convMatrixTile) subgroups() uint32 { return t.h * t.w / t.subM * (t.n / t.subN) }

// convMatrixTiles are the tiles in order of preference, each for results of at least so many tiles: fewer would leave
// much of a large GPU idle. Slices and taps are the most that a tile takes at a time.
var convMatrixTiles = []struct {
	convMatrixTile
	least int
}{
	{convMatrixTile{h: 12, w: 16, n: 128, subM: 48, subN: 64, slice: 32, taps: 3}, 256},
	{convMatrixTile{h: 8, w: 16, n: 128, subM: 64, subN: 32, slice: 32, taps: 3}, 64},
	{convMatrixTile{h: 8, w: 16, n: 64, subM: 32, subN: 32, slice: 32, taps: 3}, 0},
	{convMatrixTile{h: 8, w: 16, n: 32, subM: 32, subN: 16, slice: 32, taps: 3}, 0},
	{convMatrixTile{h: 8, w: 16, n: 16, subM: 32, subN: 16, slice: 32, taps: 3}, 0},
	{convMatrixTile{h: 4, w: 16, n: 64, subM: 32, subN: 16, slice: 32, taps: 1}, 0}, // strides
	{leastConvMatrixTile, 0},
	{smallConvMatrixTile, 0},
}

var (
	// leastConvMatrixTile fits Vulkan's smallest limits with any matrix of up to 16 × 16 × 16, stride 2 included.
	leastConvMatrixTile = convMatrixTile{h: 2, w: 16, n: 16, subM: 16, subN: 16, slice: 16, taps: 1}
	// smallConvMatrixTile does with matrices of 8 columns; see smallMatrixTile.
	smallConvMatrixTile = convMatrixTile{h: 2, w: 16, n: 8, subM: 16, subN: 8, slice: 16, taps: 1}
)

// convMatrix is a convolution by cooperative matrices and how it is cut.
type convMatrix struct {
	*conv
	shape   engine.MatrixShape
	tile    convMatrixTile
	taps    [3]int // of W: fewer than the kernel's where upsampling is folded into it
	fold    [3]int // that upsampling
	grid    [2]int // rows and columns of positions: of the output, of the source where that is upsampled
	rowStep int    // rows of positions in a dispatch
}

// ConvByMatrices tells whether a device multiplies convolutions of so many input channels by cooperative matrices: what is
// asked before their upsampling is folded into weights, which nothing else can read.
func ConvByMatrices(caps engine.Caps, channels int) bool {
	worst := &convMatrix{conv: &conv{Conv3DArgs: Conv3DArgs{Stride: [3]int{2, 2, 2}}, channels: channels}, shape: caps.Matrix.F16,
		taps: [3]int{3, 3, 3}, fold: [3]int{1, 1, 1}}
	_, ok := worst.chooseTile(caps)
	return caps.Tier >= engine.TierMatrix && worst.shape != (engine.MatrixShape{}) && ok
}

// matrix prepares a convolution for matrices; nil where they cannot compute it.
func (c *conv) matrix(caps engine.Caps) *convMatrix {
	m := &convMatrix{conv: c, shape: caps.Matrix.F16, taps: c.kernel, fold: [3]int{1, 1, 1}}
	if c.folded() {
		m.taps, m.fold = [3]int(c.W.Shape[3:6]), c.Upsample
	}
	if !c.Half || caps.Tier < engine.TierMatrix || m.shape == (engine.MatrixShape{}) || c.channels%8 != 0 || m.fold != c.Upsample ||
		!vectors(c.W) {
		return nil
	}
	for _, frame := range append(c.picked[:], c.X) {
		if !vectors(frame) {
			return nil
		}
	}
	m.grid = [2]int{c.out[1] / m.fold[1], c.out[2] / m.fold[2]}
	tile, ok := m.chooseTile(caps)
	if !ok {
		return nil
	}
	m.plan(caps, tile)
	return m
}

// sharedBytes is what the tile takes of a workgroup's shared memory, by the shader's formula.
func (m *convMatrix) sharedBytes(t convMatrixTile) int64 {
	s := m.Stride
	patch := ((int(t.h)-1)*s[1] + m.taps[1]) * ((int(t.w)-1)*s[2] + m.taps[2])
	operands := patch*(int(t.slice)/8+1) + int(t.n)*(int(t.taps*t.slice)/8+1)
	sums := int(t.subgroups()) * m.shape.M * (int(t.subN)/4 + 1)
	return 16*int64(max(operands, sums)) + 16
}

// adapt returns the tile with the largest slice that divides the channels, and the most taps that divide the kernel's
// and for which there is room.
func (m *convMatrix) adapt(caps engine.Caps, t convMatrixTile) convMatrixTile {
	for m.channels%int(t.slice) != 0 && t.slice%2 == 0 {
		t.slice /= 2
	}
	for t.taps > 1 && (m.taps[1]*m.taps[2]%int(t.taps) != 0 || m.sharedBytes(t) > caps.MaxSharedBytes) {
		t.taps--
	}
	return t
}

// fits tells whether the device can run the tile.
func (m *convMatrix) fits(caps engine.Caps, t convMatrixTile) bool {
	s := m.shape
	divides := func(a int, b uint32) bool { return b%uint32(a) == 0 }
	return divides(s.M, t.w) && divides(s.M, t.subM) && divides(s.N, t.subN) && divides(s.K, t.slice) && t.slice%8 == 0 &&
		m.channels%int(t.slice) == 0 && t.h*t.w%t.subM == 0 && t.n%t.subN == 0 && m.taps[1]*m.taps[2]%int(t.taps) == 0 &&
		divides(caps.SubgroupSize, uint32(s.M)*t.subN/4) &&
		int(t.subgroups())*caps.SubgroupSize <= caps.MaxInvocations && m.sharedBytes(t) <= caps.MaxSharedBytes
}

// chooseTile picks the tile, decided by a whole frame's size, so that cutting it changes nothing.
func (m *convMatrix) chooseTile(caps engine.Caps) (convMatrixTile, bool) {
	for _, t := range convMatrixTiles {
		if caps.SubgroupSize <= emulatedSubgroup && t.convMatrixTile != smallConvMatrixTile || m.shape == (engine.MatrixShape{}) {
			continue
		}
		tiles := m.fold[1] * m.fold[2] * ceilDiv(m.grid[0], int(t.h)) * ceilDiv(m.grid[1], int(t.w)) * ceilDiv(m.cols, int(t.n))
		// A tile much wider than the result multiplies mostly nothing.
		wide := int(t.n) >= 2*max(m.cols, 8) && t.n > uint32(m.shape.N)
		if tile := m.adapt(caps, t.convMatrixTile); tiles >= t.least && !wide && m.fits(caps, tile) {
			return tile, true
		}
	}
	return convMatrixTile{}, false
}

// plan decides how many rows of positions a dispatch computes: whole tiles, where a tile's rows fit into one.
func (m *convMatrix) plan(caps engine.Caps, tile convMatrixTile) {
	m.tile = tile
	across := ceilDiv(m.grid[1], int(tile.w))
	phases := m.fold[1] * m.fold[2]
	perRow := 2 * float64(m.grid[1]) * float64(phases) * float64(m.cols) * float64(m.taps[0]*m.taps[1]*m.taps[2]*m.channels)
	rows := min(m.grid[0], int(caps.MaxDispatchCost/perRow), int(caps.MaxGroups[1])/across*int(tile.h))
	room := caps.MaxStorageRange - 2*caps.StorageAlign
	for _, t := range []engine.Tensor{m.Y, m.Residual} {
		if !t.IsZero() {
			rows = min(rows, int(room/(int64(phases*m.grid[1]*m.cols)*t.DType.Size())))
		}
	}
	source := int(room / (int64(m.in[2]*m.channels) * m.X.DType.Size()))
	if source < m.in[1] {
		rows = min(rows, (source-3)/m.Stride[1]+1)
	}
	unit := int(tile.h)
	if rows < unit {
		unit = 1
	}
	m.rowStep = evenly(m.grid[0], max(rows, 1), unit)
}

func (m *convMatrix) record(s *engine.Stream) {
	caps := s.Device().Caps()
	for frame := range m.out[0] {
		for row := 0; row < m.grid[0]; row += m.rowStep {
			s.Dispatch(m.call(caps, frame, row, min(m.rowStep, m.grid[0]-row)))
		}
	}
}

// sourceRows returns the source rows [lo, hi) that rows of positions [from, to) read, all phases together.
func (m *convMatrix) sourceRows(from, to int) (lo, hi int) {
	before, after := m.kernel[1]/2, m.kernel[1]-1-m.kernel[1]/2
	return max(from*m.Stride[1]-before, 0), min((to-1)*m.Stride[1]+after, m.in[1]-1) + 1
}

// frames returns the source frames of the taps in time and which of the folds in time of the weights they take.
func (m *convMatrix) frames(frame int) (x [3]engine.Tensor, fold int) {
	for tap := range m.kernel[0] {
		x[tap] = m.picked[tap]
		if x[tap].IsZero() {
			at := m.sourceFrame(frame, tap)
			x[tap] = m.X.Rows(at, at+1)
		}
	}
	if m.fold[0] == 1 {
		return x, 0
	}
	same := func(a, b engine.Tensor) bool { return a.Mem == b.Mem && a.Offset == b.Offset }
	switch {
	case same(x[0], x[1]):
		return [3]engine.Tensor{x[1], x[2]}, 0
	case same(x[1], x[2]):
		return [3]engine.Tensor{x[0], x[1]}, 1
	}
	panic(fmt.Sprintf("ops: a convolution whose weights are folded in time reads three different frames: %v", x))
}

// call is the dispatch for some rows of positions of one frame.
func (m *convMatrix) call(caps engine.Caps, frame, row, rows int) engine.Call {
	t := m.tile
	pixelRow := int64(m.out[2] * m.cols)
	at := (int64(frame)*int64(m.out[1]) + int64(row*m.fold[1])) * pixelRow
	elems := int64(rows*m.fold[1]) * pixelRow
	lo, hi := m.sourceRows(row, row+rows)
	frames, fold := m.frames(frame)
	push := shaders.Conv3dMatrixPush{Rows: uint32(rows), Cols: uint32(m.cols), TapsT: uint32(m.taps[0]), Height: uint32(m.in[1]),
		Width: uint32(m.in[2]), OutWidth: uint32(m.grid[1]), FirstRow: uint32(row), SrcRow: uint32(lo)}
	bind := make([]engine.Tensor, 7)
	line := int64(m.in[2] * m.channels)
	for tap := range m.taps[0] {
		bind[tap], push.XBase[tap] = alignedView(caps, frames[tap], int64(lo)*line, int64(hi-lo)*line)
	}
	weights := m.W.Elems() / int64(m.fold[0])
	bind[3], push.WBase = alignedView(caps, m.W, int64(fold)*weights, weights)
	bind[4], push.BiasBase = alignedView(caps, m.Bias, 0, int64(m.cols))
	bind[5], push.ResidualBase = alignedView(caps, m.Residual, at, elems)
	bind[6], push.YBase = alignedView(caps, m.Y, at, elems)
	k := m.taps[0] * m.taps[1] * m.taps[2] * m.channels
	tiles := ceilDiv(rows, int(t.h)) * ceilDiv(m.grid[1], int(t.w))
	return engine.Call{
		Shader: shaders.Conv3dMatrix,
		Spec:   m.spec(caps, m.cols%4 == 0 && (push.YBase|push.ResidualBase)%4 == 0),
		Push:   push.Append(nil),
		Bind:   bind,
		Groups: [3]uint32{uint32(ceilDiv(m.cols, int(t.n))), uint32(tiles), uint32(m.fold[1] * m.fold[2])},
		Cost:   2 * float64(elems) * float64(k),
		Label:  fmt.Sprintf("conv3d %dx%dx%d", elems/int64(m.cols), m.cols, k),
	}
}

func (m *convMatrix) spec(caps engine.Caps, vecN bool) []shaders.SpecValue {
	t, s := m.tile, m.shape
	return shaders.Conv3dMatrixSpec{XType: uint32(m.X.DType), WType: uint32(m.W.DType), BiasType: uint32(m.Bias.DType),
		ResidualType: uint32(m.Residual.DType), YType: uint32(m.Y.DType), VecN: vecN, Bias: !m.Bias.IsZero(), Residual: !m.Residual.IsZero(),
		Channels: uint32(m.channels), Kh: uint32(m.taps[1]), Kw: uint32(m.taps[2]), Sh: uint32(m.Stride[1]), Sw: uint32(m.Stride[2]),
		Fh: uint32(m.fold[1]), Fw: uint32(m.fold[2]), TileH: t.h, TileW: t.w, TileN: t.n, SubM: t.subM, SubN: t.subN,
		Slice: t.slice, TapsW: t.taps, Subgroup: uint32(caps.SubgroupSize), MatM: uint32(s.M), MatN: uint32(s.N), MatK: uint32(s.K),
		LocalSizeX: t.subgroups() * uint32(caps.SubgroupSize)}.Values()
}
