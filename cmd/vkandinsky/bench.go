package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	model                   modelFlags
	size                    sizeFlags
	swap                    swapFlags
	device                  deviceFlags
	log                     logFlags
	synthetic, resident     bool
	guided, noTimings, json bool
	passes, kernels         int
}

func benchCommand() *command {
	cmd := &command{
		name: "bench", summary: "time forward passes of the transformer, with or without block swapping",
		about: "Runs forward passes of the transformer at full shape and prints their time and arithmetic rate, the memory they\n" +
			"took, and what block swapping cost. Text encoders and VAE are left out. With --synthetic no checkpoint is needed.",
		examples: []string{
			"vkandinsky bench --config config_5s_i2v_pro_20b --synthetic --blocks-in-memory 2 --video-duration 5",
			"vkandinsky bench --config k5_lite_i2v_5s_sft_sd --synthetic --resident --passes 3 --json",
		},
	}
	var o benchOptions
	f := cmd.flags.group("Model")
	o.model.register(f)
	f.BoolVar(&o.synthetic, "synthetic", false, "make the weights up")
	f = cmd.flags.group("Work")
	o.size.register(f)
	f.IntVar(&o.passes, "passes", 1, "`NUMBER` of forward passes")
	f.BoolVar(&o.guided, "guided", false, "two branches per pass, as with a guidance weight other than 1")
	f = cmd.flags.group("Block swapping")
	o.swap.register(f)
	f.BoolVar(&o.resident, "resident", false, "keep all blocks on the device, whatever the configuration says")
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.IntVar(&o.kernels, "kernel-times", 10, "list the `NUMBER` of kinds of kernels that took most time")
	f.BoolVar(&o.noTimings, "no-timings", false, "no timestamp queries: no kernel times, stalls or copy rates")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c, cmd)
	}
	return cmd
}

func (o *benchOptions) run(ctx context.Context, c *console, cmd *command) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	work, engineOptions, close, err := o.check(log, cmd)
	if err != nil {
		return err
	}
	defer close()
	if !o.log.quiet {
		reporter, done := c.progress()
		defer done()
		reporter.Stage("load weights", 0)
		work.Progress = func(n, total int) {
			if n == 0 {
				reporter.Stage("forward passes", total)
			}
			reporter.Step(n)
		}
	}
	var report *bench.Report
	err = withDevice(ctx, engineOptions, func(d *engine.Device) (err error) {
		report, err = bench.Run(ctx, d, work)
		return err
	})
	if err != nil {
		return err
	}
	if o.json {
		return c.printJSON(report)
	}
	return printBench(c.out, report, o.kernels)
}

// check turns the flags into what is to be measured. The function returned closes the checkpoint.
func (o *benchOptions) check(log *slog.Logger, cmd *command) (work bench.Options, eo engine.Options, close func(), err error) {
	close = func() {}
	if eo, err = o.device.options(log); err != nil {
		return
	}
	eo.Timings = !o.noTimings
	work.Guided, work.Passes = o.guided, o.passes
	if work.Passes < 1 || work.Passes > 1000 {
		err = badInput(fmt.Errorf("--passes %d: use 1 to 1000", work.Passes))
		return
	}
	if work.Config, err = o.model.config(); err != nil {
		return
	}
	if work.Geometry, err = o.geometry(work.Config); err != nil {
		return
	}
	if work.Precision, err = o.model.precision(); err != nil {
		return
	}
	blocks, err := o.swap.blocks(&cmd.flags, work.Config)
	if err != nil {
		return
	}
	if o.resident {
		if cmd.flags.changed("blocks-in-memory") || o.swap.enable {
			err = badInput(fmt.Errorf("--resident and block swapping exclude each other"))
			return
		}
		blocks = 0
	}
	work.Swap = dit.SwapOptions{Slots: blocks, Stream: o.swap.stream, Policy: o.swap.policy(), Tier: o.swap.tier()}
	work.Weights, close, err = o.weights(work.Config)
	return
}

// weights opens the transformer, or makes it up.
func (o *benchOptions) weights(config *configs.Config) (load.Reader, func(), error) {
	if o.synthetic {
		return load.Synthetic(weights.BF16), func() {}, nil
	}
	found, err := o.model.checkpoint(config)
	if err != nil {
		return nil, func() {}, err
	}
	ckpt, err := weights.OpenComponent(found.Layout.DiT.Path, weights.DiT)
	if err != nil {
		return nil, func() {}, badInput(err)
	}
	close := func() { ckpt.Close() }
	if err := weights.Check(ckpt, weights.DiTSpec(kandinsky5.DiTConfig(config).DiTConfig)).Err(); err != nil {
		close()
		return nil, func() {}, badInput(err)
	}
	return load.FromCheckpoint(ckpt), close, nil
}

