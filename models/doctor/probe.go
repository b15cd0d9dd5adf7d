package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// Options say what to examine and how.
type Options struct {
	Engine engine.Options // the device, its budgets and where compiled kernels are kept; Tier forces one tier
	Quick  bool           // smaller work, one tier, about ten seconds of measuring
	// Measure is how long a probe (Run) may measure, besides compiling kernels; 0: as long as it takes. What it then has
	// not done it says.
	Measure time.Duration
	// Partial, if set, is told what a probe has found so far, each time that is more.
	Partial func(f Findings)
	// Start runs a probe (Run) in a process of its own, with Measure and more environment variables, and returns what it
	// found. When the process ends without telling all, the error is a *CrashError and the findings are the last that
	// Partial was told. nil: probes run in this process.
	Start func(ctx context.Context, probe string, measure time.Duration, environment []string) (Findings, error)
	// Progress, if set, is told what begins and how many probes are done.
	Progress func(title string, done, total int)

	// For tests: other limits than the usual ones, and another clock.
	limits  *limits
	timeout func(context.Context, time.Duration) (context.Context, context.CancelFunc)
	now     func() time.Time
	// spoil changes a kernel's numbers before they are judged, so that tests see wrong ones found.
	spoil func(kernel string, values []float32)
}

// Findings are what a probe found.
type Findings struct {
	Results []Result `json:"results"`
	// Tiers are those that the device offers, and Header what it is: the probe "device" tells.
	Tiers  []string `json:"tiers,omitempty"`
	Header *Report  `json:"header,omitempty"`
	// BadDevice says that the user named a device that does not exist.
	BadDevice string `json:"bad_device,omitempty"`
	Lost      bool   `json:"lost,omitempty"` // the device was lost
}

// Probes that every device has. Those of kernels are kernelProbe + a tier's name.
const (
	probeDevice   = "device"   // what can be said without opening it
	probeLayers   = "layers"   // what is loaded into a process that opens it
	probePulse    = "pulse"    // whether it still computes, after trouble
	probeNorms    = "norms"    // kernels that are the same in every tier
	probeCopies   = "copies"   // rates
	probePinned   = "pinned"   // how much host memory can be pinned
	probeDispatch = "dispatch" // how long the longest dispatch takes
	kernelProbe   = "kernels-"
)

// Run carries a probe out in this process. What goes wrong is in the findings; ErrProbe says that there is no such probe.
func Run(ctx context.Context, probe string, o Options) (f Findings, err error) {
	run, title, err := find(probe)
	if err != nil {
		return f, err
	}
	if o.Engine.Log == nil {
		o.Engine.Log = slog.New(slog.DiscardHandler)
	}
	o.Engine.Tier = engine.TierAuto // kernels are examined in the tier that their probe names
	start := time.Now()
	complete := func(results []Result) {
		for k := range results {
			r := &results[k]
			r.Name = probe
			if r.Title == "" {
				r.Title = title
			}
			if r.Took == 0 {
				r.Took = time.Since(start)
			}
		}
	}
	if tell := o.Partial; tell != nil {
		o.Partial = func(f Findings) {
			complete(f.Results)
			tell(f)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			f.Results = append(f.Results, Result{Title: title, Status: Failed, Summary: fmt.Sprintf("internal error: %v, please report", p)})
		}
		complete(f.Results)
	}()
	run(ctx, o, &f)
	return f, nil
}

// tell hands on what a probe has found so far.
func (o Options) tell(f *Findings, r Result) {
	if o.Partial != nil {
		part := *f
		part.Results = append(slices.Clone(f.Results), r)
		o.Partial(part)
	}
}

// ErrProbe is what Run's error wraps for a probe that does not exist.
var ErrProbe = errors.New("no such probe")

type probeFunc func(ctx context.Context, o Options, f *Findings)

func find(probe string) (run probeFunc, title string, err error) {
	if name, ok := strings.CutPrefix(probe, kernelProbe); ok {
		tier, err := engine.ParseTier(name)
		if err != nil || tier == engine.TierAuto {
			return nil, "", fmt.Errorf("%w: %q", ErrProbe, probe)
		}
		return func(ctx context.Context, o Options, f *Findings) { tierKernels(ctx, o, tier, f) }, "kernels, tier " + tier.String(), nil
	}
	switch probe {
	case probeDevice:
		return examineDevice, "device", nil
	case probeLayers:
		return examineLayers, "injected layers", nil
	case probePulse:
		return pulse, "pulse", nil
	case probeNorms:
		return commonKernels, "kernels, every tier", nil
	case probeCopies:
		return examineCopies, "copies", nil
	case probePinned:
		return examinePinned, "pinned memory", nil
	case probeDispatch:
		return examineDispatches, "longest dispatch", nil
	}
	return nil, "", fmt.Errorf("%w: %q", ErrProbe, probe)
}

// onDevice opens a device, works with it and closes it. An error of any of these, a leak or a validation message makes
// the result a failure.
func (o Options) onDevice(ctx context.Context, f *Findings, r *Result, change func(e *engine.Options), work func(d *engine.Device) error) {
	settings := o.Engine
	if change != nil {
		change(&settings)
	}
	d, err := engine.Open(ctx, settings)
	if err == nil {
		err = work(d)
		version, messages := d.Validation(0)
		if len(messages) > 0 {
			err = errors.Join(err, fmt.Errorf("the validation layer %s reported %d messages, the first: %s", version, len(messages), messages[0].Text))
		}
		err = errors.Join(err, d.Close())
	}
	if err == nil {
		return
	}
	r.Status, r.Summary = Failed, strings.ReplaceAll(err.Error(), "\n", "; ")
	switch {
	case errors.Is(err, vk.ErrDeviceLost):
		f.Lost = true
		r.advise("The driver gave the device up. Look into the system's log (dmesg, Windows' event viewer), undo overclocking, and try another driver version.")
	case errors.Is(err, context.Canceled):
		r.Status, r.Summary = NotAvailable, "interrupted"
	case errors.Is(err, context.DeadlineExceeded):
		r.Status, r.Summary = NotAvailable, "not done in the time there was"
	case errors.Is(err, vk.ErrOutOfDeviceMemory), errors.Is(err, vk.ErrOutOfHostMemory):
		r.advise("Close other programs that use the GPU, or set --vram-budget and --ram-budget lower.")
	}
}

// pulse copies a few bytes through the device.
func pulse(ctx context.Context, o Options, f *Findings) {
	r := Result{Status: OK, Summary: "the device answers"}
	o.onDevice(ctx, f, &r, nil, func(d *engine.Device) error {
		t, err := d.Alloc("pulse", engine.F32, 256)
		if err != nil {
			return err
		}
		defer d.Free(t)
		want := make([]float32, 256)
		for k := range want {
			want[k] = float32(k)
		}
		if err := d.UploadF32(ctx, t, want); err != nil {
			return err
		}
		got, err := d.DownloadF32(ctx, t)
		if err != nil {
			return err
		}
		for k := range want {
			if got[k] != want[k] {
				return fmt.Errorf("element %d came back as %g", k, got[k])
			}
		}
		return nil
	})
	f.Results = append(f.Results, r)
}
