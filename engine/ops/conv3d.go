package ops

import (
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Conv3DArgs are the operands of a causal 3-D convolution, channels last. Triples are (time, height, width); float
// tensors are f32, bf16 or f16 each for itself.
type Conv3DArgs struct {
	X    engine.Tensor // [T, H, W, C]
	W    engine.Tensor // [O, kt, kh, kw, C], as PackConvWeights makes it; each kernel length 1 to 3. Or folded: see FoldConvWeights
	Bias engine.Tensor // [O], optional
	Y    engine.Tensor // [T', H', W', O], the size that OutSize returns
	// Residual, shaped like Y, is added to the result; it may be Y itself. Optional.
	Residual engine.Tensor
	// Stride is 1 or 2 along each axis, 1 where zero.
	Stride [3]int
	// Upsample repeats the input by nearest neighbour before the convolution, 1 where zero: rows and columns, and in time
	// every frame but the first, so that T frames become (T − 1)·factor + 1. The upsampled tensor never exists.
	Upsample [3]int
	// Half multiplies in fp16 and sums in fp32; see MatmulArgs. Where ConvByMatrices says so, cooperative matrices do it;
	// folded weights need that.
	Half bool
}

// OutSize returns (T', H', W') for the input, kernel, stride and upsampling factors: the edge is replicated by kh/2 rows
// and kw/2 columns on both sides, and by kt − 1 frames before.
func (a Conv3DArgs) OutSize() [3]int {
	a = a.withDefaults()
	size := a.upsampled()
	kernel := a.kernel()
	pad := [3]int{kernel[0] - 1, kernel[1] / 2 * 2, kernel[2] / 2 * 2}
	for axis := range size {
		size[axis] = (size[axis]+pad[axis]-kernel[axis])/a.Stride[axis] + 1
	}
	return size
}

// folded tells whether upsampling is folded into the weights.
func (a Conv3DArgs) folded() bool { return len(a.W.Shape) == 7 }

// kernel is the length along each axis, before folding.
func (a Conv3DArgs) kernel() [3]int {
	if !a.folded() {
		return [3]int(a.W.Shape[1:4])
	}
	kernel := [3]int(a.W.Shape[3:6])
	for axis, factor := range a.Upsample {
		if factor == 2 {
			kernel[axis] = 3
		}
	}
	return kernel
}

func (a Conv3DArgs) outChannels() int { return a.W.Dim(-5) }

func (a Conv3DArgs) upsampled() [3]int {
	return [3]int{(a.X.Dim(0)-1)*a.Upsample[0] + 1, a.X.Dim(1) * a.Upsample[1], a.X.Dim(2) * a.Upsample[2]}
}

func (a Conv3DArgs) withDefaults() Conv3DArgs {
	for axis := range 3 {
		a.Stride[axis] = max(a.Stride[axis], 1)
		a.Upsample[axis] = max(a.Upsample[axis], 1)
	}
	return a
}

// Conv3D records the convolution of Kandinsky 5's autoencoder (diffusers, autoencoder_kl_hunyuan_video.py,
// HunyuanVideoCausalConv3d), padded by replication of the edge, summed in fp32.
//
// Every output frame is at least one dispatch, cut further by rows of pixels where bindings or Caps.MaxDispatchCost
// ask for it; results are the same bits however it is cut. It panics when shapes or types do not fit each other.
func Conv3D(s *engine.Stream, a Conv3DArgs) {
	a = a.withDefaults()
	a.check()
	a.record(s, [3]engine.Tensor{})
}

// record cuts and dispatches checked arguments.
func (a Conv3DArgs) record(s *engine.Stream, picked [3]engine.Tensor) {
	caps := s.Device().Caps()
	c := a.prepare(picked)
	if m := c.matrix(caps); m != nil {
		m.record(s)
		return
	}
	if a.folded() {
		panic(fmt.Sprintf("ops.Conv3D: the device cannot multiply folded weights %v by matrices", a.W))
	}
	c.plan(caps)
	for frame := range c.out[0] {
		for row := 0; row < c.out[1]; row += c.rowStep {
			s.Dispatch(c.call(caps, frame, row, min(c.rowStep, c.out[1]-row)))
		}
	}
}

func (a Conv3DArgs) prepare(picked [3]engine.Tensor) conv {
	return conv{Conv3DArgs: a, in: [3]int(a.X.Shape), channels: a.X.Dim(3), kernel: a.kernel(),
		out: [3]int(a.Y.Shape[:3]), picked: picked, cols: a.outChannels()}
}

func (a Conv3DArgs) check() {
	bad := func(why string) {
		panic(fmt.Sprintf("ops.Conv3D: %s: x %v, w %v, bias %v, y %v, residual %v, stride %v, upsample %v",
			why, a.X, a.W, a.Bias, a.Y, a.Residual, a.Stride, a.Upsample))
	}
	for _, t := range []engine.Tensor{a.X, a.W, a.Y} {
		if t.IsZero() || !t.DType.IsFloat() || t.Elems() == 0 {
			bad("x, w and y must be float tensors that are not empty")
		}
	}
	if len(a.X.Shape) != 4 || len(a.W.Shape) != 5 && !a.folded() || len(a.Y.Shape) != 4 || a.X.Dim(3) != a.W.Dim(-1) {
		bad("want x [T, H, W, C], w [O, kt, kh, kw, C] or folded, y [T', H', W', O]")
	}
	kernel := a.kernel()
	for axis := range 3 {
		if kernel[axis] > 3 || a.Stride[axis] > 2 || a.Upsample[axis] > 2 {
			bad("kernels go to 3, strides and upsampling to 2")
		}
		if a.folded() && a.Upsample[axis]*a.Stride[axis] > 2 {
			bad("folded weights have no stride")
		}
	}
	if a.folded() && !slices.Equal(a.W.Shape, FoldedShape(a.outChannels(), a.X.Dim(3), kernel, a.Upsample)) {
		bad("w is not folded for this upsampling")
	}
	if size := a.OutSize(); [3]int(a.Y.Shape) != size || a.Y.Dim(3) != a.outChannels() {
		bad(fmt.Sprintf("y must be %v × %d channels", size, a.outChannels()))
	}
	if !a.Bias.IsZero() && (!a.Bias.DType.IsFloat() || a.Bias.Elems() != int64(a.outChannels())) {
		bad("bias must hold O floats")
	}
	if !a.Residual.IsZero() && (!a.Residual.DType.IsFloat() || fmt.Sprint(a.Residual.Shape) != fmt.Sprint(a.Y.Shape)) {
		bad("the residual must have y's shape")
	}
}

// conv is a checked convolution and how it is cut.
type conv struct {
	Conv3DArgs
	in, out, kernel [3]int
	picked          [3]engine.Tensor // the frame that each tap reads, where the caller chose them (Conv3DFrame)
	channels, cols  int
	rowStep         int // output rows of pixels in a dispatch
	tile            gemmTile
}

func (c *conv) taps() int { return c.kernel[0] * c.kernel[1] * c.kernel[2] }

// plan decides the tile and how many rows of pixels a dispatch computes.
func (c *conv) plan(caps engine.Caps) {
	width := c.out[2]
	c.tile = chooseTile(caps, c.out[1]*width, c.cols, c.Half)
	perRow := 2 * float64(width) * float64(c.cols) * float64(c.taps()*c.channels)
	rows := min(c.out[1], int(caps.MaxDispatchCost/perRow), int(caps.MaxGroups[1])*int(c.tile.m)/width)
	for _, t := range []engine.Tensor{c.Y, c.Residual} {
		if !t.IsZero() {
			rows = min(rows, int((caps.MaxStorageRange-2*caps.StorageAlign)/(int64(width*c.cols)*t.DType.Size())))
		}
	}
	// Source rows of n output rows: at most (n − 1)·stride + 3 upsampled ones, and one more where they start in the middle.
	source := int((caps.MaxStorageRange - 2*caps.StorageAlign) / (int64(c.in[2]*c.channels) * c.X.DType.Size()))
	if source < c.in[1] {
		rows = min(rows, ((source-2)*c.Upsample[1]-3)/c.Stride[1]+1)
	}
	c.rowStep = evenly(c.out[1], max(rows, 1), 1)
}

// sourceRows returns the source rows [lo, hi) that output rows [from, to) read.
func (c *conv) sourceRows(from, to int) (lo, hi int) {
	clamp := func(row int) int { return min(max(row, 0), c.in[1]*c.Upsample[1]-1) / c.Upsample[1] }
	lo = clamp(from*c.Stride[1] - c.kernel[1]/2)
	return lo, clamp((to-1)*c.Stride[1]+c.kernel[1]-1-c.kernel[1]/2) + 1
}

// sourceFrame returns the source frame that a tap of an output frame reads.
func (c *conv) sourceFrame(frame, tap int) int {
	upsampled := max(frame*c.Stride[0]+tap-(c.kernel[0]-1), 0)
	return (upsampled + c.Upsample[0] - 1) / c.Upsample[0] // the first frame is not repeated
}

// bindSource returns the bindings for the source frames and where in them the rows from lo begin: one range from the
// first frame to the last where that fits, else one for each tap.
func (c *conv) bindSource(caps engine.Caps, frame, lo, hi int) (x [3]engine.Tensor, base [3]uint32, split bool) {
	row := int64(c.in[2] * c.channels)
	perFrame := int64(c.in[1]) * row
	rows := int64(hi-lo) * row
	if !c.picked[0].IsZero() {
		for tap := range c.kernel[0] {
			x[tap], base[tap] = alignedView(caps, c.picked[tap], int64(lo)*row, rows)
		}
		return x, base, c.kernel[0] > 1
	}
	first, last := c.sourceFrame(frame, 0), c.sourceFrame(frame, c.kernel[0]-1)
	span := int64(last-first)*perFrame + rows
	if (span*c.X.DType.Size())+2*caps.StorageAlign <= caps.MaxStorageRange {
		var early uint32
		x[0], early = alignedView(caps, c.X, int64(first)*perFrame+int64(lo)*row, span)
		for tap := range c.kernel[0] {
			base[tap] = early + uint32(int64(c.sourceFrame(frame, tap)-first)*perFrame)
		}
		return x, base, false
	}
	for tap := range c.kernel[0] {
		x[tap], base[tap] = alignedView(caps, c.X, int64(c.sourceFrame(frame, tap))*perFrame+int64(lo)*row, rows)
	}
	return x, base, true
}

// call is the dispatch for some rows of pixels of an output frame.
func (c *conv) call(caps engine.Caps, frame, row, rows int) engine.Call {
	lo, hi := c.sourceRows(row, row+rows)
	x, xBase, split := c.bindSource(caps, frame, lo, hi)
	positions := rows * c.out[2]
	elems := int64(positions * c.cols)
	at := int64(frame*c.out[1]+row) * int64(c.out[2]*c.cols)
	y, yBase := alignedView(caps, c.Y, at, elems)
	bias, biasBase := alignedView(caps, c.Bias, 0, int64(c.cols))
	var residual engine.Tensor
	var residualBase uint32
	if !c.Residual.IsZero() {
		residual, residualBase = alignedView(caps, c.Residual, at, elems)
	}
	k := c.taps() * c.channels
	vecK := c.channels%8 == 0 && vectors(c.W) && (xBase[0]|xBase[1]|xBase[2])%8 == 0
	vecN := c.cols%4 == 0 && (yBase|residualBase)%4 == 0
	shader := shaders.Conv3d
	if c.Half {
		shader = shaders.Conv3dHalf
	}
	push := shaders.Conv3dPush{Rows: uint32(positions), Cols: uint32(c.cols), K: uint32(k), Height: uint32(c.in[1]),
		Width: uint32(c.in[2]), OutWidth: uint32(c.out[2]), OutRow: uint32(row), SrcRow: uint32(lo), XBase: xBase,
		BiasBase: biasBase, ResidualBase: residualBase, YBase: yBase}
	return engine.Call{
		Shader: shader,
		Spec:   c.spec(vecK, vecN, split),
		Push:   push.Append(nil),
		Bind:   []engine.Tensor{x[0], x[1], x[2], c.W, bias, residual, y},
		Groups: [3]uint32{uint32(ceilDiv(c.cols, int(c.tile.n))), uint32(ceilDiv(positions, int(c.tile.m))), 1},
		Cost:   2 * float64(elems) * float64(k),
		Label:  fmt.Sprintf("conv3d %dx%dx%d", positions, c.cols, k),
	}
}

func (c *conv) spec(vecK, vecN, split bool) []shaders.SpecValue {
	return shaders.Conv3dSpec{XType: uint32(c.X.DType), WType: uint32(c.W.DType), BiasType: uint32(c.Bias.DType),
		ResidualType: uint32(c.Residual.DType), YType: uint32(c.Y.DType), VecK: vecK, VecN: vecN, Bias: !c.Bias.IsZero(),
		Residual: !c.Residual.IsZero(), Split: split, Channels: uint32(c.channels),
		Kh: uint32(c.kernel[1]), Kw: uint32(c.kernel[2]), Sh: uint32(c.Stride[1]), Sw: uint32(c.Stride[2]),
		Fh: uint32(c.Upsample[1]), Fw: uint32(c.Upsample[2]), TileM: c.tile.m, TileN: c.tile.n, TileK: c.tile.k,
		RegM: c.tile.regM, RegN: c.tile.regN, LocalSizeX: c.tile.invocations()}.Values()
}

// PackConvWeights reorders a convolution's weights from PyTorch's [out, in, kt, kh, kw] to Conv3D's
// [out, kt, kh, kw, in]. src and dst hold elements of elemBytes bytes each and must not overlap.
func PackConvWeights(dst, src []byte, elemBytes, out, in int, kernel [3]int) {
	taps := kernel[0] * kernel[1] * kernel[2]
	if n := out * in * taps * elemBytes; len(src) != n || len(dst) != n {
		panic(fmt.Sprintf("ops.PackConvWeights: %d bytes to %d for [%d %d %v] of %d bytes each", len(src), len(dst), out, in, kernel, elemBytes))
	}
	for o := range out {
		for i := range in {
			for tap := range taps {
				from, to := ((o*in+i)*taps+tap)*elemBytes, ((o*taps+tap)*in+i)*elemBytes
				copy(dst[to:to+elemBytes], src[from:from+elemBytes])
			}
		}
	}
}
