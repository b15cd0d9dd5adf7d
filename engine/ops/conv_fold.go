package ops

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Upsampling by nearest neighbour before a convolution can be folded into its weights. Along an axis that doubles the
// input, the two results that one source place gives read two source places each, not three: one of them twice, so that
// two weights become their sum, rounded once. Of the 27 taps of a cube 8 remain, 12 where time is not doubled.
//
// Folded weights are [F, P, O, kt, kh, kw, C] with the shorter kernel. The P results in space that one source place gives
// (phases: 2 × 2, rows first) have weights of their own. In time the host knows which two frames an output frame reads:
// with F = 2 the first weights are for taps that would read frames (a, a, b), the second for (a, b, b).

// FoldedShape returns the shape of folded weights, for a kernel whose length is 3 along every axis that is doubled.
func FoldedShape(out, in int, kernel, upsample [3]int) []int {
	shape := []int{upsample[0], upsample[1] * upsample[2], out, kernel[0], kernel[1], kernel[2], in}
	for axis, factor := range upsample {
		if factor < 1 || factor > 2 || factor == 2 && kernel[axis] != 3 {
			panic(fmt.Sprintf("ops: upsampling %v cannot be folded into a kernel of %v", upsample, kernel))
		}
		if factor == 2 {
			shape[3+axis] = 2
		}
	}
	return shape
}

// FoldConvWeights writes weights in PyTorch's order, [out, in, kt, kh, kw], to dst as f16 of FoldedShape.
func FoldConvWeights(dst []byte, src []float32, out, in int, kernel, upsample [3]int) {
	shape := FoldedShape(out, in, kernel, upsample)
	volume := kernel[0] * kernel[1] * kernel[2]
	taps := shape[3] * shape[4] * shape[5]
	if len(src) != out*in*volume || len(dst) != 2*shape[0]*shape[1]*out*taps*in {
		panic(fmt.Sprintf("ops.FoldConvWeights: %d weights to %d bytes of %v", len(src), len(dst), shape))
	}
	var all sync.WaitGroup
	for fold := range shape[0] {
		for phase := range shape[1] {
			all.Go(func() {
				// A result in an even row reads the rows (i − 1, i, i) of the source, one in an odd row (i, i, i + 1).
				parts := [3]int{fold, 1 - phase/upsample[2], 1 - phase%upsample[2]}
				sources := foldedTaps([3]int(shape[3:6]), kernel, upsample, parts)
				size := 2 * out * taps * in
				foldPart(dst[(fold*shape[1]+phase)*size:][:size], src, in, volume, sources)
			})
		}
	}
	all.Wait()
}

// foldedTaps lists, for every tap of the shorter kernel, the taps that it is the sum of.
func foldedTaps(taps, kernel, upsample, parts [3]int) [][]int {
	var out [][]int
	for tap := range taps[0] * taps[1] * taps[2] {
		at := [3]int{tap / (taps[1] * taps[2]), tap / taps[2] % taps[1], tap % taps[2]}
		sum := []int{0}
		for axis, length := range kernel {
			var longer []int
			for _, before := range sum {
				for _, k := range axisTaps(upsample[axis], parts[axis], at[axis]) {
					longer = append(longer, before*length+k)
				}
			}
			sum = longer
		}
		out = append(out, sum)
	}
	return out
}

// axisTaps returns the taps of an axis that the k-th source place stands for: tap k itself or, where the source is
// doubled, those of its two places in (a, a, b), part 0, or in (a, b, b).
func axisTaps(factor, part, k int) []int {
	switch {
	case factor == 1:
		return []int{k}
	case part == 0:
		return [][]int{{0, 1}, {2}}[k]
	}
	return [][]int{{0}, {1, 2}}[k]
}

// foldPart writes the weights of one phase for one choice of frames, [out, taps, in].
func foldPart(dst []byte, src []float32, in, volume int, sources [][]int) {
	at := 0
	for o := range len(src) / (in * volume) {
		for _, taps := range sources {
			for c := range in {
				var sum float32
				for _, tap := range taps {
					sum += src[(o*in+c)*volume+tap]
				}
				binary.LittleEndian.PutUint16(dst[at:], numeric.F16FromF32(sum))
				at += 2
			}
		}
	}
}
