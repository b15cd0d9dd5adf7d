package tune

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/synth"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// tiny is work that a software driver does in seconds.
func tiny(t *testing.T) Options {
	t.Helper()
	m, err := synth.Preset(synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() + "/model"
	if err := m.Write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	config, err := configs.Load(dir + "/i2v.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g, err := config.Geometry(1, configs.Size{Height: 96, Width: 96})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Config: config, Geometry: g}
}

func open(t *testing.T, dir string) *engine.Device {
	t.Helper()
	return enginetest.OpenWith(t, engine.Options{CacheDir: dir, Timings: true})
}

func TestRunMeasuresEveryShapeOnceAndKeepsWhatIsFaster(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	told := map[string]int{}
	o := tiny(t)
	o.Progress = func(p Progress) { told[p.What]++ }
	r, err := Run(t.Context(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Took <= 0 || r.Left != 0 || r.Compiled == 0 || r.Interrupted {
		t.Errorf("report %+v", r)
	}
	if chose := len(d.Tuning().All()) > 0; chose != (r.Pass != nil) {
		t.Errorf("something was chosen: %v, what a pass gains: %+v", chose, r.Pass)
	}
	if p := r.Pass; p != nil && (p.Blocks != o.Config.Model.DiT.NumVisualBlocks || p.Default <= 0 || p.Tuned <= 0) {
		t.Errorf("a pass gains %+v", p)
	}
	kernels := map[string]int{}
	for _, result := range r.Results {
		kernels[result.Kernel]++
		if told[result.Kernel+" "+result.Shape] != 1 {
			t.Errorf("%s %s was told %d times", result.Kernel, result.Shape, told[result.Kernel+" "+result.Shape])
		}
		checkResult(t, d, result)
	}
	if (kernels["matmul"] == 0 && d.Caps().Tier < engine.TierMatrix) || (kernels["attention"] == 0 && d.Caps().Tier != engine.TierMatrix) {
		t.Errorf("so many operations of each kernel were measured: %v", kernels)
	}
	again := open(t, dir)
	if got, want := again.Tuning().All(), d.Tuning().All(); !slices.Equal(got, want) {
		t.Errorf("the next device takes %+v, want %+v", got, want)
	}
	if _, err := os.Stat(r.File); err != nil {
		t.Error(err)
	}
	if o.Config.Model.DiT.NumVisualBlocks < 2 {
		t.Error("the configuration was changed")
	}
}

// checkResult holds that a result is consistent, and what is in force agrees with it.
func checkResult(t *testing.T, d *engine.Device, r Result) {
	t.Helper()
	names := map[string]Measure{}
	for _, m := range r.Ways {
		if names[m.Way] = m; m.Seconds <= 0 || m.TFLOPS <= 0 {
			t.Errorf("%s: %+v", r.Shape, m)
		}
	}
	if len(names) < 2 || names[r.Default].Way == "" || names[r.Choice].Way == "" {
		t.Errorf("%s: the default %s or the choice %s is not among %v", r.Shape, r.Default, r.Choice, r.Ways)
	}
	inForce := d.Tuning().Choice(r.Kernel, r.Shape)
	switch {
	case r.Choice == r.Default && (inForce != "" || r.Speedup != 1):
		t.Errorf("%s: the default is kept and %q is in force, %g times as fast", r.Shape, inForce, r.Speedup)
	case r.Choice != r.Default && (inForce != r.Choice || r.Speedup < 1/worthwhile):
		t.Errorf("%s: %s is chosen and %q is in force, %g times as fast", r.Shape, r.Choice, inForce, r.Speedup)
	}
}

// fill is an operation whose ways write different sizes, so that which is fastest is known.
func fill(t *testing.T, d *engine.Device, sizes map[string]int) engine.Operation {
	t.Helper()
	big := 0
	for _, n := range sizes {
		big = max(big, n)
	}
	x, err := d.Alloc("work", engine.F32, big)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(x) })
	o := engine.Operation{Kernel: "fill", Shape: "any", Cost: 1e12, Default: "middle"}
	for _, name := range []string{"slow", "middle", "fast"} {
		o.Ways = append(o.Ways, engine.Way{Name: name, Shader: shaders.Fill})
	}
	o.Record = func(s *engine.Stream, way string) {
		part := x.View(0, sizes[way])
		s.Time("fill", func() { s.Fill(part, 0) })
	}
	return o
}

func newExplorer(t *testing.T, d *engine.Device) *explorer {
	return &explorer{ctx: t.Context(), device: d, seen: map[string]bool{}, report: &Report{}}
}

func TestTheFastestWayIsChosenAndSlowOnesAreStopped(t *testing.T) {
	d := open(t, t.TempDir())
	e := newExplorer(t, d)
	o := fill(t, d, map[string]int{"slow": 64 << 20, "middle": 8 << 20, "fast": 64 << 10})
	o.Ways[0], o.Ways[2] = o.Ways[2], o.Ways[0] // the fast one first
	e.explore(d.Compute(), o)
	e.explore(d.Compute(), o)
	if e.err != nil || len(e.report.Results) != 1 {
		t.Fatalf("%v, %+v", e.err, e.report.Results)
	}
	r := e.report.Results[0]
	if r.Choice != "fast" || r.Speedup < 3 || d.Tuning().Choice("fill", "any") != "fast" {
		t.Errorf("%+v", r)
	}
	for _, m := range r.Ways {
		if m.Stopped != (m.Way != "fast") {
			t.Errorf("%s was stopped: %v", m.Way, m.Stopped)
		}
	}
	all := d.Tuning().All()
	if len(all) != 1 || all[0].Code == "" || all[0].Default <= all[0].Seconds {
		t.Errorf("in force is %+v", all)
	}
}

func TestTheDefaultStaysWhereNothingIsFaster(t *testing.T) {
	d := open(t, t.TempDir())
	d.Tuning().Set(engine.Tuned{Kernel: "fill", Shape: "any", Shader: shaders.Fill, Choice: "slow"}) // from an earlier measurement
	e := newExplorer(t, d)
	e.explore(d.Compute(), fill(t, d, map[string]int{"slow": 32 << 20, "middle": 64 << 10, "fast": 16 << 20}))
	if r := e.report.Results; len(r) != 1 || r[0].Choice != "middle" || r[0].Speedup != 1 {
		t.Errorf("%+v", r)
	}
	if all := d.Tuning().All(); len(all) != 0 {
		t.Errorf("in force is %+v", all)
	}
}

func TestSmallOperationsAreNotMeasuredQuickly(t *testing.T) {
	d := open(t, t.TempDir())
	e := newExplorer(t, d)
	e.o.Quick = true
	o := fill(t, d, map[string]int{"slow": 1 << 10, "middle": 1 << 10, "fast": 1 << 10})
	o.Cost = quickCost / 2
	e.explore(d.Compute(), o)
	if len(e.report.Results) != 0 {
		t.Errorf("%+v", e.report.Results)
	}
}

func TestAFailureEndsTheRunAndLeavesTheTuning(t *testing.T) {
	o := tiny(t)
	faulty := func(f *engine.Faults) *engine.Device {
		t.Helper()
		d, err := engine.Open(t.Context(), engine.Options{CacheDir: t.TempDir(), Timings: true, Faults: f})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	clean := &engine.Faults{}
	d := faulty(clean)
	if _, err := Run(t.Context(), d, o); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	lost := faulty(&engine.Faults{SubmitAt: clean.Submits() / 2})
	if _, err := Run(t.Context(), lost, o); err == nil || !strings.Contains(err.Error(), "device lost") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(lost.Tuning().File()); err == nil {
		t.Error("a run that failed left a file")
	}
	if err := lost.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnInterruptedRunKeepsWhatItMeasured(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	o := tiny(t)
	ctx, cancel := context.WithCancel(t.Context())
	total := 0
	o.Progress = func(p Progress) {
		if total = max(total, p.Total); p.Done == 1 {
			cancel()
		}
	}
	elsewhere := engine.Tuned{Kernel: "fill", Shape: "of another model", Shader: shaders.Fill, Choice: "slow"}
	d.Tuning().Set(elsewhere)
	r, err := Run(ctx, d, o)
	if total == 1 {
		t.Skip("one operation alone has several ways on this device: there is no moment between two")
	}
	if !errors.Is(err, context.Canceled) || r == nil || !r.Interrupted || len(r.Results) != 1 || r.Left != total-1 || r.Pass != nil {
		t.Fatalf("error %v, report %+v of %d operations", err, r, total)
	}
	checkResult(t, d, r.Results[0])
	kept := open(t, dir).Tuning().All()
	if !slices.Equal(kept, d.Tuning().All()) || !slices.ContainsFunc(kept, func(e engine.Tuned) bool { return e.Shape == elsewhere.Shape }) {
		t.Errorf("kept is %+v", kept)
	}
}

func TestARunThatIsCancelledBeforeItMeasuresChangesNothing(t *testing.T) {
	d := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	o := tiny(t)
	o.Progress = func(Progress) { cancel() }
	if r, err := Run(ctx, d, o); !errors.Is(err, context.Canceled) || len(r.Results) != 0 {
		t.Errorf("error %v, report %+v", err, r)
	}
	if _, err := os.Stat(d.Tuning().File()); err == nil {
		t.Error("it left a file")
	}
}

func TestThePlanTakesTheMostCostlyOperationsThatFit(t *testing.T) {
	all := []found{{"small", 1e6, 4, 1}, {"layer", 1e12, 5, 4}, {"attention", 4e13, 6, 1}, {"text", 1e9, 5, 1}}
	for _, c := range []struct {
		name    string
		o       Options
		rate    float64
		chosen  []string
		skipped int
	}{
		{"a fast card measures all of it", Options{}, 4e14, []string{"layer", "attention", "text"}, 0},
		{"quickly, only what is large", Options{Quick: true}, 4e14, []string{"layer", "attention"}, 0},
		{"a slow card measures the largest first, and what then fits", Options{Limit: 116 * time.Second}, 2.5e13, []string{"attention", "text"}, 1},
		{"a limit is a limit", Options{Limit: 10 * time.Second}, 4e14, []string{"layer", "attention", "text"}, 0},
		{"but for the first", Options{Limit: time.Nanosecond}, 4e14, []string{"attention"}, 2},
	} {
		p := makePlan(all, c.rate, c.o)
		for _, key := range c.chosen {
			if p.chosen[key] <= 0 {
				t.Errorf("%s: %s is left out", c.name, key)
			}
		}
		if len(p.chosen) != len(c.chosen) || p.skipped != c.skipped {
			t.Errorf("%s: %d chosen and %d left out", c.name, len(p.chosen), p.skipped)
		}
	}
	// 8 times 6 runs of 0.15 s, and 7 times 6 of 3.75 and of 1 ms.
	if p := makePlan(all, 4e14, Options{}); p.total < 7*time.Second || p.total > 8*time.Second || p.String() != "3 operations, about 7s" {
		t.Errorf("%v: %v", p.total, p)
	}
}

func TestProgressTellsTheTimeLeft(t *testing.T) {
	e := newExplorer(t, open(t, ""))
	e.plan = &plan{chosen: map[string]time.Duration{"a": time.Second, "b": time.Second, "c": 2 * time.Second}, total: 4 * time.Second}
	if p := e.progress(engine.Operation{}); p.Total != 3 || p.Left != 4*time.Second {
		t.Errorf("before the first: %+v", p)
	}
	e.started, e.done = time.Now().Add(-10*time.Second), 2*time.Second // five times as slow as planned
	if p := e.progress(engine.Operation{}); p.Left < 10*time.Second || p.Left > time.Since(e.started) {
		t.Errorf("%v are left, want 10 s and what has passed here", p.Left)
	}
}

func TestTheTimeOfAPassFollowsFromItsBlock(t *testing.T) {
	span := func(label string, start, end float64) engine.Span {
		return engine.Span{Label: label, Start: start, End: end}
	}
	r := &bench.Report{Passes: []bench.Pass{{DeviceTime: 100}, {DeviceTime: 90}}}
	r.Trace.Compute = []engine.Span{span("block 0 end", 160, 160), span("block 0 begin", 20, 20), span("work", 20, 60), span("block 0 end", 60, 60), span("block 0 begin", 130, 130)}
	if got := wholePasses(r, 60); !slices.Equal(got, []float64{100 + 59*40, 90 + 59*30}) {
		t.Errorf("%v", got)
	}
}

func TestWithoutTimestampsItSaysSo(t *testing.T) {
	d := enginetest.Open(t) // opened without Timings
	e := newExplorer(t, d)
	o := fill(t, d, map[string]int{"slow": 256, "middle": 256, "fast": 256})
	e.explore(d.Compute(), o)
	if e.err == nil || !strings.Contains(e.err.Error(), "no timestamps") {
		t.Errorf("error %v", e.err)
	}
}
