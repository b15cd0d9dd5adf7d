package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/swap"
)

// SwapOptions ask for passes with all blocks on the device and with a few, on the same device one after the other.
type SwapOptions struct {
	Options
	// BusRates, in bytes a second, are slower buses to measure with besides the device's own, which copies then imitate by
	// moving bytes several times.
	BusRates []float64
	Least    time.Duration // of the measurement of the idle bus
	Began    func(what string)
}

// SwapReport compares them.
type SwapReport struct {
	IdleRate float64 `json:"idle_bytes_per_second"` // of the bus, copying blocks while nothing computes; 0: not measured
	// Resident is nil where the device cannot hold all blocks; Why says so.
	Resident *Report   `json:"resident,omitempty"`
	Why      string    `json:"not_resident,omitempty"`
	Runs     []SwapRun `json:"runs"`
}

// SwapRun is a run with swapping. Shares are of 1.
type SwapRun struct {
	*Report
	BusRate   float64 `json:"bus_bytes_per_second"` // what the copies behaved like while nothing computed
	Throttled bool    `json:"throttled"`
	// Ratio is the speed against all blocks resident: their time of a pass by this run's. 0 where that was not measured.
	Ratio float64 `json:"ratio_to_resident"`
	// Copying is the rate of copies while computing, as a part of the idle rate. Slows is how much longer a block computes
	// than with all blocks resident.
	Copying float64 `json:"copying_share_of_idle"`
	Slows   float64 `json:"compute_slower_by"`
	Host    float64 `json:"host_share"` // of a pass's time, recording and submitting
}

// Goals of the program; see docs/block-swapping.md.
const (
	GoalRatio          = 0.99
	GoalRatioThrottled = 0.97
	GoalCopying        = 0.95
	GoalSlows          = 0.01
	GoalHost           = 0.01
)

// Swapping measures. The passes of a run but for the first, in which kernels are compiled, are compared by their mean.
func Swapping(ctx context.Context, d *engine.Device, o SwapOptions) (*SwapReport, error) {
	if o.Passes < 2 {
		return nil, fmt.Errorf("%d passes: at least 2 are needed, the first compiles kernels", o.Passes)
	}
	r := &SwapReport{}
	var err error
	if r.IdleRate, err = idleRate(ctx, d, o.Least); err != nil {
		return nil, err
	}
	for _, rate := range o.BusRates {
		if least := r.IdleRate / swap.MaxRepeat; !(rate <= r.IdleRate && rate >= least) {
			return nil, fmt.Errorf("a bus of %s cannot be imitated: this one has %s, use %s or more", units.Rate(rate, "B/s"), units.Rate(r.IdleRate, "B/s"), units.Rate(least, "B/s"))
		}
	}
	resident := o.Options
	resident.Swap = dit.SwapOptions{}
	o.began("all blocks on the device")
	if r.Resident, err = Run(ctx, d, resident); err != nil {
		if !errors.Is(err, memory.ErrBudget) {
			return nil, err
		}
		r.Resident, r.Why = nil, err.Error()
	}
	for _, rate := range append([]float64{0}, o.BusRates...) {
		if err := d.Settle(); err != nil {
			return nil, err
		}
		swapped := o.Options
		what := "swapping"
		if rate > 0 {
			swapped.Swap.Repeat = r.IdleRate / rate
			what = fmt.Sprintf("swapping over a bus of %.3g GB/s", rate/1e9)
		}
		o.began(what)
		report, err := Run(ctx, d, swapped)
		if err != nil {
			return nil, err
		}
		r.Runs = append(r.Runs, r.compare(report, max(swapped.Swap.Repeat, 1), rate > 0))
	}
	return r, nil
}

func (o SwapOptions) began(what string) {
	if o.Began != nil {
		o.Began(what)
	}
}

// compare works out what swapping cost.
func (r *SwapReport) compare(run *Report, repeat float64, throttled bool) SwapRun {
	s := SwapRun{Report: run, BusRate: r.IdleRate / repeat, Throttled: throttled, Host: run.HostShare()}
	if s.BusRate > 0 {
		s.Copying = run.CopyRate / s.BusRate
	}
	if all := r.Resident; all != nil {
		s.Ratio = all.SteadyTime().Seconds() / run.SteadyTime().Seconds()
		if all.Timing.Blocks > 0 && run.Timing.Blocks > 0 && all.Timing.Compute > 0 {
			s.Slows = run.blockTime()/all.blockTime() - 1
		}
	}
	return s
}

// idleRate measures copies of pinned memory, a block's size each, while nothing computes.
func idleRate(ctx context.Context, d *engine.Device, least time.Duration) (float64, error) {
	size := int64(512 << 20)
	if d.Summary.Physical.Info.Kind == "cpu" {
		size = 1 << 20
	}
	kind := engine.HostCached
	if kinds := d.HostKinds(); len(kinds) > 0 {
		kind = kinds[0]
	}
	b := &bus{device: d, least: least}
	host, err := d.NewHostBuffer(kind, size)
	if err != nil {
		return 0, err
	}
	err = b.open(ctx, size, false)
	var run CopyRun
	if err == nil {
		run, err = b.measure(ctx, host, true, size)
	}
	return run.Idle, errors.Join(err, b.close(), host.Free())
}

// steady returns the passes that are compared: all but the first, where there are more.
func (r *Report) steady() []Pass {
	if len(r.Passes) > 1 {
		return r.Passes[1:]
	}
	return r.Passes
}

// SteadyTime returns the mean time of the passes but for the first.
func (r *Report) SteadyTime() time.Duration {
	var sum time.Duration
	for _, p := range r.steady() {
		sum += p.Time
	}
	return sum / time.Duration(max(1, len(r.steady())))
}

// HostShare returns the part of the passes' time, but for the first, that the host spent recording and submitting.
func (r *Report) HostShare() float64 {
	var record, all time.Duration
	for _, p := range r.steady() {
		record, all = record+p.RecordTime, all+p.Time
	}
	if all == 0 {
		return 0
	}
	return float64(record) / float64(all)
}

// blockTime returns the mean time inside a block, in seconds.
func (r *Report) blockTime() float64 {
	return r.Timing.Compute.Seconds() / float64(max(1, r.Timing.Blocks))
}

// verdictOf judges the passes but for the first.
func (r *measured) verdictOf(d *engine.Device, x swap.Intervals) swap.Verdict {
	run := swap.Run{Plan: r.Plan, Tier: r.HostTier, Shared: d.SharedQueue(), Passes: len(r.steady()), Room: -1, Intervals: x}
	for _, p := range r.steady() {
		run.Time += p.Time
	}
	if budget, _ := d.Mem.Budget(memory.Device); budget > 0 && r.SlotBytes > 0 {
		run.Room = int(max(0, budget-r.PeakDevice) / r.SlotBytes)
	}
	return swap.Judge(run)
}
