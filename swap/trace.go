package swap

import (
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/timeline"
)

// Trace is what ran when: spans on one clock, the device's.
type Trace struct {
	Host              []engine.Span // parts of the program's work, such as stages or passes
	Compute, Transfer []engine.Span // of the two queues
}

// Empty says whether nothing of a queue was measured.
func (t Trace) Empty() bool { return len(t.Compute) == 0 && len(t.Transfer) == 0 }

// Names of the rows.
const (
	rowHost    = "program"
	rowCompute = "compute queue"
	rowKernels = "kernels"
	rowCopies  = "copy queue"
)

// Rows returns the trace as rows of a timeline: the program's parts, the blocks and stalls of the compute queue, its single
// kernels where they were measured, and the copies.
func (t Trace) Rows() []timeline.Row {
	x := IntervalsOf(t.Compute, t.Transfer)
	var rows []timeline.Row
	for _, r := range []timeline.Row{t.hostRow(), x.computeRow(), t.kernelRow(), x.copyRow()} {
		if len(r.Intervals) > 0 {
			rows = append(rows, r.Sort())
		}
	}
	return rows
}

func (t Trace) hostRow() timeline.Row {
	r := timeline.Row{Name: rowHost}
	for _, s := range t.Host {
		r.Intervals = append(r.Intervals, timeline.Interval{Label: s.Label, Kind: timeline.Stage, Start: s.Start, End: s.End})
	}
	return r
}

func (x Intervals) computeRow() timeline.Row {
	r := timeline.Row{Name: rowCompute}
	for _, u := range x.Uses {
		if u.Stall > 0 {
			ready := u.Begin - u.Gap
			r.Intervals = append(r.Intervals, timeline.Interval{Label: fmt.Sprintf("waits for block %d", u.Block), Kind: timeline.Stall, Start: ready - u.Stall, End: ready})
		}
		r.Intervals = append(r.Intervals, timeline.Interval{Label: fmt.Sprintf("block %d", u.Block), Kind: timeline.Compute, Start: u.Begin, End: u.End})
	}
	return r
}

func (x Intervals) copyRow() timeline.Row {
	r := timeline.Row{Name: rowCopies}
	for _, c := range x.Copies {
		r.Intervals = append(r.Intervals, timeline.Interval{Label: fmt.Sprintf("copy %d", c.Block), Kind: timeline.Copy, Start: c.Begin, End: c.End})
	}
	return r
}

func (t Trace) kernelRow() timeline.Row {
	r := timeline.Row{Name: rowKernels}
	for _, s := range t.Compute {
		if _, _, ok := mark(s.Label, "block"); ok || s.End <= s.Start {
			continue
		}
		kind := timeline.Other
		switch {
		case strings.HasPrefix(s.Label, "attention"):
			kind = timeline.Attention
		case strings.HasPrefix(s.Label, "matmul"):
			kind = timeline.Matmul
		}
		r.Intervals = append(r.Intervals, timeline.Interval{Label: s.Label, Kind: kind, Start: s.Start, End: s.End})
	}
	return r
}

// detailBlocks is how many blocks the detailed panel shows.
const detailBlocks = 6

// Chart draws the whole run, its last pass, and a few blocks of that pass: those around its longest stall, or its middle.
func (t Trace) Chart(title string, notes ...string) timeline.Chart {
	c := timeline.Chart{Title: title, Notes: notes}
	rows := t.Rows()
	from, to, ok := timeline.Bounds(rows)
	if !ok {
		return c
	}
	uses := lastPass(IntervalsOf(t.Compute, t.Transfer).Uses)
	coarse := without(rows, rowKernels)
	if len(t.Host) > 1 || len(uses) == 0 {
		c.Panels = append(c.Panels, timeline.Panel{Title: "the whole run", From: from, To: to, Rows: coarse})
	}
	if len(uses) == 0 {
		return c
	}
	blocks := without(coarse, rowHost)
	first := uses[0].Begin - uses[0].Stall // a gap before the first block belongs to the pass before
	if len(uses) <= detailBlocks {
		blocks = without(rows, rowHost)
	}
	c.Panels = append(c.Panels, timeline.Panel{Title: fmt.Sprintf("the last pass: %d blocks", len(uses)), From: first, To: uses[len(uses)-1].End, Rows: blocks})
	if len(uses) > detailBlocks {
		few := detail(uses)
		title := fmt.Sprintf("blocks %d to %d of that pass", few[0].Block, few[len(few)-1].Block)
		c.Panels = append(c.Panels, timeline.Panel{Title: title, From: begun(few[0]), To: few[len(few)-1].End, Rows: without(rows, rowHost)})
	}
	return c
}

// begun is when the queue was ready for a use.
func begun(u Use) float64 { return u.Begin - u.Gap - u.Stall }

func without(rows []timeline.Row, name string) (out []timeline.Row) {
	for _, r := range rows {
		if r.Name != name {
			out = append(out, r)
		}
	}
	return out
}

// lastPass returns the uses from the last time that block numbers began anew.
func lastPass(uses []Use) []Use {
	start := 0
	for k := range uses {
		if k > 0 && uses[k].Block <= uses[k-1].Block {
			start = k
		}
	}
	return uses[start:]
}

// detail chooses the blocks to show large.
func detail(uses []Use) []Use {
	at, longest := len(uses)/2, 0.0
	for k, u := range uses[1:] { // what the first one waited for has to do with the pass before
		if u.Stall > longest {
			at, longest = k+1, u.Stall
		}
	}
	from := max(0, min(at-detailBlocks/2, len(uses)-detailBlocks))
	return uses[from : from+detailBlocks]
}
