package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// LayerNormArgs are the operands of LayerNorm. All tensors are f32, bf16 or f16, each for itself.
type LayerNormArgs struct {
	X engine.Tensor // [..., D]: all leading axes together are rows
	Y engine.Tensor // like X; may be X itself
	// Weight and Bias, [D], are optional, each for itself.
	Weight, Bias engine.Tensor
	// Scale and Shift, [D], come together or not at all: the result becomes y·(1 + scale) + shift.
	Scale, Shift engine.Tensor
	Eps          float32
	// PackY writes Y, bf16, as the packed X of a linear layer (MatmulArgs.Packed): Y is [M, D] with memory of PackedRows(M) rows, D a multiple of 128, and
	// all tensors but it start at multiples of four elements. It must not be X. The numbers are the same.
	PackY bool
}

// LayerNorm records y = (x − mean)/sqrt(var + eps), row by row with the biased variance, then weight and bias, then the
// modulation of a diffusion transformer (kandinsky-5, kandinsky/models/nn.py, apply_scale_shift_norm). It computes in
// fp32 and rounds once, at the end. Rows are cut over dispatches as the device needs it, with the same results.
func LayerNorm(s *engine.Stream, a LayerNormArgs) {
	if a.Scale.IsZero() != a.Shift.IsZero() {
		panic("ops.LayerNorm: scale and shift come together")
	}
	rowNorm{LayerNormArgs: a, op: "LayerNorm", centre: true}.record(s)
}

// RMSNormArgs are the operands of RMSNorm. All tensors are f32, bf16 or f16, each for itself.
type RMSNormArgs struct {
	X      engine.Tensor // [..., D]
	Y      engine.Tensor // like X; may be X itself
	Weight engine.Tensor // [D], optional
	Eps    float32
}

// RMSNorm records y = x/sqrt(mean(x²) + eps)·weight, row by row, in fp32 with one rounding at the end
// (huggingface/transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py, Qwen2RMSNorm). For the heads of queries and keys
// see Rope, which has it built in.
func RMSNorm(s *engine.Stream, a RMSNormArgs) {
	rowNorm{LayerNormArgs: LayerNormArgs{X: a.X, Y: a.Y, Weight: a.Weight, Eps: a.Eps}, op: "RMSNorm"}.record(s)
}

// rowNorm is what LayerNorm and RMSNorm have in common.
type rowNorm struct {
	LayerNormArgs
	op     string
	centre bool
}

// maxNormDim is the longest row: a lane of rownorm.comp then adds up 128 elements in turn, which keeps the sums' error
// near 1e-6.
const maxNormDim = 16384

func (n rowNorm) check() (rows, dim int) {
	bad := func(why string) {
		panic(fmt.Sprintf("ops.%s: %s: x %v, y %v, weight %v, bias %v, scale %v, shift %v", n.op, why, n.X, n.Y, n.Weight, n.Bias, n.Scale, n.Shift))
	}
	if !floats(n.X, n.Y) || len(n.X.Shape) == 0 {
		bad("x and y must be float tensors")
	}
	dim = n.X.Dim(-1)
	if dim < 1 || dim > maxNormDim {
		bad(fmt.Sprintf("rows must have 1 to %d elements", maxNormDim))
	}
	if n.Y.Elems() != n.X.Elems() || n.Y.Dim(-1) != dim {
		bad("y must be shaped like x")
	}
	if n.PackY && (n.Y.DType != engine.BF16 || dim%packStrip != 0 || !vectors(n.Y) || !quadAligned(n.X, n.Weight, n.Bias, n.Scale, n.Shift)) {
		bad("a packed y is bf16 of a multiple of 128 columns")
	}
	for _, v := range []engine.Tensor{n.Weight, n.Bias, n.Scale, n.Shift} {
		if !vectorOf(v, dim) {
			bad("weight, bias, scale and shift must hold one float per column")
		}
	}
	return int(n.X.Elems() / int64(dim)), dim
}

func (n rowNorm) record(s *engine.Stream) {
	if s.Err() != nil {
		return
	}
	rows, dim := n.check()
	caps := s.Device().Caps()
	vec := dim%4 == 0 && quadAligned(n.X, n.Y, n.Weight, n.Bias, n.Scale, n.Shift)
	items := dim
	if vec {
		items /= 4
	}
	lanes := rowLanes(items)
	cost := 12 * float64(dim)
	piece := pieceSize(caps, n.op, rows, cost, int64(dim)*n.X.DType.Size(), int64(dim)*n.Y.DType.Size())
	if n.PackY && piece < rows {
		piece = max(packUnit, piece/packUnit*packUnit)
	}
	for at := 0; at < rows; at += piece {
		count := min(piece, rows-at)
		push := shaders.RownormPush{Rows: uint32(count), Dim: uint32(dim), Eps: n.Eps}
		bind := make([]engine.Tensor, 6)
		bind[0], push.XBase = alignedView(caps, n.X, int64(at)*int64(dim), int64(count)*int64(dim))
		bind[1], push.YBase = alignedView(caps, n.Y, int64(at)*int64(dim), int64(count)*int64(dim))
		taken := count // rows of lanes
		if n.PackY {
			bind[1], push.YBase = packedView(n.Y.Reshape(rows, dim).Rows(at, at+count)), 0
			taken = ceilDiv(count, fragmentEdge) * fragmentEdge / 2
		}
		bind[2], push.WeightBase = alignedView(caps, n.Weight, 0, int64(dim))
		bind[3], push.BiasBase = alignedView(caps, n.Bias, 0, int64(dim))
		bind[4], push.ScaleBase = alignedView(caps, n.Scale, 0, int64(dim))
		bind[5], push.ShiftBase = alignedView(caps, n.Shift, 0, int64(dim))
		s.Dispatch(engine.Call{
			Shader: shaders.Rownorm, Spec: n.spec(lanes, vec), Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, int64(ceilDiv(taken, int(128/lanes)))),
			Cost:   cost * float64(count), Label: fmt.Sprintf("%s %dx%d", n.op, count, dim),
		})
	}
}

func (n rowNorm) spec(lanes uint32, vec bool) []shaders.SpecValue {
	return shaders.RownormSpec{XType: uint32(n.X.DType), YType: uint32(n.Y.DType), WeightType: uint32(n.Weight.DType),
		BiasType: uint32(n.Bias.DType), ScaleType: uint32(n.Scale.DType), ShiftType: uint32(n.Shift.DType), Lanes: lanes,
		Centre: n.centre, Weight: !n.Weight.IsZero(), Bias: !n.Bias.IsZero(), Modulate: !n.Scale.IsZero(), Vec: vec, Pack: n.PackY}.Values()
}
