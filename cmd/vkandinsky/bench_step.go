package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	model                   modelFlags
	lora                    loraFlags
	size                    sizeFlags
	swap                    swapFlags
	attention               attentionFlag
	device                  deviceFlags
	log                     logFlags
	files                   timelineFlags
	synthetic, resident     bool
	guided, noTimings, json bool
	start                   bool // compare the start with reading the files
	late                    bool // compile kernels where they are needed
	passes, kernels, blocks int
	pinned                  int // blocks of the mixed tier
}

func benchStepCommand() *command {
	cmd := &command{
		name: "step", summary: "forward passes of the transformer, with or without block swapping",
		about: "Runs forward passes of the transformer at full shape and prints their time and arithmetic rate, the memory they\n" +
			"took, and what block swapping cost. Text encoders and VAE are left out. With --synthetic no checkpoint is needed.",
		examples: []string{
			"vkandinsky bench --config config_5s_i2v_pro_20b --synthetic --blocks-in-memory 2 --video-duration 5",
			"vkandinsky bench --config k5_lite_i2v_5s_sft_sd --synthetic --resident --passes 3 --json",
			"vkandinsky bench step --config config_5s_i2v_pro_20b --synthetic --blocks 12 --blocks-in-memory 2 --timeline step.svg",
		},
	}
	var o benchOptions
	f := o.registerWork(cmd)
	f.BoolVar(&o.start, "start", false, "read the checkpoint's files once first, and compare the start with that")
	f.BoolVar(&o.late, "compile-late", false, "compile kernels when they are needed, not while the weights are read, to compare")
	f.BoolVar(&o.resident, "resident", false, "keep all blocks on the device, whatever the configuration says")
	f = o.registerDevice(cmd)
	f.IntVar(&o.kernels, "kernel-times", 10, "list the `NUMBER` of kinds of kernels that took most time")
	f.BoolVar(&o.noTimings, "no-timings", false, "no timestamp queries: no kernel times, stalls or copy rates")
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c, cmd)
	}
	return cmd
}

// registerWork registers what is computed and returns the group about swapping.
func (o *benchOptions) registerWork(cmd *command) *pflag.FlagSet {
	f := cmd.flags.group("Model")
	o.model.register(f)
	o.lora.register(f)
	f.BoolVar(&o.synthetic, "synthetic", false, "make the weights up")
	f.IntVar(&o.blocks, "blocks", 0, "only `NUMBER` visual blocks of a made-up model, to measure sooner (default all)")
	f = cmd.flags.group("Work")
	o.size.register(f)
	o.attention.register(f)
	f.IntVar(&o.passes, "passes", 2, "`NUMBER` of forward passes; the first compiles kernels")
	f.BoolVar(&o.guided, "guided", false, "two branches per pass, as with a guidance weight other than 1")
	f = cmd.flags.group("Block swapping")
	o.swap.register(f)
	f.IntVar(&o.pinned, "pinned-blocks", 0, "of the blocks that wait, how many `BLOCKS` are pinned with --host-tier mixed; the others are read for every pass")
	return f
}

