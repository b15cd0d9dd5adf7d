// Package timeline draws what ran when: as an SVG picture for people, and as a trace that Chrome (about:tracing) and Perfetto
// open.
//
// Times are ns on one clock, whichever it is. A Row is something that does one thing at a time, a queue or the host; its
// intervals are in order and do not overlap.
package timeline

import (
	"fmt"
	"sort"
)

// Kind says what an interval is, which decides its colour.
type Kind int

// Kinds of intervals.
const (
	Compute   Kind = iota // the compute queue works with a block
	Stall                 // it has nothing to do because a copy is not over
	Copy                  // a block crosses the bus
	Stage                 // a part of the program's work, on the host's clock
	Attention             // kernels by what they do
	Matmul
	Other
)

// Interval is a stretch of time.
type Interval struct {
	Label      string
	Kind       Kind
	Start, End float64 // ns
}

// Row is a line of the picture.
type Row struct {
	Name      string
	Intervals []Interval
}

// Check returns an error when intervals of the row overlap, are out of order or end before they begin.
func (r Row) Check() error {
	for k, i := range r.Intervals {
		if i.End < i.Start {
			return fmt.Errorf("row %q: %q ends at %g before it begins at %g", r.Name, i.Label, i.End, i.Start)
		}
		if k > 0 && i.Start < r.Intervals[k-1].End {
			return fmt.Errorf("row %q: %q begins at %g, before %q ends at %g", r.Name, i.Label, i.Start, r.Intervals[k-1].Label, r.Intervals[k-1].End)
		}
	}
	return nil
}

// Sort puts intervals in order and cuts off what overlaps by rounding: each ends at the latest where the next begins.
func (r Row) Sort() Row {
	list := append([]Interval(nil), r.Intervals...)
	sort.SliceStable(list, func(i, j int) bool { return list[i].Start < list[j].Start })
	for k := 1; k < len(list); k++ {
		list[k-1].End = min(list[k-1].End, list[k].Start)
	}
	return Row{Name: r.Name, Intervals: list}
}

// Bounds returns the first start and the last end of some rows; ok is false when they are empty.
func Bounds(rows []Row) (from, to float64, ok bool) {
	for _, r := range rows {
		for _, i := range r.Intervals {
			if !ok {
				from, to, ok = i.Start, i.End, true
			}
			from, to = min(from, i.Start), max(to, i.End)
		}
	}
	return from, to, ok
}

// Panel is a stretch of time, drawn over the whole width.
type Panel struct {
	Title    string
	From, To float64 // ns
	Rows     []Row
}

// Chart is a picture: panels one below the other, each with an axis of its own.
type Chart struct {
	Title  string
	Notes  []string // lines below the title
	Panels []Panel
}
