package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Activation is a function applied to a linear layer's result. The numbers are those of include/activation.glsl.
type Activation uint32

// Activations.
const (
	NoActivation Activation = iota
	GELU                    // u·Φ(u), the exact form with erf
	QuickGELU               // u·sigmoid(1.702u)
	SiLU                    // u·sigmoid(u)
)

// MatmulArgs are the operands of a linear layer. All float tensors are f32, bf16 or f16 each for itself.
type MatmulArgs struct {
	X    engine.Tensor // [..., K]: all leading axes together are the M rows
	W    engine.Tensor // [N, K]; with NF4 U8, its bytes
	NF4  *nf4.Layout   // W is held in 4 bits; the result has the bits that the matrix in bf16 would give
	Bias engine.Tensor // [N], optional
	// Y is [..., N] with M rows, or [N / HeadDim, R, HeadDim] with HeadDim > 0, of which the M rows from Row on are written. It
	// must not overlap the inputs.
	Y   engine.Tensor
	Row int
	// Activation is applied to x·wᵀ + bias.
	Activation Activation
	// Add leaves in Y what it held plus Gate ⊙ (x·wᵀ + bias): the residual stream is updated in place. Gate, f32 [N], is
	// optional and needs Add. Activation must be none.
	Add  bool
	Gate engine.Tensor
	// HeadDim > 0 writes one matrix per attention head of that many columns.
	HeadDim int
	// Half multiplies in fp16 and sums in fp32, on devices with Caps.HasFloat16. Activations of any magnitude are
	// scaled into range; weights are not, and the caller must not ask for it with |w| > 4096. Where Caps.Tier has cooperative
	// matrices these multiply in bf16 if X and W are and the device can, else in fp16. Up to 8 rows are always computed in
	// fp32: there the time goes into reading w.
	Half bool
	// XScale, f32 [M], and WScale, f32 [N], say that X and W are signed bytes (I8), rounded by Quantize and QuantizeWeights: row
	// m of x is XScale[m] times its bytes. Sums of such products are exact, by cooperative matrices in the tiers that have
	// them where they multiply bytes, by fp32 products elsewhere; the result is the same bits.
	XScale, WScale engine.Tensor
	// Packed says that X and W are bf16 and lie in the order of fragments, where Caps.Fragments says that the device multiplies such: X packed by Pack
	// or by what computed it (PackY), as LeftFragments, W as RightFragments. K is a multiple of 128, and the memory of either goes on up
	// to PackedRows of its rows. Any number of rows is computed alike.
	Packed bool
	// PackY makes Y, bf16 [M, N] with memory of PackedRows(M) rows, the packed X of another layer: with Packed, N a multiple of 128.
	PackY bool
}

// gemvRows is the most rows for which matmul_gemv is used.
const gemvRows = 8

// gemvCols is the number of columns of a workgroup of matmul_gemv.comp.
const gemvCols = 4

// Matmul records y = activation(x·wᵀ + bias), or y ← y + gate ⊙ (x·wᵀ + bias), summed in fp32.
//
// The work is cut into dispatches by rows, and by columns where w or a head-major y is larger than a binding may be;
// results are the same bits however it is cut. It panics when shapes or types do not fit each other, when X, W or
// Y do not start at a multiple of Caps.StorageAlign bytes, and when a 4-bit W is larger than a binding may be.
func Matmul(s *engine.Stream, a MatmulArgs) {
	m := a.check()
	if m.rows == 0 {
		return
	}
	caps := s.Device().Caps()
	m.plan(caps)
	m.take(caps, s.Choose(func() engine.Operation { return m.operation(caps) }))
	m.record(s)
}

// record dispatches the layer as planned.
func (m *matmul) record(s *engine.Stream) {
	caps := s.Device().Caps()
	for col := 0; col < m.cols; col += m.colStep {
		cols := min(m.colStep, m.cols-col)
		for row := 0; row < m.rows; row += m.rowStep {
			s.Dispatch(m.call(caps, row, min(m.rowStep, m.rows-row), col, cols))
		}
	}
}

// matmul is a checked linear layer and how it is cut.
type matmul struct {
	MatmulArgs
	rows, cols, k    int
	head             int // columns that lie together in Y
	rowStep, colStep int
	tile             gemmTile
	matrix           *matrixKernel   // nil: tile says how it is computed
	fragments        *fragmentKernel // computes it if there is one, whatever matrix and tile say
	band             int             // row tiles that matrices walk together; 0: as bandTiles says
}

