package swap

import (
	"fmt"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Intervals are the uses and the copies of blocks as the marks on two streams tell them, each in the order of its queue.
// Times are ns on the device's clock.
type Intervals struct {
	Uses   []Use
	Copies []Copy
}

// Use is the time in which the compute queue worked with a block.
type Use struct {
	Block      int
	Begin, End float64
	// Stall is the time before Begin in which the queue had nothing to do because the block's copy was not over, Gap the time
	// since the use before in which it had nothing to do for other reasons (submission, the host). Both 0 in the first use.
	Stall, Gap float64
}

// Copy is the time in which the transfer queue copied a block.
type Copy struct {
	Block      int
	Begin, End float64
}

// IntervalsOf reads the spans of the compute and of the transfer stream, which must be on one clock and each in the order of
// its queue. Marks named "block I begin" and "block I end" frame the use of block I on the compute stream, "copy I begin"
// and "copy I end" its copy on the transfer stream; other spans count as work.
func IntervalsOf(compute, transfer []engine.Span) Intervals {
	x := Intervals{Copies: copiesOf(transfer)}
	ends := endsByBlock(x.Copies)
	open := map[int]Use{}
	idleSince, known := 0.0, false // when the compute queue had finished all before
	for _, s := range compute {
		block, event, ok := mark(s.Label, "block")
		switch {
		case ok && event == "begin":
			u := Use{Block: block, Begin: s.Start}
			if known {
				u.Stall = ends.wait(block, idleSince, s.Start)
				u.Gap = max(0, s.Start-idleSince-u.Stall)
			}
			open[block] = u
		case ok && event == "end":
			if u, begun := open[block]; begun {
				u.End = s.End
				x.Uses = append(x.Uses, u)
				delete(open, block)
			}
		}
		if !known || s.End > idleSince {
			idleSince, known = s.End, true
		}
	}
	return x
}

func copiesOf(transfer []engine.Span) (copies []Copy) {
	begun := map[int]float64{}
	for _, s := range transfer {
		block, event, ok := mark(s.Label, "copy")
		if !ok {
			continue
		}
		if event == "begin" {
			begun[block] = s.Start
			continue
		}
		if begin, open := begun[block]; open {
			copies = append(copies, Copy{block, begin, s.End})
			delete(begun, block)
		}
	}
	return copies
}

// copyEnds are the ends of the copies of each block, in order.
type copyEnds map[int][]float64

func endsByBlock(copies []Copy) copyEnds {
	ends := copyEnds{}
	for _, c := range copies {
		ends[c.Block] = append(ends[c.Block], c.End)
	}
	return ends
}

// wait returns how long a use that began at a time waited for its copy after the queue had nothing else to do: waiting that
// is longer than the copy has other reasons.
func (e copyEnds) wait(block int, idleSince, begin float64) float64 {
	// The copy for this use is the last that was over when it began: the next one of the same block comes after it.
	end, found := 0.0, false
	for _, at := range e[block] {
		if at <= begin {
			end, found = at, true
		}
	}
	if !found || end <= idleSince {
		return 0
	}
	return end - idleSince
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

// Since leaves out what was over before a time.
func (x Intervals) Since(ns float64) (out Intervals) {
	for _, u := range x.Uses {
		if u.End > ns {
			out.Uses = append(out.Uses, u)
		}
	}
	for _, c := range x.Copies {
		if c.End > ns {
			out.Copies = append(out.Copies, c)
		}
	}
	return out
}

// Timing adds the intervals up.
func (x Intervals) Timing() Timing {
	t := Timing{Blocks: len(x.Uses), Copies: len(x.Copies)}
	for k, u := range x.Uses {
		t.Compute += nanoseconds(u.End - u.Begin)
		if u.Stall > 0 {
			t.Stalled++
			t.Stall += nanoseconds(u.Stall)
			t.Longest = max(t.Longest, nanoseconds(u.Stall))
		}
		if k > 0 && u.Block > x.Uses[k-1].Block { // between passes the host has its turn
			t.Gap += nanoseconds(u.Gap)
		}
	}
	for k, c := range x.Copies {
		t.Copying += nanoseconds(c.End - c.Begin)
		if k > 0 && c.Begin > x.Copies[k-1].End {
			t.TransferIdle += nanoseconds(c.Begin - x.Copies[k-1].End)
		}
	}
	return t
}

// Disorder counts what cannot be: uses that began before a copy of their block was over, and copies that began before the
// block in their slot had been used, both by more than a tolerance. On a device whose queues share one clock there are none;
// where there are some, the queues' clocks differ, and what compares them (stalls, idle times) means nothing.
func (x Intervals) Disorder(p Plan, tolerance time.Duration) (n int) {
	if len(p.Streamed) == 0 {
		return 0
	}
	streamed := make([]Use, 0, len(x.Uses))
	for _, u := range x.Uses {
		if p.Home[u.Block] < 0 {
			streamed = append(streamed, u)
		}
	}
	slack := float64(tolerance)
	for k, u := range streamed {
		if k < len(x.Copies) && x.Copies[k].Block == u.Block && x.Copies[k].End > u.Begin+slack {
			n++
		}
		if next := k + p.Stream; next < len(x.Copies) && x.Copies[next].Begin < u.End-slack {
			n++
		}
	}
	return n
}
