package doctor

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// slowDriver is a driver that takes its time, on a clock of its own: each probe compiles and measures for so long.
type slowDriver struct {
	time               time.Time
	limit              time.Duration            // what the next probe is given
	compile, measure   map[string]time.Duration // by probe; "" for all others
	calls              []string
	measures, deadline map[string]time.Duration // what each probe was given
}

func (s *slowDriver) now() time.Time { return s.time }

// timeout notes the limit, which is one of the driver's clock and not of this machine's.
func (s *slowDriver) timeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	s.limit = d
	return context.WithCancel(ctx)
}

func of(times map[string]time.Duration, probe string) time.Duration {
	if t, ok := times[probe]; ok {
		return t
	}
	return times[""]
}

// start behaves as a process does: one that has not ended when its time is over is killed, and has told what it found.
func (s *slowDriver) start(_ context.Context, probe string, measure time.Duration, _ []string) (Findings, error) {
	s.calls = append(s.calls, probe)
	limit := s.limit
	if s.measures == nil {
		s.measures, s.deadline = map[string]time.Duration{}, map[string]time.Duration{}
	}
	s.measures[probe], s.deadline[probe] = measure, limit
	compile, took := of(s.compile, probe), of(s.measure, probe)
	r := Result{Name: probe, Title: title(probe), Status: OK, Summary: "fine", Compiling: compile}
	f := Findings{Results: []Result{r}}
	if probe == probeDevice {
		f.Tiers, f.Header = []string{"base", "matrix2"}, &Report{Device: "slow", Tier: "matrix2"}
	}
	if compile+took > limit {
		s.time = s.time.Add(limit)
		r.Compiling, r.Summary, r.Kernels = 0, "1 kernel agrees", []Kernel{{Kernel: linearLayer, Pass: true}}
		return Findings{Results: []Result{r}}, &CrashError{Probe: probe, How: "killed"}
	}
	s.time = s.time.Add(compile + took)
	return f, nil
}

