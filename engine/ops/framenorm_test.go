package ops_test

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

func frameNormCases() []rowCase {
	var out []rowCase
	for _, frames := range []int{5, 7, 9, 13} {
		for _, scale := range []float64{1, 0.95, 3} { // of the source frames: within the clamps, at one, beyond all
			out = append(out, rowCase{fmt.Sprintf("first frames of %d, %g times as wide", frames, scale), func(b *gemmBench) (got, want, tolerance []float64) {
				const height, width, channels = 18, 20, 16
				const size = height * width * channels
				dt := b.anyType()
				x := b.values(dt, frames*size, 1)
				for i := range 4 * size {
					x[i] = roundTo(dt, x[i]*scale+0.02*float64(i/size))
				}
				y := b.outputAt(dt, 1, frames, height, width, channels)
				b.put(y, x)
				a, ok := ops.FirstFrameNorm(y)
				if !ok {
					b.Fatalf("%d frames are enough", frames)
				}
				ops.FrameNorm(b.dev.Compute(), a)
				want = ref.FrameNorm(x, size, 4, 4, min(9, frames), [4]float64{0.05, 0.1, 0.1, 0.25})
				for _, v := range want {
					tolerance = append(tolerance, 4e-6*scale+storeTolerance(dt, v))
				}
				return b.finish(y), want, tolerance
			}})
		}
	}
	return out
}

func TestFrameNormMatchesReference(t *testing.T) { checkRowCases(t, frameNormCases()) }

func TestFirstFrameNormNeedsFiveFrames(t *testing.T) {
	for frames, want := range map[int]bool{1: false, 2: false, 4: false, 5: true, 31: true} {
		a, ok := ops.FirstFrameNorm(engine.Tensor{Shape: []int{frames, 8, 8, 16}})
		if ok != want || ok && (a.Source != 4 || a.RefFrom != 4 || a.RefTo != min(frames, 9)) {
			t.Errorf("%d frames: %v %+v", frames, ok, a)
		}
	}
}

func TestFrameNormPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	x := newGemmBench(t, dev, 1).arena.Alloc("x", engine.F32, 6, 4)
	for name, a := range map[string]ops.FrameNormArgs{
		"no source":               {X: x, RefFrom: 4, RefTo: 6},
		"an empty reference":      {X: x, Source: 4, RefFrom: 4, RefTo: 4},
		"a reference past theend": {X: x, Source: 4, RefFrom: 4, RefTo: 7},
	} {
		mustPanic(t, name, func() { ops.FrameNorm(dev.Compute(), a) })
	}
}
