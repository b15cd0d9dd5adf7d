package swap

import (
	"fmt"
	"strings"
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
	// Compute is the time inside blocks, Copying that of copies, TransferIdle that between copies.
	Compute      time.Duration `json:"compute_ns"`
	Copying      time.Duration `json:"copying_ns"`
	TransferIdle time.Duration `json:"transfer_idle_ns"`
}

// Stalls works out, from the spans of the compute and of the transfer stream, how long the one waited for the other.
// The spans must be on one clock and each list in the order of its queue. Marks named "block I begin" and "block I end"
// frame the use of block I on the compute stream, "copy I begin" and "copy I end" its copy on the transfer stream; other
// spans count as work.
//
// A use stalled for as long as its copy was still running after the compute queue had finished what came before; waiting
// that is longer than the copy has other reasons (submission, the host) and is not counted. What came before the first
// use of all is not known, so it never counts as stalled.
func Stalls(compute, transfer []engine.Span) Timing {
	copies, t := copiesOf(transfer)
	begun := map[int]float64{}
	idleSince, known := 0.0, false // when the compute queue had finished all before
	for _, s := range compute {
		block, event, ok := mark(s.Label, "block")
		switch {
		case ok && event == "begin":
			begun[block] = s.Start
			t.Blocks++
			if wait := copies.wait(block, idleSince, s.Start); known && wait > 0 {
				t.Stalled++
				t.Stall += wait
				t.Longest = max(t.Longest, wait)
			}
		case ok && event == "end":
			if begin, open := begun[block]; open {
				t.Compute += nanoseconds(s.End - begin)
				delete(begun, block)
			}
		}
		if !known || s.End > idleSince {
			idleSince, known = s.End, true
		}
	}
	return t
}

// copySpan is one copy on the device's clock, in ns.
type copySpan struct{ begin, end float64 }

// copyTimes are the copies of each block, in order.
type copyTimes map[int][]copySpan

func copiesOf(transfer []engine.Span) (copyTimes, Timing) {
	var t Timing
	copies := copyTimes{}
	begun := map[int]float64{}
	last, known := 0.0, false
	for _, s := range transfer {
		block, event, ok := mark(s.Label, "copy")
		if !ok {
			continue
		}
		if event == "begin" {
			begun[block] = s.Start
			if known && s.Start > last {
				t.TransferIdle += nanoseconds(s.Start - last)
			}
			continue
		}
		begin, open := begun[block]
		if !open {
			continue
		}
		delete(begun, block)
		copies[block] = append(copies[block], copySpan{begin, s.End})
		t.Copies++
		t.Copying += nanoseconds(s.End - begin)
		last, known = s.End, true
	}
	return copies, t
}

// wait returns how long a use that began at a time waited for its copy after the queue had nothing else to do.
func (c copyTimes) wait(block int, idleSince, begin float64) time.Duration {
	// The copy for this use is the last that was over when it began: the next one of the same block comes after it.
	end, found := 0.0, false
	for _, s := range c[block] {
		if s.end <= begin {
			end, found = s.end, true
		}
	}
	if !found || end <= idleSince {
		return 0
	}
	return nanoseconds(end - idleSince)
}

// mark reads "KIND NUMBER EVENT", where the event is begin or end.
func mark(label, kind string) (number int, event string, ok bool) {
	rest, ok := strings.CutPrefix(label, kind+" ")
	if !ok {
		return 0, "", false
	}
	if n, err := fmt.Sscanf(rest, "%d %s", &number, &event); n != 2 || err != nil || event != "begin" && event != "end" {
		return 0, "", false
	}
	return number, event, true
}

func nanoseconds(ns float64) time.Duration { return time.Duration(ns) }
