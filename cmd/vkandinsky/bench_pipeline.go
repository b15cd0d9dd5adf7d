package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/synth"
)

// benchPipelineOptions are the flags of bench pipeline: generate's without the output, and the budgets.
type benchPipelineOptions struct {
	generateOptions
	budgets                   byteSizes
	synthetic, smallest, json bool
	blocks                    int
	report                    string
}

// benchPrompt is encoded where no other is given: long enough to fill what is kept of a prompt.
const benchPrompt = "A wooden boat lies on a lake at sunrise. The camera glides over the water towards it while mist drifts between the reeds and a heron takes off; " +
	"ripples spread in rings, the light turns from grey to gold, and far behind the hills a storm that has passed in the night still flickers without a sound."

func benchPipelineCommand() *command {
	cmd := &command{
		name: "pipeline", summary: "whole runs under budgets of device memory, planned beside measured",
		about: "Makes a clip under each of several budgets of device memory, from the text encoders to the last frame, and compares: what the\n" +
			"plan chose, planned and measured peaks stage by stage, seconds a step against those of the largest budget, and whether\n" +
			"the bits of the latents are the same. With --synthetic no checkpoint is needed: all networks of the configuration are made\n" +
			"up while they are read. Exit status 1: some budget was not kept or not enough.",
		examples: []string{
			"vkandinsky bench pipeline --config config_5s_i2v_pro_20b --synthetic --vram-budget 48GiB,24GiB,16GiB,12GiB,8GiB,6GiB --sample-steps 2",
			"vkandinsky bench pipeline --config config_5s_i2v_pro_20b --synthetic --blocks 12 --vram-budget 24GiB,6GiB --sample-steps 2 --json",
			"vkandinsky bench pipeline --checkpoint-dir FOLDER --vram-budget 12GiB --ram-budget 32GiB --sample-steps 2",
		},
	}
	var o benchPipelineOptions
	o.model.tinyDefault = true
	f := cmd.flags.group("Model")
	o.model.register(f)
	f.BoolVar(&o.synthetic, "synthetic", false, "make the weights up")
	f.IntVar(&o.blocks, "blocks", 0, "only `NUMBER` visual blocks of a made-up model, to measure sooner (default all)")
	o.request.register(cmd.flags.group("Video"))
	f = cmd.flags.group("Memory")
	o.swap.register(f)
	o.hold.register(f)
	f.BoolVar(&o.smallest, "smallest", false, "also run with the smallest budget that works by plan")
	f = cmd.flags.group("Device")
	o.device.register(f)
	budget := f.Lookup("vram-budget")
	budget.Value, budget.Usage = &o.budgets, "budgets of device memory, a run each: 24GiB,12GiB; by default one run with what is free"
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.report, "report", "", "also write the JSON to `FILE`, after each run")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c, cmd)
	}
	return cmd
}

func (o *benchPipelineOptions) run(ctx context.Context, c *console, cmd *command) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	work, engineOptions, err := o.check(cmd, log)
	if err != nil {
		return err
	}
	if !o.log.quiet {
		reporter, done := c.progress()
		defer done()
		at := ""
		show := showProgress(reporter, &promptStream{log: log})
		work.Began = func(run, runs int, budget int64) {
			at = fmt.Sprintf("%s (%d of %d): ", memory.Size(budget), run+1, runs)
		}
		work.Request.Progress = func(p kandinsky5.Progress) {
			p.Stage = kandinsky5.Stage(at + string(p.Stage))
			show(p)
		}
	}
	work.Finished = func(r *bench.PipelineReport) error {
		run := r.Runs[len(r.Runs)-1]
		log.Info("a run is over", "budget", memory.Size(run.Budget), "fits", run.Fits, "planned", memory.Size(run.PlannedDevice), "peak", memory.Size(run.PeakDevice),
			"step", seconds(run.Step), "by the largest", fmt.Sprintf("%.3f", run.Ratio), "took", seconds(run.Took))
		if o.report == "" {
			return nil
		}
		return media.WriteFile(o.report, func(w io.Writer) error { return writeJSON(w, r) })
	}
	var report *bench.PipelineReport
	failed := withDevice(ctx, engineOptions, func(d *engine.Device) (err error) {
		report, err = bench.RunPipeline(ctx, d, work)
		return err
	})
	if report == nil || failed != nil && len(report.Runs) == 0 {
		return failed
	}
	if o.json {
		err = c.printJSON(report)
	} else {
		err = printPipeline(c.out, report)
	}
	if failed != nil || err != nil {
		return errors.Join(failed, err)
	}
	return pipelineError(report)
}

