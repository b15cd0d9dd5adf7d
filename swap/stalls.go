package swap

import (
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Timing is what the marks on the two streams say about how copies and compute lay beside each other.
type Timing struct {
	Blocks  int `json:"blocks"`  // uses of a block that were measured
	Copies  int `json:"copies"`  // copies that were measured
	Stalled int `json:"stalled"` // uses that waited for their copy
	// Stall is the time in which the compute queue had nothing to do because a block's copy was not over, Longest the
	// most of it before one block.
	Stall   time.Duration `json:"stall_ns"`
	Longest time.Duration `json:"longest_stall_ns"`
	// Gap is the time between the blocks of a pass in which the compute queue had nothing to do for other reasons.
	Gap time.Duration `json:"gap_ns"`
	// Compute is the time inside blocks, Copying that of copies, TransferIdle that between copies.
	Compute      time.Duration `json:"compute_ns"`
	Copying      time.Duration `json:"copying_ns"`
	TransferIdle time.Duration `json:"transfer_idle_ns"`
}

// Stalls works out, from the spans of the compute and of the transfer stream, how long the one waited for the other; see
// IntervalsOf.
//
// A use stalled for as long as its copy was still running after the compute queue had finished what came before; waiting
// that is longer than the copy has other reasons (submission, the host) and is not counted. What came before the first
// use of all is not known, so it never counts as stalled.
func Stalls(compute, transfer []engine.Span) Timing { return IntervalsOf(compute, transfer).Timing() }

func nanoseconds(ns float64) time.Duration { return time.Duration(ns) }