func (s *slowDriver) examine(t *testing.T, o Options) *Report {
	t.Helper()
	s.time = time.Unix(1e9, 0)
	o.now, o.timeout, o.Start = s.now, s.timeout, s.start
	r, err := Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A driver that has never seen the kernels took all of the ten seconds of a quick examination to compile them: no kernel, copy
// or dispatch was examined.
func TestCompilingTakesNoTimeFromMeasuring(t *testing.T) {
	s := &slowDriver{measure: map[string]time.Duration{"": time.Second / 2}, compile: map[string]time.Duration{kernelProbe + "matrix2": 14 * time.Second, probeCopies: 2 * time.Second}}
	r := s.examine(t, Options{Quick: true})
	if got, want := strings.Join(s.calls, " "), "device layers pinned copies kernels-matrix2 norms dispatch"; got != want {
		t.Errorf("probes %s, want %s", got, want)
	}
	if r.Count(OK) != 7 || r.Compiling != 16*time.Second || r.Took != 19500*time.Millisecond {
		t.Errorf("%d ok, compiling %v of %v: %+v", r.Count(OK), r.Compiling, r.Took, r.Results)
	}
	for probe, d := range s.measures {
		if d < quickReserve || d > quickMeasure {
			t.Errorf("%s may measure for %v", probe, d)
		}
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "took 19.50 s, 16.00 s of them to compile kernels") {
		t.Errorf("%v:\n%s", err, text.String())
	}
}

func TestMeasuringIsBounded(t *testing.T) {
	s := &slowDriver{measure: map[string]time.Duration{"": time.Second / 10, probeCopies: 20 * time.Second}}
	r := s.examine(t, Options{Quick: true})
	if got := strings.Join(s.calls, " "); got != "device layers pinned copies" {
		t.Errorf("probes %s", got)
	}
	last := r.Results[len(r.Results)-1]
	if r.Count(NotAvailable) != 3 || last.Summary != "skipped: the 9.00 s of measuring of a quick examination are used up" {
		t.Errorf("%+v", r.Results)
	}
}

func TestTheWholeIsBoundedAndSaysWhatWasSkipped(t *testing.T) {
	s := &slowDriver{measure: map[string]time.Duration{"": time.Second / 2}, compile: map[string]time.Duration{kernelProbe + "matrix2": time.Hour, probeCopies: 5 * time.Second}}
	r := s.examine(t, Options{Quick: true})
	if r.Took > quickWhole+time.Second {
		t.Errorf("it took %v", r.Took)
	}
	if r.Count(OK) != 5 || r.Count(NotAvailable) != 2 || r.Count(Failed) != 0 {
		t.Errorf("%+v", r.Results)
	}
	kernels, last := r.Results[4], r.Results[6]
	if len(kernels.Kernels) != 1 || !strings.HasPrefix(kernels.Summary, "1 kernel agrees; ended after 33") {
		t.Errorf("what the kernels' probe had found is %+v", kernels)
	}
	if last.Summary != "skipped: the 40.00 s that a quick examination takes at most are over, 5.00 s of them went into compiling kernels" {
		t.Errorf("%q", last.Summary)
	}
}

func TestAWholeExaminationHasNoLimitButThatOfEachProbe(t *testing.T) {
	s := &slowDriver{measure: map[string]time.Duration{"": time.Second}, compile: map[string]time.Duration{"": 3 * time.Minute}}
	if r := s.examine(t, Options{}); r.Count(OK) != 8 {
		t.Errorf("%+v", r.Results)
	}
	for probe, d := range s.measures {
		if d != probeMeasure || s.deadline[probe] != probeWhole {
			t.Errorf("%s may measure for %v and take %v", probe, d, s.deadline[probe])
		}
	}
}

// TestKernelsOfASlowCompiler has a device whose pipelines take long: what there was time for is told as it is found, and the
// rest named.
func TestKernelsOfASlowCompiler(t *testing.T) {
	o := strict()
	o.Engine.Limits.SlowCompile = 300 * time.Millisecond
	o.Measure = time.Nanosecond // nothing is left after the first
	var told []Findings
	o.Partial = func(f Findings) { told = append(told, f) }
	r := run(t, kernelProbe+"base", o).Results[0]
	if len(r.Kernels) != 0 || len(r.Skipped) != 4 || r.Status != NotAvailable || len(told) != 0 {
		t.Errorf("nothing may be measured: %+v, told %d times", r, len(told))
	}
	o.Measure = time.Hour
	r = run(t, kernelProbe+"base", o).Results[0]
	if len(r.Kernels) != 4 || r.Compiling < 300*time.Millisecond || r.Status != OK {
		t.Errorf("%+v", r)
	}
	if len(told) != 4 || len(told[0].Results[0].Kernels) != 1 || told[0].Results[0].Title == "" || told[0].Results[0].Status != OK {
		t.Errorf("told %d times: %+v", len(told), told)
	}
}

// timedOut is a context whose deadline is over when a test says so.
type timedOut struct {
	context.Context
	done chan struct{}
	end  sync.Once
}

func (c *timedOut) Done() <-chan struct{} { return c.done }

func (c *timedOut) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestAProbeEndsWithItsTime(t *testing.T) {
	o := strict()
	for _, probe := range []string{kernelProbe + "base", probeDispatch} {
		ctx := &timedOut{Context: t.Context(), done: make(chan struct{})}
		o.Engine.Limits.Compiling = func(int) { ctx.end.Do(func() { close(ctx.done) }) }
		f, err := Run(ctx, probe, o)
		if err != nil || len(f.Results) != 1 || f.Results[0].Status != NotAvailable || len(f.Results[0].Skipped) == 0 {
			t.Errorf("%s: %v, %+v", probe, err, f.Results)
		}
	}
}

func TestAnInterruptedExaminationKeepsWhatItFound(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Engine: engine.Options{}, Start: func(_ context.Context, probe string, _ time.Duration, _ []string) (Findings, error) {
		f := Findings{Results: []Result{{Name: probe, Title: title(probe), Status: OK, Summary: "fine"}}}
		switch probe {
		case probeDevice:
			f.Tiers, f.Header = []string{"base"}, &Report{Tier: "base"}
		case probeCopies:
			cancel()
			return f, &CrashError{Probe: probe, How: "killed"}
		}
		return f, nil
	}}
	r, err := Examine(ctx, o)
	if err == nil || r.Count(OK) != 4 || r.Count(NotAvailable) != 3 || r.Results[6].Summary != "interrupted" {
		t.Errorf("%v: %+v", err, r.Results)
	}
}
