package tune

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// How often and how long ways are measured.
const (
	runs       = 5
	quickRuns  = 2
	hopeless   = 1.3  // times the best so far: a way that takes longer is measured once
	worthwhile = 0.98 // of the default's time: less gain than that is noise
	leastCost  = 1e7  // operations of what is measured at all
	quickCost  = 1e10 // the same for a quick run
)

// explorer measures operations as they come, each shape once.
type explorer struct {
	ctx     context.Context
	o       Options
	device  *engine.Device
	plan    *plan // nil: everything is measured
	started time.Time
	done    time.Duration // of the plan
	seen    map[string]bool
	report  *Report
	err     error
}

// explore is an engine.Explorer.
func (e *explorer) explore(s *engine.Stream, o engine.Operation) {
	key := o.Kernel + " " + o.Shape
	if e.err != nil || e.seen[key] || o.Cost < e.o.least() || !e.planned(key) {
		return
	}
	if e.o.Progress != nil {
		e.o.Progress(e.progress(o))
	}
	e.device.Tuning().Drop(o.Kernel, o.Shape)
	r, err := e.measure(s, o)
	if err != nil {
		e.err = fmt.Errorf("%s %s: %w", o.Kernel, o.Shape, err)
		s.Fail(e.err) // so that the pass ends
		e.report.Left = e.remaining()
		return
	}
	e.seen[key] = true
	if e.plan != nil {
		e.done += e.plan.chosen[key]
	}
	e.report.Results = append(e.report.Results, r)
	if r.Choice == o.Default {
		return
	}
	for _, w := range o.Ways {
		if w.Name == r.Choice {
			e.device.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Shader: w.Shader, Choice: w.Name, Seconds: r.Of(w.Name).Seconds, Default: r.Of(o.Default).Seconds})
		}
	}
}

func (e *explorer) planned(key string) bool {
	if e.plan == nil {
		return true
	}
	_, ok := e.plan.chosen[key]
	return ok
}

// remaining is how many operations are not measured yet.
func (e *explorer) remaining() int {
	if e.plan == nil {
		return 0
	}
	return len(e.plan.chosen) - len(e.seen) + e.plan.skipped
}

// progress says how far measuring is. The time left follows from what the operations so far took, by what was planned for
// them.
func (e *explorer) progress(o engine.Operation) Progress {
	p := Progress{What: o.Kernel + " " + o.Shape, Done: len(e.report.Results)}
	if e.plan == nil {
		return p
	}
	p.Total, p.Left = len(e.plan.chosen), e.plan.total-e.done
	if e.done > 0 {
		p.Left = time.Duration(float64(p.Left) * float64(time.Since(e.started)) / float64(e.done))
	}
	return p
}

// measure times every way and chooses one.
func (e *explorer) measure(s *engine.Stream, o engine.Operation) (Result, error) {
	r := Result{Kernel: o.Kernel, Shape: o.Shape, Cost: o.Cost, Default: o.Default, Choice: o.Default, Speedup: 1}
	best := ""
	for _, way := range o.Ways {
		m, err := e.time(s, o, way.Name, r.Of(best).Seconds)
		if err != nil {
			return r, err
		}
		r.Ways = append(r.Ways, m)
		if best == "" || m.Seconds < r.Of(best).Seconds {
			best = way.Name
		}
	}
	if best == o.Default || r.Of(o.Default).Seconds == 0 {
		return r, nil
	}
	// The clock may have risen or fallen since the default was measured: measure both again, in turn.
	was, is := []float64{}, []float64{}
	for range e.o.runs() {
		for _, side := range []struct {
			way   string
			times *[]float64
		}{{o.Default, &was}, {best, &is}} {
			t, err := e.once(s, o, side.way)
			if err != nil {
				return r, err
			}
			*side.times = append(*side.times, t)
		}
	}
	before, after := median(was), median(is)
	for n := range r.Ways {
		switch r.Ways[n].Way {
		case o.Default:
			r.Ways[n].set(o.Cost, before)
		case best:
			r.Ways[n].set(o.Cost, after)
		}
	}
	if after < worthwhile*before {
		r.Choice, r.Speedup = best, before/after
	}
	return r, nil
}

// time measures a way: once to warm up, then several times, fewer where it is far behind the best.
func (e *explorer) time(s *engine.Stream, o engine.Operation, way string, best float64) (Measure, error) {
	m := Measure{Way: way}
	var times []float64
	for n := range e.o.runs() + 1 {
		t, err := e.once(s, o, way)
		if err != nil {
			return m, err
		}
		far := best > 0 && (t > hopeless*best && n == 1 || t > 2*hopeless*best && !e.compilesLate())
		if n > 0 || far {
			times = append(times, t)
		}
		if far {
			m.Stopped = true
			break
		}
	}
	m.set(o.Cost, median(times))
	return m, nil
}

// compilesLate tells whether the driver compiles with the first dispatch, as those for the CPU do.
func (e *explorer) compilesLate() bool { return e.device.Summary.Physical.Info.Kind == "cpu" }

func (m *Measure) set(cost, seconds float64) {
	m.Seconds = seconds
	m.TFLOPS = cost / max(seconds, 1e-12) / 1e12
}

// once records the operation alone and returns its seconds on the device's clock.
func (e *explorer) once(s *engine.Stream, o engine.Operation, way string) (float64, error) {
	if err := s.Finish(e.ctx); err != nil {
		return 0, err
	}
	s.TakeSpans()
	o.Record(s, way)
	if err := s.Finish(e.ctx); err != nil {
		return 0, err
	}
	spans := s.TakeSpans()
	if len(spans) == 0 {
		return 0, fmt.Errorf("the device's compute queue has no timestamps, by which tuning measures")
	}
	first, last := spans[0].Start, spans[0].End
	for _, span := range spans {
		first, last = min(first, span.Start), max(last, span.End)
	}
	return (last - first) / 1e9, nil
}

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}
