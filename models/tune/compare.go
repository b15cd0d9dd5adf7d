package tune

import (
	"sort"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/bench"
)

// comparisons is how many passes are timed each way, after one that is not.
const comparisons = 3

// compare times passes by default and as chosen, in turn, so that a clock that rises or falls favours neither.
func (e *explorer) compare() error {
	var chosen []engine.Tuned
	for _, c := range e.device.Tuning().All() {
		if e.seen[c.Kernel+" "+c.Shape] { // others are of earlier runs, for other models
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	e.tell("timing passes by default and as chosen")
	tuned := func(n int) bool { return n%2 == 0 } // the pass that is not timed is number 0
	r, err := e.pass(1+2*comparisons, nil, func(done int) {
		for _, c := range chosen {
			if tuned(done) {
				e.device.Tuning().Set(c)
			} else {
				e.device.Tuning().Drop(c.Kernel, c.Shape)
			}
		}
	})
	for _, c := range chosen { // whatever came last
		e.device.Tuning().Set(c)
	}
	if err != nil {
		return err
	}
	blocks := max(1, e.o.Config.Model.DiT.NumVisualBlocks)
	var byDefault, asChosen []float64
	for n, t := range wholePasses(r, blocks) {
		switch {
		case n == 0:
		case tuned(n):
			asChosen = append(asChosen, t)
		default:
			byDefault = append(byDefault, t)
		}
	}
	if len(byDefault) > 0 && len(asChosen) > 0 {
		e.report.Pass = &PassGain{Blocks: blocks, Default: time.Duration(median(byDefault)), Tuned: time.Duration(median(asChosen))}
	}
	return nil
}

// wholePasses returns the nanoseconds that each pass takes with so many blocks: its own, and its block's so many times more.
func wholePasses(r *bench.Report, blocks int) (out []float64) {
	at := blockTimes(r.Trace.Compute)
	for n, p := range r.Passes {
		if n < len(at) && p.DeviceTime > 0 {
			out = append(out, float64(p.DeviceTime)+float64(blocks-1)*at[n])
		}
	}
	return out
}

// blockTimes returns the time between the marks around block 0, pass by pass.
func blockTimes(spans []engine.Span) (out []float64) {
	sorted := append([]engine.Span{}, spans...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Start < sorted[j].Start })
	begin := 0.0
	for _, s := range sorted {
		switch s.Label {
		case "block 0 begin":
			begin = s.End
		case "block 0 end":
			out = append(out, s.End-begin)
		}
	}
	return out
}
