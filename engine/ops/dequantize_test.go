package ops_test

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

func dequantizeCases() []rowCase {
	var out []rowCase
	for _, c := range []struct{ rows, columns, skip int }{{1, 128, 0}, {7, 128, 0}, {3, 384, 4}, {65, 256, 8}, {129, 640, 0}} {
		out = append(out, rowCase{fmt.Sprintf("%dx%d, %d elements in", c.rows, c.columns, c.skip), func(b *gemmBench) (got, want, tolerance []float64) {
			dt := b.anyTypes(1)[0]
			n := c.rows * c.columns
			words := make([]uint32, n/4)
			for i := range words {
				words[i] = b.rng.Uint32()
			}
			words[0] = 0x807f00ff // −1, 0, 127, −128
			scales := b.values(engine.F32, n/ops.DequantizeRun, 1)
			y := b.outputAt(dt, c.skip, c.rows, c.columns)
			ops.Dequantize(b.dev.Compute(), y, b.ids(words).Reshape(c.rows, c.columns/4), b.upload(engine.F32, scales, c.rows, c.columns/ops.DequantizeRun))
			for i := range n {
				code := int8(words[i/4] >> (i % 4 * 8))
				want = append(want, float64(float32(code)*float32(scales[i/ops.DequantizeRun])))
			}
			return b.finish(y), want, exact(dt, want)
		}})
	}
	return out
}

func TestDequantizeMatchesReference(t *testing.T) { checkRowCases(t, dequantizeCases()) }

// TestDequantizeIsCutWithoutChangingABit binds pieces of a matrix.
func TestDequantizeIsCutWithoutChangingABit(t *testing.T) {
	dev := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 8192}})
	b := newGemmBench(t, dev, 1)
	const rows, columns = 50, 512
	words, scales := make([]uint32, rows*columns/4), b.values(engine.F32, rows*columns/ops.DequantizeRun, 1)
	for i := range words {
		words[i] = b.rng.Uint32()
	}
	y := b.output(engine.F32, rows, columns)
	ops.Dequantize(dev.Compute(), y, b.ids(words).Reshape(rows, columns/4), b.upload(engine.F32, scales, rows, columns/ops.DequantizeRun))
	for i, got := range b.finish(y) {
		if want := float32(int8(words[i/4]>>(i%4*8))) * float32(scales[i/ops.DequantizeRun]); float32(got) != want {
			t.Fatalf("element %d is %g, want %g", i, got, want)
		}
	}
}