// geometry takes the published size where none is given.
func (o *benchOptions) geometry(config *configs.Config) (configs.Geometry, error) {
	size := configs.Size{Height: 512, Width: 768}
	if config.Metrics.Resolution >= 1024 {
		size = configs.Size{Height: 1024, Width: 1024}
	}
	switch {
	case (o.size.width == 0) != (o.size.height == 0):
		return configs.Geometry{}, badInput(fmt.Errorf("give both --width and --height"))
	case o.size.width != 0:
		size = configs.Size{Height: o.size.height, Width: o.size.width}
	}
	g, err := config.Geometry(o.size.seconds, size)
	return g, badInput(err)
}

func printBench(w io.Writer, r *bench.Report, kernels int) error {
	attention := ""
	if r.SparseCounted {
		attention = " (attention is sparse here but counted in full)"
	}
	rows := []string{
		fmt.Sprintf("device\t%s, %s, kernels %s", r.Device, r.Driver, r.Kernels),
		fmt.Sprintf("model\t%s, %s precision", r.Config, r.Precision),
		fmt.Sprintf("work\t%d s of %d×%d: %d visual and %d text tokens, %d branches of %.3g TFLOP%s", r.Seconds, r.Size.Width, r.Size.Height, r.Tokens, r.TextTokens, r.Branches, r.Work.Total()/1e12, attention),
		fmt.Sprintf("blocks\t%s", r.PlanText),
		fmt.Sprintf("loading\t%s", seconds(r.LoadTime)),
	}
	for k, p := range r.Passes {
		device := ""
		if p.DeviceTime > 0 {
			device = fmt.Sprintf(", %s on the device", seconds(p.DeviceTime))
		}
		rows = append(rows, fmt.Sprintf("pass %d\t%s%s, %.3g TFLOP/s, %s recording, %d dispatches, %d barriers, %d submits", k+1, seconds(p.Time), device, p.TFLOPS, seconds(p.RecordTime), p.Dispatches, p.Barriers, p.Submits))
	}
	rows = append(rows, fmt.Sprintf("peak memory\tdevice %s, pinned %s", memory.Size(r.PeakDevice), memory.Size(r.PeakPinned)))
	if t := r.Timing; r.BytesPerPass > 0 {
		rows = append(rows, fmt.Sprintf("bus\t%s a pass (%d blocks of %s)", memory.Size(r.BytesPerPass), r.Plan.LoadsPerPass(), memory.Size(r.BlockBytes)))
		if t.Copies > 0 {
			rows = append(rows,
				fmt.Sprintf("copies\t%.3g GB/s in %d copies, transfer queue idle %s between them", r.CopyRate/1e9, t.Copies, seconds(t.TransferIdle)),
				fmt.Sprintf("stalls\tcompute waited %s for copies in %d of %d blocks (longest %s), blocks computed %s", seconds(t.Stall), t.Stalled, t.Blocks, seconds(t.Longest), seconds(t.Compute)),
			)
		}
		rows = append(rows, fmt.Sprintf("host\tread blocks %s, waited for submits %s", seconds(r.Swap.ReadTime), seconds(r.Swap.HostWait)))
	}
	if err := table(w, rows); err != nil {
		return err
	}
	return printKernels(w, r.Passes[len(r.Passes)-1], kernels)
}

// printKernels lists where the last pass's time went.
func printKernels(w io.Writer, p bench.Pass, n int) error {
	if len(p.Kernels) == 0 || n <= 0 {
		return nil
	}
	fmt.Fprintln(w, "\nkernels of the last pass:")
	var rows []string
	for _, k := range p.Kernels[:min(n, len(p.Kernels))] {
		rows = append(rows, fmt.Sprintf("  %s\t%s\t%.1f %%\t%d calls", k.Label, seconds(k.Time), 100*k.Time.Seconds()/p.DeviceTime.Seconds(), k.Calls))
	}
	return table(w, rows)
}

// seconds prints a time to three digits or so: 8.75 s, 12.3 ms.
func seconds(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.0f µs", float64(d)/1e3)
}
