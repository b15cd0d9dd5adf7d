package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/bench"
)

// benchSwapOptions are the flags of bench swap: those of bench step, and what it compares.
type benchSwapOptions struct {
	step  benchOptions
	rates []string
	least leastFlag
}

func benchSwapCommand() *command {
	cmd := &command{
		name: "swap", summary: "what block swapping costs against all blocks on the device",
		about: "Runs the same passes with all blocks on the device and with a few, one after the other, and compares: speed, the rate of\n" +
			"copies beside computing, how much longer blocks compute meanwhile, memory, the host's share. --bus-rate repeats it as on a\n" +
			"slower bus. The first pass of each run compiles kernels and is not compared.",
		examples: []string{
			"vkandinsky bench swap --config config_5s_i2v_pro_20b --synthetic --blocks-in-memory 2",
			"vkandinsky bench swap --config config_5s_i2v_pro_20b --synthetic --blocks 12 --bus-rate 24GB/s,12GB/s --json",
		},
	}
	var o benchSwapOptions
	o.step.registerWork(cmd)
	f := cmd.flags.group("Comparison")
	f.StringSliceVar(&o.rates, "bus-rate", nil, "measure also as on slower buses of these `RATES`, such as 12GB/s: copies then move their bytes several times")
	o.least.register(f)
	o.step.registerDevice(cmd)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c, cmd)
	}
	return cmd
}

// parseRate reads "12GB/s" as bytes a second.
func parseRate(text string) (float64, error) {
	size, ok := strings.CutSuffix(strings.TrimSpace(text), "/s")
	n, err := parseByteSize(size)
	if !ok || err != nil {
		return 0, badInputf("--bus-rate %q: write 12GB/s", text)
	}
	return float64(n), nil
}

func (o *benchSwapOptions) run(ctx context.Context, c *console, cmd *command) error {
	log, err := o.step.log.logger(c)
	if err != nil {
		return err
	}
	if o.step.passes < 2 {
		return badInputf("--passes %d: at least 2 are compared, the first compiles kernels", o.step.passes)
	}
	if err := o.least.check(); err != nil {
		return err
	}
	options := bench.SwapOptions{Least: o.least.least}
	for _, text := range o.rates {
		rate, err := parseRate(text)
		if err != nil {
			return err
		}
		options.BusRates = append(options.BusRates, rate)
	}
	work, engineOptions, closeWeights, err := o.step.check(log, cmd)
	if err != nil {
		return err
	}
	defer closeWeights()
	if work.Swap.Slots == 0 || work.Swap.Slots >= work.Config.Model.DiT.NumVisualBlocks {
		return badInputf("nothing is swapped: say how many of the %d blocks the device holds, as with --blocks-in-memory 2", work.Config.Model.DiT.NumVisualBlocks)
	}
	options.Options = work
	engineOptions.Timings, engineOptions.Marks = false, true // single kernels' timestamps would hold both sides up
	if !o.step.log.quiet {
		reporter, done := c.progress()
		defer done()
		options.Began = func(what string) { reporter.Stage(what, work.Passes) }
		options.Progress = func(n, _ int) { reporter.Step(n) }
	}
	var report *bench.SwapReport
	err = withDevice(ctx, engineOptions, func(d *engine.Device) (err error) {
		if err := o.step.files.check(d); err != nil {
			return err
		}
		report, err = bench.Swapping(ctx, d, options)
		return err
	})
	if err != nil {
		return err
	}
	last := report.Runs[len(report.Runs)-1]
	if err := o.step.files.write(last.Trace, stepTitle(last.Report), stepNotes(last.Report)...); err != nil {
		return err
	}
	if o.step.json {
		return c.printJSON(report)
	}
	return printSwapping(c.out, report)
}

func printSwapping(w io.Writer, r *bench.SwapReport) error {
	first := r.Runs[0].Report
	fmt.Fprintf(w, "%s, %s, kernels %s\n%s\n", first.Device, first.Driver, first.Kernels, stepTitle(first))
	if r.Resident == nil {
		fmt.Fprintf(w, "not compared with all blocks on the device: %s\n", r.Why)
	}
	fmt.Fprintln(w)
	columns := [][]string{{"", "bus", "time of a pass", "speed against resident", "copies beside computing", "of the idle rate", "blocks compute slower by", "compute waited", "host records and submits", "peak device memory", "pinned memory"}}
	if all := r.Resident; all != nil {
		columns = append(columns, []string{"all resident", "-", seconds(all.SteadyTime()), "1", "-", "-", "-", "-", units.Percent(all.HostShare()), memory.Size(all.PeakDevice), memory.Size(all.PeakPinned)})
	}
	for _, run := range r.Runs {
		columns = append(columns, swapColumn(run))
	}
	var rows []string
	for k := range columns[0] {
		cells := make([]string, len(columns))
		for n := range columns {
			cells[n] = columns[n][k]
		}
		rows = append(rows, strings.Join(cells, "\t"))
	}
	if err := table(w, rows); err != nil {
		return err
	}
	for _, run := range r.Runs {
		if _, err := fmt.Fprintf(w, "\n%s: %s\n", swapName(run), run.Verdict.Text); err != nil {
			return err
		}
	}
	return nil
}

func swapName(run bench.SwapRun) string {
	return fmt.Sprintf("%d of %d blocks", run.Plan.Slots, run.Plan.Blocks)
}

// swapColumn is a run in the table, with the goals that it should meet.
func swapColumn(run bench.SwapRun) []string {
	bus, ratio := units.Rate(run.BusRate, "B/s"), "-"
	goal := bench.GoalRatio
	if run.Throttled {
		bus += " (imitated)"
		goal = bench.GoalRatioThrottled
	}
	if run.Ratio > 0 {
		ratio = fmt.Sprintf("%.3f (goal %.2f)", run.Ratio, goal)
	}
	slows := "-"
	if run.Ratio > 0 {
		slows = fmt.Sprintf("%.1f %% (goal %.0f %%)", 100*run.Slows, 100*bench.GoalSlows)
	}
	copies, share := "-", "-"
	if run.CopyRate > 0 {
		copies = units.Rate(run.CopyRate, "B/s")
		share = fmt.Sprintf("%s (goal %.0f %%)", units.Percent(run.Copying), 100*bench.GoalCopying)
	}
	return []string{swapName(run), bus, seconds(run.SteadyTime()), ratio, copies, share, slows, units.Percent(run.Verdict.Share),
		fmt.Sprintf("%s (goal %.0f %%)", units.Percent(run.Host), 100*bench.GoalHost), memory.Size(run.PeakDevice), memory.Size(run.PeakPinned)}
}
