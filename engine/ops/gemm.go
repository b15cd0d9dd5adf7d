package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
)

// gemmTile is the shape of include/gemm.glsl's register-blocked product: a workgroup's share of the result, the step
// along k, and an invocation's share.
type gemmTile struct{ m, n, k, regM, regN uint32 }

func (t gemmTile) invocations() uint32 { return t.m / t.regM * (t.n / t.regN) }

// sharedBytes is what the tile takes of a workgroup's shared memory.
func (t gemmTile) sharedBytes(half bool) int64 {
	operands := int64(4 * t.k * (t.m + t.n + 8))
	if half {
		return operands/2 + int64(t.k/8*t.m*4) + nf4TableBytes
	}
	return operands + nf4TableBytes
}

// gemmCut is the number of rows or columns that cuts are a multiple of: whole tiles of every shape, and a multiple of
// 256 bytes, the largest alignment of bindings that Vulkan allows, for 2-byte elements whatever K is.
const gemmCut = 128

// chooseTile picks the tile for rows × cols results. Large tiles read each operand less often, but a result that
// gives only few of them leaves much of a GPU idle, and one that is narrow leaves much of a tile empty. In fp16 the large
// tile needs more registers than there are, partial sums being held beside the sums. Measured for 4096×4096×4096 in
// bf16 on an H100 (BenchmarkMatmul): fp32 36.8 TFLOP/s with the large tile, 36.1 with the small one; fp16 29.7 and 36.5.
func chooseTile(caps engine.Caps, rows, cols int, half bool) gemmTile {
	tiles := []gemmTile{{128, 128, 16, 8, 8}, {64, 64, 16, 8, 4}}
	switch {
	case cols <= 16:
		tiles = []gemmTile{{128, 16, 16, 8, 4}}
	case cols <= 32:
		tiles = []gemmTile{{128, 32, 16, 8, 4}}
	case half || int64(rows)*int64(cols) < 128*128*128:
		tiles = tiles[1:]
	}
	for _, t := range tiles {
		if int(t.invocations()) <= caps.MaxInvocations && t.sharedBytes(half) <= caps.MaxSharedBytes {
			return t
		}
	}
	return gemmTile{64, 64, 8, 8, 4} // fits Vulkan's minimum: 128 invocations, 16 KiB
}

// ceilDiv returns the number of pieces of size b that cover a.
func ceilDiv(a, b int) int { return (a + b - 1) / b }

// evenly returns a piece size of at most limit, a multiple of step unless it covers all of n, that cuts n into pieces
// of nearly the same size.
func evenly(n, limit, step int) int {
	if limit >= n {
		return n
	}
	limit = max(step, limit/step*step)
	pieces := ceilDiv(n, limit)
	return min(limit, ceilDiv(ceilDiv(n, pieces), step)*step)
}

// alignedView returns a view that holds elems elements of t from elem on and starts where the device can bind it,
// and how many elements too early it starts.
func alignedView(caps engine.Caps, t engine.Tensor, elem, elems int64) (engine.Tensor, uint32) {
	if t.IsZero() {
		return t, 0
	}
	size := t.DType.Size()
	align := max(caps.StorageAlign, 16) // vector loads want 16 bytes
	t.Offset += elem * size
	early := (t.Mem.Offset + t.Offset) % align
	if early%size != 0 || early > t.Offset {
		panic(fmt.Sprintf("ops: %v at byte %d of its region cannot be bound", t, t.Offset))
	}
	t.Offset -= early
	t.Shape = []int{int(elems + early/size)}
	return t, uint32(early / size)
}

// vectors tells whether 16-byte loads and stores may be used on a view that starts elem elements into t.
func vectors(t engine.Tensor) bool { return t.IsZero() || (t.Mem.Offset+t.Offset)%16 == 0 }
