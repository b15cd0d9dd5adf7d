package doctor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
)

// CrashError says that a probe's process ended without telling what it found.
type CrashError struct {
	Probe string
	How   string // "segmentation violation", "exit status 3", "hung"
}

func (e *CrashError) Error() string { return fmt.Sprintf("the probe %s ended: %s", e.Probe, e.How) }

// Examine runs all probes and reports what they found. The error is for what stops it as a whole: a cancelled context, or
// a device that does not exist (engine.ErrNoDevice); the report then holds what was found until then, and for a cancelled
// context lists what was not examined. What is wrong with the device is in the report, see Report.Err.
func Examine(ctx context.Context, o Options) (*Report, error) {
	e := &examination{o: o, clock: newClock(o), report: &Report{Time: time.Now().UTC().Truncate(time.Second), Quick: o.Quick,
		Host: Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}}}
	e.report.Host.MemoryFree, _ = hostmem.Available()
	e.o.Engine.Tier = engine.TierAuto // a forced tier is for the kernels
	defer e.end()
	usable, err := e.begin(ctx)
	if err != nil || !usable {
		return e.report, err
	}
	e.probes = append(e.probes, e.plan(o.Engine.Tier)...)
	for e.done < len(e.probes) {
		if err := e.next(ctx); err != nil {
			e.skipAll("interrupted")
			return e.report, err
		}
	}
	e.report.compareTiers()
	return e.report, nil
}

// examination is a report in the making.
type examination struct {
	o      Options
	report *Report
	clock  *clock
	probes []string
	done   int
	tiers  []string
	best   string   // tier
	env    []string // for the probes' processes
	gone   string   // the probe after which the device no longer answered
}

// begin looks at the device. When that crashes it is tried again without injected layers, and if that helps, all that
// follows is done so. usable is false when there is no device to go on with.
func (e *examination) begin(ctx context.Context) (usable bool, err error) {
	e.probes = []string{probeDevice}
	f, err := e.run(ctx, probeDevice)
	var crash *CrashError
	if errors.As(err, &crash) {
		e.env = []string{withoutLayers}
		again, err := e.run(ctx, probeDevice)
		if err != nil {
			e.report.add(crashed(probeDevice, "device", crash))
			return false, ctx.Err()
		}
		e.report.add(layersAtFault(crash.How))
		f = again
	} else if err != nil {
		return false, err
	}
	if f.BadDevice != "" {
		return false, badDevice{f.BadDevice}
	}
	e.done++
	e.report.add(f.Results...)
	if h := f.Header; h != nil {
		r := e.report
		r.Device, r.Driver, r.API, r.Kind, r.Tier = h.Device, h.Driver, h.API, h.Kind, h.Tier
		e.best = h.Tier
	}
	e.tiers = f.Tiers
	return len(f.Tiers) > 0, nil
}

// end notes what the whole took.
func (e *examination) end() {
	e.report.Took, e.report.Compiling = e.clock.now().Sub(e.clock.started), e.clock.compiling
}

// badDevice is engine.ErrNoDevice with the text that a process told.
type badDevice struct{ text string }

func (e badDevice) Error() string        { return e.text }
func (e badDevice) Is(target error) bool { return target == engine.ErrNoDevice }

// plan lists the probes that follow, what is cheap and tells most first: what is injected, pinned memory, copies, and only
// then what compiles many kernels. Those are of every tier from the one that the program takes down, of one alone in a
// quick examination or when it is forced.
func (e *examination) plan(forced engine.Tier) []string {
	var probes []string
	if len(e.env) == 0 {
		probes = append(probes, probeLayers)
	}
	probes = append(probes, probePinned, probeCopies)
	tiers := slices.Clone(e.tiers)
	slices.Reverse(tiers)
	if forced != engine.TierAuto {
		tiers = []string{forced.String()}
	} else if e.o.Quick {
		tiers = []string{e.best}
	}
	for _, t := range tiers {
		probes = append(probes, kernelProbe+t)
	}
	return append(probes, probeNorms, probeDispatch)
}

