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

// probeTime is how long a probe may take; quickTotal, how long all of them together in a quick examination.
const (
	probeTime  = 2 * time.Minute
	quickTotal = 9500 * time.Millisecond
)

// Examine runs all probes and reports what they found. The error is for what stops it as a whole: a cancelled context, or
// a device that does not exist (engine.ErrNoDevice). What is wrong with the device is in the report, see Report.Err.
func Examine(ctx context.Context, o Options) (*Report, error) {
	e := &examination{o: o, started: time.Now(), report: &Report{Time: time.Now().UTC().Truncate(time.Second), Quick: o.Quick,
		Host: Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}}}
	e.report.Host.MemoryFree, _ = hostmem.Available()
	if o.total == 0 {
		e.o.total = quickTotal
	}
	e.o.Engine.Tier = engine.TierAuto // a forced tier is for the kernels
	usable, err := e.begin(ctx)
	if err != nil || !usable {
		return e.report, err
	}
	e.probes = append(e.probes, e.plan(o.Engine.Tier)...)
	for e.done < len(e.probes) {
		if err := e.next(ctx); err != nil {
			return e.report, err
		}
	}
	e.report.compareTiers()
	return e.report, nil
}

// examination is a report in the making.
type examination struct {
	o       Options
	report  *Report
	started time.Time
	probes  []string
	done    int
	tiers   []string
	best    string   // tier
	env     []string // for the probes' processes
	gone    string   // the probe after which the device no longer answered
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

// badDevice is engine.ErrNoDevice with the text that a process told.
type badDevice struct{ text string }

func (e badDevice) Error() string        { return e.text }
func (e badDevice) Is(target error) bool { return target == engine.ErrNoDevice }

// plan lists the probes that follow: what is cheap and tells most first, and the kernels of every tier from the one that
// the program takes down, of one alone in a quick examination or when it is forced.
func (e *examination) plan(forced engine.Tier) []string {
	var probes []string
	if len(e.env) == 0 {
		probes = append(probes, probeLayers)
	}
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
	return append(probes, probeNorms, probeCopies, probeDispatch, probePinned)
}

// next carries the next probe out.
func (e *examination) next(ctx context.Context) error {
	probe := e.probes[e.done]
	_, title, err := find(probe)
	if err != nil {
		return err
	}
	if e.gone != "" || e.o.Quick && time.Since(e.started) > e.o.total {
		why := "no time was left"
		if e.gone != "" {
			why = "the device does not answer since " + e.gone
		}
		e.report.add(Result{Name: probe, Title: title, Status: NotAvailable, Summary: why})
		e.done++
		return nil
	}
	f, err := e.run(ctx, probe)
	var crash *CrashError
	if errors.As(err, &crash) {
		f.Results = []Result{crashed(probe, title, crash)}
	} else if err != nil {
		return err
	}
	e.report.add(f.Results...)
	e.done++
	if crash != nil || f.Lost {
		e.check(ctx, title)
	}
	return ctx.Err()
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

// run carries a probe out in a process of its own, or here. The error is a *CrashError or the context's.
func (e *examination) run(ctx context.Context, probe string) (Findings, error) {
	if err := ctx.Err(); err != nil {
		return Findings{}, err
	}
	e.progress(probe)
	limit := probeTime
	if e.o.Quick {
		limit = max(e.o.total-time.Since(e.started), time.Second/4)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var f Findings
	var err error
	if e.o.Start != nil {
		f, err = e.o.Start(limited, probe, e.env)
	} else {
		f, err = Run(limited, probe, e.o)
	}
	var crash *CrashError
	switch {
	case ctx.Err() != nil:
		return f, ctx.Err()
	case errors.As(err, &crash) && limited.Err() != nil && e.o.Quick:
		return Findings{Results: []Result{{Name: probe, Title: title(probe), Status: NotAvailable, Summary: "not done in the time there was"}}}, nil
	case errors.As(err, &crash) && limited.Err() != nil:
		crash.How = fmt.Sprintf("it did not end within %s", limit)
	}
	return f, err
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
