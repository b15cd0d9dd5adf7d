package ops

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// ConvLayout says how the weights of a convolution lie on the device when cooperative matrices read them. The zero value
// stands for plain weights, [O, kt, kh, kw, C].
//
// Weights are f16, in blocks of Matrix.N output channels by Matrix.K input channels, rows of input channels. The blocks
// of one tap and Matrix.K input channels lie together, those of a tap follow each other, then come the next taps. Output
// channels are filled up with zeros to a multiple of a tile.
//
// Upsampling by nearest neighbour is folded into them. Along an axis that doubles the input, the two results that one
// source place gives read two source places each, not three: one of them twice, so that two weights become their sum,
// rounded once. Of the 27 taps of a cube 8 remain, 12 where time is not doubled. The weights of the 2 × 2 results in
// space (phases) follow each other. In time the host knows which two frames there are: first come the weights for taps
// that read (a, a, b), then those for (a, b, b).
type ConvLayout struct {
	Out, In  int
	Kernel   [3]int // time, height, width
	Upsample [3]int // each 1 or 2; an axis that is doubled has a kernel of 3
	Matrix   engine.MatrixShape
}

// MatrixConvLayout returns the layout in which matrices of a shape multiply a convolution's weights; the zero layout when
// they cannot: channels that are no multiple of 8 and Matrix.K, an upsampled kernel that is not 3 long, or no matrices.
func MatrixConvLayout(m engine.MatrixShape, out, in int, kernel, upsample [3]int) ConvLayout {
	l := ConvLayout{Out: out, In: in, Kernel: kernel, Upsample: upsample, Matrix: m}
	for axis := range l.Upsample {
		l.Upsample[axis] = max(l.Upsample[axis], 1)
		if l.Upsample[axis] == 2 && kernel[axis] != 3 {
			return ConvLayout{}
		}
	}
	if m == (engine.MatrixShape{}) || in%m.K != 0 || in%8 != 0 {
		return ConvLayout{}
	}
	return l
}

// IsZero tells whether the weights are plain.
func (l ConvLayout) IsZero() bool { return l == ConvLayout{} }

// taps is the number of source places that a result reads along each axis.
func (l ConvLayout) taps() [3]int {
	taps := l.Kernel
	for axis, factor := range l.Upsample {
		if factor == 2 {
			taps[axis] = 2
		}
	}
	return taps
}

// phases is the number of results in space that come of one source place.
func (l ConvLayout) phases() int { return l.Upsample[1] * l.Upsample[2] }

// blocksN is the number of blocks along the output channels: whole tiles, the widest of which has 128 channels.
func (l ConvLayout) blocksN() int { return ceilDiv(l.Out, l.tileUnit()) * l.tileUnit() / l.Matrix.N }

// tileUnit is what the filled-up output channels are a multiple of: a power of two, at least a matrix and at most 128.
func (l ConvLayout) tileUnit() int {
	unit := max(8, l.Matrix.N)
	for unit < min(l.Out, 128) {
		unit *= 2
	}
	return unit
}

// foldElems is the number of elements for one choice of frames.
func (l ConvLayout) foldElems() int64 {
	taps := l.taps()
	return int64(l.phases()*taps[0]*taps[1]*taps[2]) * int64(l.In) * int64(l.blocksN()*l.Matrix.N)
}

// Elems returns the number of elements, filling included.
func (l ConvLayout) Elems() int64 { return int64(l.Upsample[0]) * l.foldElems() }

// foldedTaps returns the taps of an axis of a kernel that the k-th source place stands for: tap k itself or, where the
// source is doubled, those of its two places in (a, a, b), part 0, or in (a, b, b).
func foldedTaps(factor, part, k int) []int {
	switch {
	case factor == 1:
		return []int{k}
	case part == 0:
		return [][]int{{0, 1}, {2}}[k]
	}
	return [][]int{{0}, {1, 2}}[k]
}

// Pack writes weights in PyTorch's order, [out, in, kt, kh, kw], to dst, 2·Elems() bytes.
func (l ConvLayout) Pack(dst []byte, src []float32) {
	volume := l.Kernel[0] * l.Kernel[1] * l.Kernel[2]
	if int64(len(dst)) != 2*l.Elems() || len(src) != l.Out*l.In*volume {
		panic(fmt.Sprintf("ops.ConvLayout.Pack: %d weights to %d bytes for %+v", len(src), len(dst), l))
	}
	size := 2 * l.In * l.blocksN() * l.Matrix.N // bytes of a tap
	var all sync.WaitGroup
	for k, sources := range l.sources() {
		all.Go(func() { l.packTap(dst[k*size:(k+1)*size], src, sources) })
	}
	all.Wait()
}

// sources lists, for every tap in the order in which they lie, the taps of the kernel that it is the sum of.
func (l ConvLayout) sources() [][]int {
	var out [][]int
	taps := l.taps()
	for fold := range l.Upsample[0] {
		for phase := range l.phases() {
			// A result in an even row reads the rows (i − 1, i, i) of the source, one in an odd row (i, i, i + 1).
			parts := [3]int{fold, 1 - phase/l.Upsample[2], 1 - phase%l.Upsample[2]}
			for tap := range taps[0] * taps[1] * taps[2] {
				at := [3]int{tap / (taps[1] * taps[2]), tap / taps[2] % taps[1], tap % taps[2]}
				sum := []int{0}
				for axis, length := range l.Kernel {
					var longer []int
					for _, before := range sum {
						for _, k := range foldedTaps(l.Upsample[axis], parts[axis], at[axis]) {
							longer = append(longer, before*length+k)
						}
					}
					sum = longer
				}
				out = append(out, sum)
			}
		}
	}
	return out
}

// packTap writes all blocks of a tap, the sum of some taps of src.
func (l ConvLayout) packTap(dst []byte, src []float32, sources []int) {
	rows := l.blocksN() * l.Matrix.N
	volume := l.Kernel[0] * l.Kernel[1] * l.Kernel[2]
	at := 0
	for c0 := 0; c0 < l.In; c0 += l.Matrix.K {
		for n := range rows {
			for c := c0; c < c0+l.Matrix.K; c++ {
				var sum float32
				if n < l.Out {
					for _, tap := range sources {
						sum += src[(n*l.In+c)*volume+tap]
					}
				}
				binary.LittleEndian.PutUint16(dst[at:], numeric.F16FromF32(sum))
				at += 2
			}
		}
	}
}
