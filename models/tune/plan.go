package tune

import (
	"fmt"
	"sort"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// found is an operation that a pass asks for.
type found struct {
	key   string // kernel and shape
	cost  float64
	ways  int
	calls int // in a pass of one block
}

// lister notes the operations of a pass, and lets the kernels of all their ways be compiled.
type lister struct {
	found     []found
	compiling []*engine.Compiling
}

// list runs passes by default and returns at how many operations a second a pass computes.
func (l *lister) list(e *explorer) (rate float64, err error) {
	at := map[string]int{}
	r, err := e.pass(2, func(s *engine.Stream, o engine.Operation) {
		key := o.Kernel + " " + o.Shape
		if n, known := at[key]; known {
			l.found[n].calls++
			return
		}
		at[key] = len(l.found)
		l.found = append(l.found, found{key: key, cost: o.Cost, ways: len(o.Ways), calls: 1})
		e.device.Tuning().Drop(o.Kernel, o.Shape)
		if o.Cost < e.o.least() {
			return
		}
		l.compiling = append(l.compiling, e.device.Compile(e.ctx, func(s *engine.Stream) {
			for _, w := range o.Ways {
				o.Record(s, w.Name)
			}
		}))
	}, nil)
	if err != nil {
		return 0, err
	}
	last := r.Passes[len(r.Passes)-1]
	took := last.DeviceTime
	if took <= 0 {
		took = last.Time
	}
	return r.Work.Total() / max(took.Seconds(), 1e-9), nil
}

// plan is what will be measured, and what that will take.
type plan struct {
	chosen  map[string]time.Duration
	total   time.Duration
	skipped int
}

// left is how many operations are left out.
func (p *plan) left() int { return p.skipped }

// Of the ways of an operation most take longer than its default, and each is measured several times; a submit with its wait
// takes about a millisecond.
const (
	slowerWays = 1.5
	perRun     = time.Millisecond
)

// makePlan takes the operations in which most time goes, as many as fit the limit; one at least.
func makePlan(all []found, rate float64, o Options) *plan {
	limit := o.Limit
	if limit == 0 {
		limit = DefaultLimit
		if o.Quick {
			limit = QuickLimit
		}
	}
	sorted := append([]found{}, all...)
	sort.SliceStable(sorted, func(i, j int) bool {
		return sorted[i].cost*float64(sorted[i].calls) > sorted[j].cost*float64(sorted[j].calls)
	})
	p := &plan{chosen: map[string]time.Duration{}}
	for _, f := range sorted {
		if f.cost < o.least() {
			continue
		}
		once := time.Duration(f.cost/max(rate, 1)*slowerWays*1e9) + perRun
		takes := time.Duration((f.ways+2)*(o.runs()+1)) * once
		if len(p.chosen) > 0 && p.total+takes > limit {
			p.skipped++
			continue
		}
		p.chosen[f.key] = takes
		p.total += takes
	}
	return p
}

// String says what will be done.
func (p *plan) String() string {
	text := fmt.Sprintf("%d operations, about %v", len(p.chosen), p.total.Round(time.Second))
	if p.skipped > 0 {
		text += fmt.Sprintf(" (%d more would pass the limit)", p.skipped)
	}
	return text
}

// least is how many operations a call must have to be measured.
func (o Options) least() float64 {
	if o.Quick {
		return quickCost
	}
	return leastCost
}

func (o Options) runs() int {
	if o.Quick {
		return quickRuns
	}
	return runs
}
