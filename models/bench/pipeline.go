package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// PipelineOptions say which whole runs to make.
type PipelineOptions struct {
	Checkpoint *kandinsky5.Checkpoint
	Options    kandinsky5.Options // how networks are held; a plan chooses what they leave open
	Request    kandinsky5.Request
	// Budgets of device memory, in bytes, one run each, the largest first. None: one run with the device's own.
	Budgets []int64
	// Smallest asks for one more run, with the smallest budget that works.
	Smallest bool
	// Began, if set, is told before each run.
	Began func(run, runs int, budget int64)
	// Finished, if set, is told what there is after each run. An error ends the measurement.
	Finished func(*PipelineReport) error
}

// PipelineReport is what whole runs took beside what was planned for them. Sizes are in bytes, times in nanoseconds.
type PipelineReport struct {
	Device    string           `json:"device"`
	Driver    string           `json:"driver"`
	Kernels   string           `json:"kernels"`
	Config    string           `json:"config"`
	Precision string           `json:"precision"`
	Linear    string           `json:"linear"`
	Geometry  configs.Geometry `json:"geometry"`
	Steps     int              `json:"steps"`
	Branches  int              `json:"branches"`
	Blocks    int              `json:"visual_blocks"`
	Before    hostmem.Use      `json:"host_before"`         // what the process used before the first run
	Least     int64            `json:"least_device_budget"` // smallest that works, by plan; 0: none does
	LeastTime time.Duration    `json:"least_ns"`            // how long finding and refusing it took
	Runs      []PipelineRun    `json:"runs"`
}

// PipelineRun is a whole run under a budget.
type PipelineRun struct {
	Budget        int64                  `json:"device_budget"`
	Fits          bool                   `json:"fits"`            // it ran, and stayed within its budget
	Error         string                 `json:"error,omitempty"` // why it did not run
	Choice        kandinsky5.Choice      `json:"choice"`
	PlannedDevice int64                  `json:"planned_device_bytes"`
	PeakDevice    int64                  `json:"peak_device_bytes"`
	PlannedPinned int64                  `json:"planned_pinned_bytes"`
	PeakPinned    int64                  `json:"peak_pinned_bytes"`
	PlannedRAM    int64                  `json:"planned_ram_bytes"` // pinned memory among it, without the page cache
	Host          hostmem.Use            `json:"host_peak"`         // the most of each that was seen
	Stages        []PipelineStage        `json:"stages"`
	Deviation     float64                `json:"deviation"` // the largest of a stage's peak from its plan, as a part of the plan
	Planned       time.Duration          `json:"planned_step_ns,omitempty"`
	Step          time.Duration          `json:"step_ns"`      // a step, without the first where there are more: it may compile kernels
	Ratio         float64                `json:"by_unlimited"` // Step by that of the run with the largest budget
	Took          time.Duration          `json:"ns"`
	Latents       string                 `json:"latents_sha256"` // of the clean latents, which no budget changes
	Frames        string                 `json:"frames_sha256"`  // of the clip, which tiles may change
	Plan          *kandinsky5.MemoryPlan `json:"-"`
	Stats         kandinsky5.Stats       `json:"stats"`
}

// PipelineStage is a stage's peaks beside their plan; a stage that no plan counts has none.
type PipelineStage struct {
	Stage         kandinsky5.Stage `json:"stage"`
	PlannedDevice int64            `json:"planned_device_bytes"`
	PeakDevice    int64            `json:"peak_device_bytes"`
	PlannedPinned int64            `json:"planned_pinned_bytes"`
	PeakPinned    int64            `json:"peak_pinned_bytes"`
	Took          time.Duration    `json:"ns"`
}

