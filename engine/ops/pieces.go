package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
)

// pieceSize returns how many of n units (rows, frames, chunks) one dispatch takes, so that no binding exceeds the device's
// limit, given each binding's bytes per unit, and the dispatch stays below the cost limit, given its operations per unit.
func pieceSize(caps engine.Caps, op string, n int, cost float64, bytes ...int64) int {
	limit := int64(max(1, min(float64(n), caps.MaxDispatchCost/cost)))
	for _, b := range bytes {
		// A binding may begin up to 256 bytes early, where the device can bind it.
		limit = min(limit, (caps.MaxStorageRange-256)/max(b, 1))
	}
	if limit < 1 {
		panic(fmt.Sprintf("ops.%s: the smallest piece of work needs %v bytes per binding, the device allows %d", op, bytes, caps.MaxStorageRange))
	}
	return evenly(n, int(limit), 1)
}

// folded spreads n workgroups over two axes of a dispatch, for shaders that number them with gl_WorkGroupID.y *
// gl_NumWorkGroups.x + gl_WorkGroupID.x and skip numbers from n on.
func folded(caps engine.Caps, n int64) [3]uint32 {
	y := (n + int64(caps.MaxGroups[0]) - 1) / int64(caps.MaxGroups[0])
	return [3]uint32{uint32((n + y - 1) / y), uint32(y), 1}
}

// quadAligned tells whether tensors may be read and written four elements at a time from their first element on.
func quadAligned(tensors ...engine.Tensor) bool {
	for _, t := range tensors {
		if !t.IsZero() && (t.Mem.Offset+t.Offset)%(4*t.DType.Size()) != 0 {
			return false
		}
	}
	return true
}

// floats tells whether all tensors are there and hold floats.
func floats(tensors ...engine.Tensor) bool {
	for _, t := range tensors {
		if t.IsZero() || !t.DType.IsFloat() {
			return false
		}
	}
	return true
}

// vectorOf tells whether t is left out or holds exactly n floats.
func vectorOf(t engine.Tensor, n int) bool {
	return t.IsZero() || t.DType.IsFloat() && t.Elems() == int64(n)
}

// rowLanes returns how many of a workgroup's 128 invocations work on one row of so many items: a power of two.
func rowLanes(items int) uint32 {
	lanes := uint32(4)
	for lanes < 128 && int(lanes) < items {
		lanes *= 2
	}
	return lanes
}

// elementsPerGroup is the number of invocations of a workgroup of the element-by-element shaders.
const elementsPerGroup = 128