// check turns the flags into what is to be run.
func (o *benchPipelineOptions) check(cmd *command, log *slog.Logger) (work bench.PipelineOptions, eo engine.Options, err error) {
	if o.request.prompt == "" {
		o.request.prompt = benchPrompt
	}
	if !cmd.flags.changed("negative-prompt") {
		o.request.negative = o.request.prompt // as long: plans count the longest for both
	}
	if err = o.request.checkUpstream(log); err != nil {
		return
	}
	o.device.bytes = o.request.attention.sage()
	if eo, err = o.device.options(log); err != nil {
		return
	}
	if o.report != "" {
		if err = badInput(media.CheckFile(o.report)); err != nil {
			return
		}
	}
	eo.Marks = true
	for _, b := range o.budgets {
		eo.DeviceBudget = max(eo.DeviceBudget, b)
	}
	config, err := o.config()
	if err != nil {
		return
	}
	if work.Options, err = o.options(&cmd.flags, config, log); err != nil {
		return
	}
	if work.Request, err = o.request.request(&cmd.flags, config); err != nil {
		return
	}
	if err = o.picture(config, &work.Request); err != nil {
		return
	}
	if _, err = kandinsky5.Resolve(config, work.Request); err != nil {
		err = badInput(err)
		return
	}
	work.Budgets, work.Smallest = o.budgets, o.smallest
	if work.Checkpoint, err = o.checkpoint(config); err == nil && cmd.flags.changed("expand-prompt") {
		work.Request.ExpandPrompt, err = o.request.expands(&cmd.flags, config, work.Checkpoint, false, log)
	}
	return
}

// config is the model's configuration, with fewer visual blocks where that is asked for.
func (o *benchPipelineOptions) config() (*configs.Config, error) {
	cut := benchOptions{model: o.model, synthetic: o.synthetic, blocks: o.blocks}
	return cut.config()
}

// checkpoint opens the model, or makes it up.
func (o *benchPipelineOptions) checkpoint(config *configs.Config) (*kandinsky5.Checkpoint, error) {
	if !o.synthetic {
		return o.model.checkpoint(config)
	}
	m, err := synth.Networks(config)
	if err != nil {
		return nil, badInput(err)
	}
	c, err := m.MadeUp()
	return c, badInput(err)
}

// picture makes a first frame up where one is needed and none was given: a gradient, in the size of the video.
func (o *benchPipelineOptions) picture(config *configs.Config, r *kandinsky5.Request) error {
	if config.Pipeline != configs.I2V || r.Image != nil {
		return nil
	}
	if r.Width == 0 && r.Height == 0 {
		size := config.DefaultSize()
		r.Width, r.Height = size.Width, size.Height
	}
	if r.Width < 1 || r.Height < 1 || r.Width > 4096 || r.Height > 4096 {
		return badInputf("size %d×%d: give both --width and --height in pixels, up to 2048", r.Width, r.Height)
	}
	im := media.NewImage(r.Height, r.Width)
	for k := range im.Pix {
		x, y := k/3%r.Width, k/3/r.Width
		im.Pix[k] = [3]uint8{uint8(255 * x / r.Width), uint8(255 * y / r.Height), uint8((x ^ y) & 255)}[k%3]
	}
	r.Image = im
	return nil
}

// pipelineError is nil when every budget was enough and kept.
func pipelineError(r *bench.PipelineReport) error {
	var short []string
	for _, run := range r.Runs {
		switch {
		case run.Error != "":
			short = append(short, fmt.Sprintf("%s: %s", memory.Size(run.Budget), run.Error))
		case !run.Fits:
			short = append(short, fmt.Sprintf("%s: the peak was %s", memory.Size(run.Budget), memory.Size(run.PeakDevice)))
		}
	}
	if len(short) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d budgets were not enough: %s", len(short), len(r.Runs), strings.Join(short, "; "))
}

