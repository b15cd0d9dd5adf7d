// Package tune finds, by measuring, the fastest way to compute each operation of a model on a device, and keeps what it
// finds (engine.Tuning).
//
// It runs forward passes of a transformer with one block of each kind and weights that are made up. The first lists the
// operations that have several ways (tiles), while the kernels of all their ways are compiled on all cores; from it follows
// what measuring will take, and what of it fits the time there is, the most costly operations first. In the next, each of
// these is offered with its real operands at its real shape before it is recorded: it is recorded in each way, timed on
// the device's clock, and the fastest put in force. The last ones are timed by default and as chosen, in turn: what a pass
// gains.
//
// What the package refuses to do: choose a way for a gain within the measurement's noise, and change what is computed.
// Linear layers and attention have several ways, all else has one. Those of linear layers give the same bits, those of
// attention differ by the rounding of sums in another order.
package tune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Options say for which work to tune.
type Options struct {
	Config    *configs.Config
	Geometry  configs.Geometry
	Precision load.Precision
	Linear    load.Linear
	Attention load.Attention
	Quick     bool          // fewer repetitions, and only operations in which much time goes
	Limit     time.Duration // of all measuring; 0: DefaultLimit, or QuickLimit
	// Progress, if set, is told what is done.
	Progress func(Progress)
}

// Limits of what is measured, the most costly operations first. What else is done (making weights up, compiling, timing
// passes) is not counted.
const (
	DefaultLimit = 2 * time.Minute
	QuickLimit   = 30 * time.Second
)

// Progress is how far a run is.
type Progress struct {
	What        string        // is done now: a stage, or the operation that is measured
	Done, Total int           // operations; Total is 0 in stages before it is known
	Left        time.Duration // that the rest of the operations will take
}

// Report is what was measured.
type Report struct {
	Device  string   `json:"device"`
	Driver  string   `json:"driver"`
	Kernels string   `json:"kernels"`
	Config  string   `json:"config"`
	Tokens  int      `json:"tokens"`
	File    string   `json:"file"` // where choices are kept, "" nowhere
	Results []Result `json:"results"`
	// Left are operations that were not measured, because of the limit or an interruption: choices of an earlier run
	// stay in force for them.
	Left        int  `json:"not_measured"`
	Interrupted bool `json:"interrupted,omitempty"`
	// Pass is what a pass of the whole model gains, nil where nothing was chosen or the run was interrupted.
	Pass      *PassGain     `json:"pass,omitempty"`
	Took      time.Duration `json:"took_ns"`
	Compiling time.Duration `json:"compiling_ns"` // what of it went into waiting for kernels to be compiled
	Compiled  int           `json:"compiled"`     // kernels
}

// PassGain is the time of a pass of all blocks, from passes of one block by default and as chosen.
type PassGain struct {
	Blocks  int           `json:"blocks"`
	Default time.Duration `json:"default_ns"`
	Tuned   time.Duration `json:"tuned_ns"`
}

// Result is one operation on one shape.
type Result struct {
	Kernel  string    `json:"kernel"`
	Shape   string    `json:"shape"`
	Cost    float64   `json:"operations"`
	Ways    []Measure `json:"ways"`
	Default string    `json:"default"`
	Choice  string    `json:"choice"` // the default where none is clearly faster
	Speedup float64   `json:"speedup"`
}

// Of returns what was measured of a way.
func (r Result) Of(way string) Measure {
	for _, m := range r.Ways {
		if m.Way == way {
			return m
		}
	}
	return Measure{}
}

// Measure is one way, timed.
type Measure struct {
	Way     string  `json:"way"`
	Seconds float64 `json:"seconds"`
	TFLOPS  float64 `json:"tflops"`
	Stopped bool    `json:"stopped,omitempty"` // after one run, being far slower than another
}

// Run measures on a device that was opened with Timings, and saves what it found in one piece. When the context ends it
// keeps what was measured until then, and returns both that and the context's error; after any other error nothing is
// kept.
func Run(ctx context.Context, d *engine.Device, o Options) (*Report, error) {
	start := time.Now()
	info := d.Summary.Physical.Info
	e := &explorer{ctx: ctx, o: o, device: d, seen: map[string]bool{}, report: &Report{
		Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Kernels: d.Caps().Tier.String(), Config: o.Config.Name,
		Tokens: o.Geometry.Tokens, File: d.Tuning().File(), Results: []Result{},
	}}
	before := d.Tuning().All()
	err := e.run()
	if interrupted := ctx.Err() != nil; err != nil && !interrupted {
		return nil, fmt.Errorf("tune: %w", err)
	} else if interrupted {
		err, e.report.Interrupted = ctx.Err(), true
	}
	e.restore(before)
	e.report.Took = time.Since(start)
	if len(e.report.Results) == 0 && e.report.Interrupted {
		return e.report, err
	}
	return e.report, errors.Join(err, d.SaveTuning())
}

// run goes through the stages.
func (e *explorer) run() error {
	e.tell("listing operations")
	var list lister
	rate, err := list.list(e)
	if err != nil {
		return err
	}
	e.plan = makePlan(list.found, rate, e.o)
	e.report.Left = e.plan.left()
	if len(e.plan.chosen) == 0 {
		return nil
	}
	if err := e.await(list.compiling); err != nil {
		return err
	}
	e.started = time.Now()
	if _, err := e.pass(1, e.explore, nil); err != nil {
		return errors.Join(e.err, err)
	}
	return e.compare()
}

// await waits until the kernels of all ways are compiled.
func (e *explorer) await(all []*engine.Compiling) error {
	start := time.Now()
	for _, c := range all {
		e.report.Compiled += c.Count()
	}
	e.tell(fmt.Sprintf("compiling %d kernels", e.report.Compiled))
	for _, c := range all {
		if err := c.Wait(e.ctx); err != nil {
			return err
		}
	}
	e.report.Compiling = time.Since(start)
	return nil
}

// pass runs so many passes of one block of each kind under an explorer.
func (e *explorer) pass(passes int, explorer engine.Explorer, after func(done int)) (*bench.Report, error) {
	e.device.Tuning().Explore(explorer)
	defer e.device.Tuning().Explore(nil)
	return bench.Run(e.ctx, e.device, bench.Options{Config: oneBlock(e.o.Config), Geometry: e.o.Geometry, Weights: load.Synthetic(weights.BF16),
		Precision: e.o.Precision, Linear: e.o.Linear, Attention: e.o.Attention, Passes: passes, Progress: func(done, _ int) {
			if after != nil {
				after(done)
			}
		}})
}

// restore puts choices of an earlier run in force again for what was not measured now.
func (e *explorer) restore(before []engine.Tuned) {
	for _, old := range before {
		if !e.seen[old.Kernel+" "+old.Shape] {
			e.device.Tuning().Set(old)
		}
	}
}

func (e *explorer) tell(what string) {
	if e.o.Progress != nil {
		e.o.Progress(Progress{What: what})
	}
}

// oneBlock is a configuration with one block of each kind: blocks of a kind are alike.
func oneBlock(c *configs.Config) *configs.Config {
	one := *c
	one.Model.DiT.NumVisualBlocks = min(1, one.Model.DiT.NumVisualBlocks)
	one.Model.DiT.NumTextBlocks = min(1, one.Model.DiT.NumTextBlocks)
	one.BlockSwap = configs.BlockSwap{}
	return &one
}