func (a MatmulArgs) check() matmul {
	bad := func(why string) {
		panic(fmt.Sprintf("ops.Matmul: %s: x %v, w %v, bias %v, y %v, gate %v, head dim %d", why, a.X, a.W, a.Bias, a.Y, a.Gate, a.HeadDim))
	}
	for i, t := range []engine.Tensor{a.Y, a.X} {
		if t.IsZero() || !t.DType.IsFloat() && (i == 0 || !a.bytes()) || len(t.Shape) < 1 {
			bad("x and y must be float tensors")
		}
	}
	n, k, ok := a.weights()
	if !ok || n*k == 0 || a.X.Dim(-1) != k {
		bad("w must be a float tensor [N, K], or the bytes of one in 4 bits, for x [..., K], none of them zero")
	}
	m := matmul{MatmulArgs: a, cols: n, k: k, head: n}
	m.rows = int(a.X.Elems() / int64(m.k))
	if a.bytes() && !m.fitsBytes() {
		bad(fmt.Sprintf("bytes need scales, x scale %v, w scale %v, and K a multiple of 64", a.XScale, a.WScale))
	}
	switch {
	case a.HeadDim < 0 || a.HeadDim > 0 && m.cols%a.HeadDim != 0:
		bad("the head dim must divide N")
	case a.HeadDim > 0:
		m.head = a.HeadDim
		if len(a.Y.Shape) != 3 || a.Y.Dim(0) != m.cols/m.head || a.Row < 0 || a.Row+m.rows > a.Y.Dim(1) || a.Y.Dim(2) != m.head {
			bad(fmt.Sprintf("y must be [N / head dim, R, head dim] and hold M rows from row %d on", a.Row))
		}
	case a.Row != 0:
		bad("only a head-major y may be written from a row on")
	case a.Y.Dim(-1) != m.cols || a.Y.Elems() != int64(m.rows)*int64(m.cols):
		bad("y must be [..., N] with as many rows as x")
	}
	if !a.Bias.IsZero() && (!a.Bias.DType.IsFloat() || a.Bias.Elems() != int64(m.cols)) {
		bad("bias must hold N floats")
	}
	if !a.Gate.IsZero() && (!a.Add || a.Gate.DType != engine.F32 || a.Gate.Elems() != int64(m.cols)) {
		bad("gate must hold N f32 and needs Add")
	}
	if a.Packed && !m.fitsPacked() || a.PackY && !m.fitsPackedY() {
		bad("packed operands are bf16 without scales, K a multiple of 128, and so is N of a packed y, which nothing is added to")
	}
	if a.Add && a.Activation != NoActivation || a.Activation > SiLU {
		bad(fmt.Sprintf("activation %d", a.Activation))
	}
	return m
}

// plan decides tile and cuts from the whole layer's size, so that a dispatch's share does not change the way any
// element is computed.
func (m *matmul) plan(caps engine.Caps) {
	if m.bytes() {
		m.tile = bytesTile
		m.planMatrix(caps, m.chooseBytesMatrix(caps))
		return
	}
	m.tile = chooseTile(caps, m.rows, m.cols, m.Half)
	if m.Packed {
		m.planFragments(caps, fragmentKernelOf(caps))
		return
	}
	m.planMatrix(caps, m.chooseMatrix(caps))
}

// planMatrix decides the cuts, with a kernel for matrices if there is one.
func (m *matmul) planMatrix(caps engine.Caps, matrix *matrixKernel) {
	m.matrix = matrix
	l := cutLimits{tileM: int(m.tile.m), tileN: int(m.tile.n), rowUnit: gemmCut, rows: m.rows, cols: m.cols}
	if m.matrix != nil {
		l.tileM, l.tileN = int(m.matrix.tile.m), int(m.matrix.tile.n)
		l.rowUnit = l.tileM * gemmCut / gcd(l.tileM, gemmCut)
	}
	if m.small() {
		l.tileM, l.tileN = m.rows, gemvCols
	}
	m.cut(caps, l)
}

// cutLimits are a kernel's tile, the number of rows that cuts are a multiple of, and the most rows and columns that it takes at a time.
type cutLimits struct{ tileM, tileN, rowUnit, rows, cols int }

// colUnit is the number of columns that cuts are a multiple of.
func (m *matmul) colUnit() int {
	if m.HeadDim > 0 {
		return m.HeadDim * gemmCut / gcd(m.HeadDim, gemmCut)
	}
	return gemmCut
}

// cut decides how many rows and columns one dispatch computes.
func (m *matmul) cut(caps engine.Caps, l cutLimits) {
	// How many columns, then rows, a binding of each tensor holds.
	cols := min(l.cols, m.columnsOfW(caps))
	rows := min(l.rows, fits(caps, int64(m.k)*m.X.DType.Size(), m.rows))
	if m.HeadDim > 0 {
		cols = min(cols, fits(caps, int64(m.Y.Dim(1))*m.Y.DType.Size(), m.cols))
	} else {
		rows = min(rows, fits(caps, int64(m.cols)*m.Y.DType.Size(), m.rows))
	}
	// Rows are cut before columns, to whole tiles; a layer whose few rows still cost too much is cut by columns.
	affordable := caps.MaxDispatchCost / (2 * float64(m.k))
	cols = min(cols, l.tileN*int(caps.MaxGroups[0]), int(affordable/float64(min(m.rows, l.rowUnit))))
	m.colStep = evenly(m.cols, cols, m.colUnit())
	rows = min(rows, l.tileM*int(caps.MaxGroups[1]), int(affordable/float64(m.colStep)))
	m.rowStep = evenly(m.rows, rows, l.rowUnit)
}