// next carries the next probe out. The error is the context's.
func (e *examination) next(ctx context.Context) error {
	probe := e.probes[e.done]
	why := e.clock.spent()
	if e.gone != "" {
		why = "the device does not answer since " + e.gone
	}
	if why != "" {
		e.skip(probe, why)
		return nil
	}
	f, err := e.run(ctx, probe)
	var crash *CrashError
	if ctx.Err() != nil {
		if len(f.Results) > 0 { // what it had found
			e.report.add(f.Results...)
			e.done++
		}
		return ctx.Err()
	}
	if errors.As(err, &crash) {
		f.Results = append(f.Results, crashed(probe, title(probe), crash))
	} else if err != nil {
		return err
	}
	e.report.add(f.Results...)
	e.done++
	if crash != nil || f.Lost {
		e.check(ctx, title(probe))
	}
	return ctx.Err()
}

// skip reports that the next probe is not carried out.
func (e *examination) skip(probe, why string) {
	e.report.add(Result{Name: probe, Title: title(probe), Status: NotAvailable, Summary: why})
	e.done++
}

// skipAll does so with all that are left.
func (e *examination) skipAll(why string) {
	for e.done < len(e.probes) {
		e.skip(e.probes[e.done], why)
	}
}

// clearlyFaster is how much faster another tier must be to be worth a word.
const clearlyFaster = 1.15

// compareTiers advises a tier that is faster at linear layers, where most time goes, than the one that the program takes.
func (r *Report) compareTiers() {
	var taken *Result
	rates := map[string]float64{}
	for n := range r.Results {
		result := &r.Results[n]
		if result.Tier == r.Tier {
			taken = result
		}
		for _, k := range result.Kernels {
			if k.Kernel == linearLayer && k.Pass {
				rates[result.Tier] = k.Rate
			}
		}
	}
	if taken == nil || rates[r.Tier] == 0 {
		return
	}
	best := r.Tier
	for tier, rate := range rates {
		if rate > rates[best] {
			best = tier
		}
	}
	if times := rates[best] / rates[r.Tier]; times > clearlyFaster {
		taken.Status = worse(taken.Status, Warning)
		taken.advise("Linear layers are %.1f times as fast with --kernels %s on this device.", times, best)
		r.add()
	}
}

// check asks whether the device still answers after a probe ended badly.
func (e *examination) check(ctx context.Context, title string) {
	f, err := e.run(ctx, probePulse)
	if err != nil || len(f.Results) == 0 || f.Results[0].Status == Failed {
		e.gone = title
	}
}

// run carries a probe out in a process of its own, or here. The error is a *CrashError or the context's; what was found
// until then comes with it. A probe of a quick examination that is ended because its time is over is no crash.
func (e *examination) run(ctx context.Context, probe string) (f Findings, err error) {
	if err := ctx.Err(); err != nil {
		return Findings{}, err
	}
	e.progress(probe)
	start := e.clock.now()
	measure, whole := e.clock.next(max(0, len(e.probes)-e.done-1))
	limited, cancel := e.clock.timeout(ctx, whole)
	defer cancel()
	o := e.o
	o.Measure = measure
	if o.Start != nil {
		f, err = o.Start(limited, probe, measure, e.env)
	} else {
		f, err = Run(limited, probe, o)
	}
	e.clock.took(start, f.Results)
	over := limited.Err() != nil || e.clock.now().Sub(start) >= whole
	var crash *CrashError
	switch {
	case ctx.Err() != nil:
		return f, ctx.Err()
	case errors.As(err, &crash) && over && e.o.Quick:
		if len(f.Results) == 0 {
			f.Results = []Result{{Name: probe, Title: title(probe), Status: NotAvailable}}
		}
		last := &f.Results[len(f.Results)-1]
		last.Summary = joined(last.Summary, fmt.Sprintf("ended after %s, which was all the time left", brief(e.clock.now().Sub(start))))
		return f, nil
	case errors.As(err, &crash) && over:
		crash.How = fmt.Sprintf("it did not end within %s", whole)
	}
	return f, err
}

// joined joins parts of a summary.
func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func title(probe string) string {
	_, title, err := find(probe)
	if err != nil {
		return probe
	}
	return title
}

func (e *examination) progress(probe string) {
	if e.o.Progress != nil {
		e.o.Progress(title(probe), e.done, len(e.probes))
	}
}

// crashed is the result for a probe whose process ended.
func crashed(probe, title string, crash *CrashError) Result {
	r := Result{Name: probe, Title: title, Status: Failed, Summary: "the driver took the program with it: " + crash.How}
	r.advise("Please report this to the driver's makers, with this report. %s rules out what other programs inject; an empty --cache-dir \"\" rules out a stale cache of compiled kernels.", withoutLayers)
	return r
}