// RunPipeline makes a clip under each budget, from reading the text encoders to the last frame, each with networks of its own, and
// compares. A budget under which no plan is possible, or whose run fails for want of memory, is a run that does not fit; other
// errors end the measurement, and come with the runs before. Nothing stays allocated, and the device's budget is the one it had.
func RunPipeline(ctx context.Context, d *engine.Device, o PipelineOptions) (_ *PipelineReport, err error) {
	o.Request.Digests = true
	whole := d.Mem.Cut().Budget
	defer func() { err = errors.Join(err, d.SetDeviceBudget(whole)) }()
	r, err := newPipelineReport(ctx, d, o)
	if err != nil {
		return nil, err
	}
	budgets := slices.SortedFunc(slices.Values(o.Budgets), func(a, b int64) int { return cmp.Compare(b, a) })
	if len(budgets) == 0 {
		budgets = []int64{whole}
	}
	if o.Smallest && r.Least > 0 && !slices.Contains(budgets, r.Least) {
		budgets = append(budgets, r.Least)
	}
	for k, budget := range budgets {
		if o.Began != nil {
			o.Began(k, len(budgets), budget)
		}
		if err := d.SetDeviceBudget(budget); err != nil {
			return r, err
		}
		run, err := runPipeline(ctx, d, o, budget)
		if err != nil {
			return r, fmt.Errorf("budget %s: %w", memory.Size(budget), err)
		}
		if first := slices.IndexFunc(r.Runs, func(run PipelineRun) bool { return run.Step > 0 }); run.Step > 0 {
			run.Ratio = 1
			if first >= 0 {
				run.Ratio = run.Step.Seconds() / r.Runs[first].Step.Seconds()
			}
		}
		r.Runs = append(r.Runs, run)
		if o.Finished == nil {
			continue
		}
		if err := o.Finished(r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func newPipelineReport(ctx context.Context, d *engine.Device, o PipelineOptions) (*PipelineReport, error) {
	info, config := d.Summary.Physical.Info, o.Checkpoint.Config
	settings, err := kandinsky5.Resolve(config, o.Request)
	if err == nil && o.Request.ExpandPrompt {
		err = o.Checkpoint.CheckExpansion()
	}
	if err != nil {
		return nil, err
	}
	r := &PipelineReport{Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Kernels: d.Caps().Tier.String(), Config: config.Name,
		Precision: o.Options.Precision.String(), Linear: o.Options.Linear.String(), Geometry: settings.Geometry, Steps: settings.Steps, Branches: 1, Blocks: config.Model.DiT.NumVisualBlocks}
	if kandinsky5.Guided(settings.Guidance) {
		r.Branches = 2
	}
	r.Before, _ = hostmem.Used()
	start := time.Now()
	limits := kandinsky5.LimitsOf(d, o.Options)
	limits.Device = 1
	plan, err := kandinsky5.PlanRun(config, o.Checkpoint, o.Options, o.Request, limits)
	if err != nil {
		return nil, err
	}
	r.Least, r.LeastTime = plan.Least, time.Since(start)
	return r, ctx.Err()
}

// runPipeline makes a clip.
func runPipeline(ctx context.Context, d *engine.Device, o PipelineOptions, budget int64) (run PipelineRun, err error) {
	run.Budget = budget
	p, err := kandinsky5.New(ctx, d, o.Checkpoint, o.Options)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	rates, err := p.Rates(ctx)
	if err != nil {
		return run, err
	}
	watch := watchHost()
	start := time.Now()
	result, err := p.Generate(ctx, o.Request)
	run.Took, run.Host = time.Since(start), watch.end()
	if errors.Is(err, memory.ErrBudget) || errors.Is(err, vk.ErrOutOfDeviceMemory) || errors.Is(err, vk.ErrOutOfHostMemory) {
		run.Error = err.Error()
		return run, nil
	}
	if err != nil {
		return run, err
	}
	run.take(result)
	if rates.Compute > 0 && rates.Bus > 0 {
		run.Planned = result.Plan.Predict(rates).Step
	}
	return run, nil
}

// take notes what a run took beside its plan.
func (run *PipelineRun) take(result *kandinsky5.Result) {
	plan, stats := result.Plan, result.Stats
	run.Plan, run.Stats, run.Choice = plan, stats, plan.Choice
	run.PlannedDevice, run.PlannedPinned, run.PlannedRAM = plan.Device, plan.Pinned, plan.Host.RAM
	run.PeakDevice, run.PeakPinned = stats.PeakDevice, stats.PeakPinned
	run.Latents, run.Frames = result.Digests.Final, result.Digests.Frames
	for _, s := range stats.Stages {
		stage := PipelineStage{Stage: s.Stage, PeakDevice: s.PeakDevice, PeakPinned: s.PeakPinned, Took: s.Took}
		if planned := plan.Stage(s.Stage); planned != nil {
			stage.PlannedDevice, stage.PlannedPinned = planned.Device, planned.Pinned
			run.Deviation = max(run.Deviation, deviation(planned.Device, s.PeakDevice))
		}
		run.Stages = append(run.Stages, stage)
	}
	run.Fits = run.PeakDevice <= run.Budget
	steady := stats.StepTimes
	if len(steady) > 1 {
		steady = steady[1:]
	}
	for _, t := range steady {
		run.Step += t / time.Duration(len(steady))
	}
}

func deviation(planned, took int64) float64 {
	return max(float64(planned-took), float64(took-planned)) / float64(max(planned, 1))
}

// hostWatch looks at the host's memory now and then.
type hostWatch struct {
	stop, done chan struct{}
	most       hostmem.Use
}

// hostEvery is how often; reading the account takes some hundredths of a millisecond.
const hostEvery = 20 * time.Millisecond

func watchHost() *hostWatch {
	w := &hostWatch{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(hostEvery)
		defer tick.Stop()
		for {
			u, ok := hostmem.Used()
			w.most = w.most.Max(u)
			if !ok {
				return
			}
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

// end returns the most that was seen.
func (w *hostWatch) end() hostmem.Use {
	close(w.stop)
	<-w.done
	return w.most
}