// fits returns how many of n slices of so many bytes one binding holds.
func fits(caps engine.Caps, bytes int64, n int) int {
	return int(min(int64(n), caps.MaxStorageRange/bytes))
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (m *matmul) small() bool { return m.rows <= gemvRows && !m.bytes() && !m.Packed }

// call is the dispatch for a rectangle of the result.
func (m *matmul) call(caps engine.Caps, row, rows, col, cols int) engine.Call {
	x := m.X.Reshape(m.rows, m.k).Rows(row, row+rows)
	bias, biasBase := alignedView(caps, m.Bias, int64(col), int64(cols))
	gate, gateBase := alignedView(caps, m.Gate, int64(col), int64(cols))
	push := shaders.MatmulPush{Rows: uint32(rows), Cols: uint32(cols), K: uint32(m.k), Head: uint32(m.head),
		Height: uint32(m.rows), BiasBase: biasBase, GateBase: gateBase, Band: uint32(m.bandOf(rows))}
	w := m.part(&push, col, cols)
	var y engine.Tensor
	if m.HeadDim > 0 {
		y = m.Y.Rows(col/m.head, (col+cols)/m.head)
		push.YRow, push.Height = uint32(m.Row+row), uint32(m.Y.Dim(1))
	} else {
		y = m.Y.Reshape(m.rows, m.cols).Rows(row, row+rows)
		push.YCol = uint32(col)
	}
	c := engine.Call{
		Push:  push.Append(nil),
		Bind:  []engine.Tensor{x, w, bias, y, gate},
		Cost:  2 * float64(rows) * float64(cols) * float64(m.k),
		Label: fmt.Sprintf("matmul %dx%dx%d", rows, cols, m.k),
	}
	vecN := m.cols%4 == 0 && m.head%4 == 0 && vectors(y)
	if m.bytes() {
		m.bytesCall(caps, &c, row, rows, col, cols, vecN)
		return c
	}
	vecK := m.k%8 == 0 && vectors(x) && vectors(w)
	if m.small() {
		c.Shader, c.Spec = m.variant(shaders.MatmulGemv, shaders.MatmulGemvNf4), m.gemvSpec(vecK)
		c.Groups = [3]uint32{uint32(ceilDiv(cols, gemvCols)), 1, 1}
		return c
	}
	if m.fragments != nil {
		m.fragmentCall(&c, rows, cols)
		return c
	}
	if m.matrix != nil {
		c.Shader, c.Spec = m.matrix.shader, m.matrixSpec(caps, vecN)
		c.Groups = [3]uint32{uint32(ceilDiv(cols, int(m.matrix.tile.n))), uint32(ceilDiv(rows, int(m.matrix.tile.m))), 1}
		return c
	}
	c.Shader = m.plainShader()
	c.Spec = m.spec(vecK, vecN)
	c.Groups = [3]uint32{uint32(ceilDiv(cols, int(m.tile.n))), uint32(ceilDiv(rows, int(m.tile.m))), 1}
	return c
}

func (m *matmul) spec(vecK, vecN bool) []shaders.SpecValue {
	return shaders.MatmulSpec{XType: uint32(m.X.DType), WType: m.wType(), WPlain: m.plainScales(), BiasType: uint32(m.Bias.DType),
		YType: uint32(m.Y.DType), VecK: vecK, VecN: vecN, Bias: !m.Bias.IsZero(), Gate: !m.Gate.IsZero(), Add: m.Add,
		Activation: uint32(m.Activation), TileM: m.tile.m, TileN: m.tile.n, TileK: m.tile.k,
		RegM: m.tile.regM, RegN: m.tile.regN, LocalSizeX: m.tile.invocations()}.Values()
}

func (m *matmul) gemvSpec(vecK bool) []shaders.SpecValue {
	return shaders.MatmulGemvSpec{XType: uint32(m.X.DType), WType: m.wType(), WPlain: m.plainScales(), BiasType: uint32(m.Bias.DType),
		YType: uint32(m.Y.DType), VecK: vecK, Bias: !m.Bias.IsZero(), Gate: !m.Gate.IsZero(), Add: m.Add,
		Activation: uint32(m.Activation), Rows: uint32(m.rows)}.Values()
}