func printPipeline(w io.Writer, r *bench.PipelineReport) error {
	fmt.Fprintf(w, "%s, %s, kernels %s\n", r.Device, r.Driver, r.Kernels)
	fmt.Fprintf(w, "%s, %s precision, linear layers %s, %d frames of %d×%d, %d tokens, %d steps of %d branches, %d visual blocks\n\n",
		r.Config, r.Precision, r.Linear, r.Geometry.Frames, r.Geometry.Size.Width, r.Geometry.Size.Height, r.Geometry.Tokens, r.Steps, r.Branches, r.Blocks)
	rows := []string{"budget\tblocks\tgroups\ttext layers\ttile\tplanned\tpeak\tdiffers\ts/step\tby largest\tstalled\tlatents"}
	for _, run := range r.Runs {
		rows = append(rows, pipelineRow(r, run))
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nstages, measured of planned:")
	if err := table(w, peakRows(r)); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nhost memory:")
	if err := table(w, hostRows(r)); err != nil {
		return err
	}
	if r.Least == 0 {
		_, err := fmt.Fprintln(w, "\nno budget of device memory is enough: pinned memory is short")
		return err
	}
	_, err := fmt.Fprintf(w, "\nthe smallest budget that works by plan is %s (%d bytes); finding it took %s\n", memory.Size(r.Least), r.Least, seconds(r.LeastTime))
	return err
}

func pipelineRow(r *bench.PipelineReport, run bench.PipelineRun) string {
	if run.Error != "" {
		return fmt.Sprintf("%s\t%s", memory.Size(run.Budget), run.Error)
	}
	stalled, latents := "-", "the same"
	if t := run.Stats.Timing; t != nil && t.Compute > 0 {
		stalled = units.Percent(t.Stall.Seconds() / t.Compute.Seconds())
	}
	if run.Latents != r.Runs[0].Latents {
		latents = "OTHER BITS"
	}
	verdict := ""
	if !run.Fits {
		verdict = " OVER"
	}
	c := run.Choice
	return fmt.Sprintf("%s\t%d+%d of %d\t%d\t%d of %d\t%d×%d\t%s\t%s%s\t%.2f %%\t%s\t%.3f\t%s\t%s", memory.Size(run.Budget),
		c.BlocksInMemory-c.StreamSlots, c.StreamSlots, r.Blocks, c.HeadGroups, c.TextLayers, c.TextLayersOf, c.Tile[1], c.Tile[0],
		memory.Size(run.PlannedDevice), memory.Size(run.PeakDevice), verdict, 100*run.Deviation, seconds(run.Step), run.Ratio, stalled, latents)
}

// peakRows are the stages' device memory and time, a column for each.
func peakRows(r *bench.PipelineReport) []string {
	var rows []string
	for _, run := range r.Runs {
		if len(rows) == 0 && len(run.Stages) > 0 {
			row := "budget"
			for _, s := range run.Stages {
				row += "\t" + string(s.Stage)
			}
			rows = append(rows, row+"\tall")
		}
		row := memory.Size(run.Budget)
		for _, s := range run.Stages {
			row += "\t" + memory.Size(s.PeakDevice)
			if s.PlannedDevice > 0 {
				row += " of " + memory.Size(s.PlannedDevice)
			}
			row += ", " + seconds(s.Took)
		}
		rows = append(rows, row+"\t"+seconds(run.Took))
	}
	return rows
}

func hostRows(r *bench.PipelineReport) []string {
	rows := []string{"budget\tblocks wait in\tpinned\tplanned\tRAM planned\tof the process\tof the control group"}
	for _, run := range r.Runs {
		if run.Error != "" {
			continue
		}
		group := "no limit"
		if run.Host.Limit > 0 {
			group = fmt.Sprintf("%s of %s, page cache %s", memory.Size(run.Host.Group), memory.Size(run.Host.Limit), memory.Size(run.Host.Cached))
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s (%s before the first run)\t%s", memory.Size(run.Budget), run.Choice.HostTier,
			memory.Size(run.PeakPinned), memory.Size(run.PlannedPinned), memory.Size(run.PlannedRAM), memory.Size(run.Host.Own), memory.Size(r.Before.Own), group))
	}
	return rows
}