// registerDevice registers where it is computed, and returns the group about output.
func (o *benchOptions) registerDevice(cmd *command) *pflag.FlagSet {
	o.device.register(cmd.flags.group("Device"))
	f := cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	o.files.register(f)
	o.log.register(f)
	return f
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
	engineOptions.CompileLate = o.late
	var report *bench.Report
	err = withDevice(ctx, engineOptions, func(d *engine.Device) (err error) {
		if err := o.files.check(d); err != nil {
			return err
		}
		report, err = bench.Run(ctx, d, work)
		return err
	})
	if err != nil {
		return err
	}
	if err := o.files.write(report.Trace, stepTitle(report), stepNotes(report)...); err != nil {
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
	o.device.bytes = o.attention.sage()
	if eo, err = o.device.options(log); err != nil {
		return
	}
	eo.Timings = !o.noTimings
	if o.noTimings && (o.files.picture != "" || o.files.trace != "") {
		err = badInputf("--timeline and --trace need what --no-timings leaves out")
		return
	}
	if err = o.files.checkPaths(); err != nil {
		return
	}
	work.Guided, work.Passes = o.guided, o.passes
	if work.Passes < 1 || work.Passes > 1000 {
		err = badInput(fmt.Errorf("--passes %d: use 1 to 1000", work.Passes))
		return
	}
	if work.Config, err = o.config(); err != nil {
		return
	}
	if work.Geometry, err = o.size.geometry(work.Config); err != nil {
		return
	}
	if work.Precision, err = o.model.precision(); err != nil {
		return
	}
	if work.Linear, err = o.model.linear(work.Precision); err != nil {
		return
	}
	if work.Attention, err = o.attention.checked(work.Precision); err != nil {
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
	work.Swap = dit.SwapOptions{Slots: blocks, Stream: o.swap.stream, Policy: o.swap.policy(), Tier: o.swap.tier(), Pinned: o.pinned, Host: o.swap.host()}
	if o.pinned < 0 || (o.pinned > 0) != (work.Swap.Tier == swap.Mixed) {
		err = badInputf("--pinned-blocks %d: --host-tier mixed needs a number of blocks to pin, and no other tier has one", o.pinned)
		return
	}
	if o.start && o.synthetic {
		err = badInputf("--start compares with reading a checkpoint: it excludes --synthetic")
		return
	}
	if work.Weights, work.Files, close, err = o.weights(work.Config); err != nil {
		return
	}
	if !o.start {
		work.Files = nil
	}
	work.Weights, close, err = o.lora.adapt(work.Weights, work.Config, close)
	return
}

// weights opens the transformer, or makes it up, and returns the files that it lies in.
func (o *benchOptions) weights(config *configs.Config) (load.Reader, []string, func(), error) {
	if o.synthetic {
		return load.Synthetic(weights.BF16), nil, func() {}, nil
	}
	found, err := o.model.checkpoint(config)
	if err != nil {
		return nil, nil, func() {}, err
	}
	ckpt, err := found.Layout.DiT.Open(weights.DiT)
	if err != nil {
		return nil, nil, func() {}, badInput(err)
	}
	var files []string
	for _, f := range ckpt.Files() {
		files = append(files, f.Path())
	}
	close := func() { ckpt.Close() }
	if err := weights.Check(ckpt, weights.DiTSpec(kandinsky5.DiTConfig(config).DiTConfig)).Err(); err != nil {
		close()
		return nil, nil, func() {}, badInput(err)
	}
	return load.FromCheckpoint(ckpt), files, close, nil
}

// config is the model's configuration, with fewer visual blocks where that is asked for.
func (o *benchOptions) config() (*configs.Config, error) {
	c, err := o.model.config()
	if err != nil || o.blocks == 0 {
		return c, err
	}
	all := c.Model.DiT.NumVisualBlocks
	switch {
	case !o.synthetic:
		return nil, badInputf("--blocks %d cuts a made-up model short: it needs --synthetic", o.blocks)
	case o.blocks < 1 || o.blocks > all:
		return nil, badInputf("--blocks %d: the model has %d visual blocks, use 1 to %d", o.blocks, all, all)
	}
	fewer := *c
	fewer.Model.DiT.NumVisualBlocks = o.blocks
	fewer.BlockSwap.BlocksInMemory = min(c.BlockSwap.BlocksInMemory, o.blocks)
	return &fewer, nil
}

// geometry takes the published size where none is given.
func (s *sizeFlags) geometry(config *configs.Config) (configs.Geometry, error) {
	size := config.DefaultSize()
	switch {
	case (s.width == 0) != (s.height == 0):
		return configs.Geometry{}, badInput(fmt.Errorf("give both --width and --height"))
	case s.width != 0:
		size = configs.Size{Height: s.height, Width: s.width}
	}
	g, err := config.Geometry(s.duration(config), size)
	return g, badInput(err)
}

func printBench(w io.Writer, r *bench.Report, kernels int) error {
	attention := ""
	if r.SparseCounted {
		attention = " (attention is sparse here but counted in full)"
	}
	branches := "1 branch"
	if r.Branches > 1 {
		branches = fmt.Sprintf("%d branches", r.Branches)
	}
	rows := []string{
		fmt.Sprintf("device\t%s, %s, kernels %s", r.Device, r.Driver, r.Kernels),
		fmt.Sprintf("model\t%s, %s precision", r.Config, r.Precision),
		fmt.Sprintf("work\t%d s of %d×%d: %d visual and %d text tokens, %s of %s%s", r.Seconds, r.Size.Width, r.Size.Height, r.Tokens, r.TextTokens, branches, units.Rate(r.Work.Total(), "FLOP"), attention),
		fmt.Sprintf("blocks\t%s; waiting in %s", r.PlanText, r.HostWeights),
		fmt.Sprintf("start\t%s for the weights (pinned memory %s of it), %s for the text blocks", seconds(r.LoadTime), seconds(r.Swap.PinTime), seconds(r.TextTime)),
		pipelinesRow(r.Pipelines),
	}
	if r.Rounding != nil {
		rows = append(rows, fmt.Sprintf("linear\t%s", r.Rounding))
	}
	if r.Attention == load.AttentionSage.String() {
		rows = append(rows, "attention\tsage: scores of 8-bit integers")
	}
	if r.ReadOnce > 0 {
		rows = append(rows, fmt.Sprintf("\treading the files once takes %s: the start takes %.2f times as long", seconds(r.ReadOnce), r.StartRatio))
	}
	for k, p := range r.Passes {
		device := ""
		if p.DeviceTime > 0 {
			device = fmt.Sprintf(", %s on the device", seconds(p.DeviceTime))
		}
		rows = append(rows, fmt.Sprintf("pass %d\t%s%s, %s, %s recording, %d dispatches, %d barriers, %d submits", k+1, seconds(p.Time), device, units.Rate(p.TFLOPS*1e12, "FLOP/s"), seconds(p.RecordTime), p.Dispatches, p.Barriers, p.Submits))
	}
	rows = append(rows, fmt.Sprintf("peak memory\tdevice %s, pinned %s", memory.Size(r.PeakDevice), memory.Size(r.PeakPinned)))
	if t := r.Timing; r.BytesPerPass > 0 {
		rows = append(rows, fmt.Sprintf("bus\t%s a pass (%d blocks of %s)", memory.Size(r.BytesPerPass), r.Plan.LoadsPerPass(), memory.Size(r.BlockBytes)))
		if t.Copies > 0 {
			rows = append(rows,
				fmt.Sprintf("copies\t%.3g GB/s in %d copies, transfer queue idle %s between them", r.CopyRate/1e9, t.Copies, seconds(t.TransferIdle)),
				fmt.Sprintf("stalls\tcompute waited %s for copies in %d of %d blocks (longest %s), blocks computed %s, %s between blocks for other reasons", seconds(t.Stall), t.Stalled, t.Blocks, seconds(t.Longest), seconds(t.Compute), seconds(t.Gap)),
			)
		}
		if r.Disorder > 0 {
			rows = append(rows, fmt.Sprintf("note\tthe clocks of the two queues differ (%d impossible orders): stalls and idle times mean nothing", r.Disorder))
		}
		rows = append(rows, fmt.Sprintf("host\t%d blocks wait in pinned memory, %d were read on the way; reading took %s, waiting for submits %s", r.Swap.PinnedBlocks, r.Swap.Reads, seconds(r.Swap.ReadTime), seconds(r.Swap.HostWait)))
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if err := printKernels(w, r.Passes[len(r.Passes)-1], kernels); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Verdict.Text)
	return err
}

// stepTitle says in a line what was run.
func stepTitle(r *bench.Report) string {
	return fmt.Sprintf("%s, %d s of %d×%d, %d tokens: %s", r.Config, r.Seconds, r.Size.Width, r.Size.Height, r.Tokens, r.PlanText)
}

// stepNotes are the lines below a picture's title.
func stepNotes(r *bench.Report) []string {
	notes := []string{fmt.Sprintf("%s, %s, kernels %s: %s", r.Device, r.Driver, r.Kernels, r.Verdict.Text)}
	if r.CopyRate > 0 {
		notes = append(notes, fmt.Sprintf("%s over the bus a pass, at %s inside copies", memory.Size(r.BytesPerPass), units.Rate(r.CopyRate, "B/s")))
	}
	return notes
}

// pipelinesRow says which kernels were compiled when.
func pipelinesRow(n engine.PipelineCounts) string {
	return fmt.Sprintf("kernels\t%d compiled beside the start, %d when they were needed, %s waited for them", n.Made-n.Late, n.Late, seconds(n.Waited))
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
func seconds(d time.Duration) string { return units.Seconds(d) }
