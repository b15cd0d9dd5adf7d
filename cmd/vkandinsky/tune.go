package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/progress"
	"github.com/vkandinsky/vkandinsky/models/tune"
)

// tuneOptions are the flags of tune.
type tuneOptions struct {
	model       modelFlags
	size        sizeFlags
	attention   attentionFlag
	device      deviceFlags
	log         logFlags
	quick, json bool
	clear, ways bool
	limit       time.Duration
}

func tuneCommand() *command {
	cmd := &command{
		name: "tune", summary: "measure which tiles are fastest on a device for a model, and keep them",
		about: "Measures, for every operation of a model's forward pass at full shape, which of the ways to compute it is fastest on this\n" +
			"device, and keeps the answers in the cache folder for this device and driver. All later runs take them. It needs no\n" +
			"checkpoint. Without --config or --checkpoint-dir it lists what is kept. Linear layers have several ways, which give\n" +
			"the same bits, and attention, whose ways differ by rounding: a tuned device's frames can differ in their last bits from\n" +
			"an untuned one's. All else has one way. Block-sparse attention is counted as if it were full. Nothing has to be tuned:\n" +
			"the defaults are sane. It says beforehand how long it will measure, and at the end what a pass gains. What takes most time is\n" +
			"measured first; when it is interrupted, what was measured until then is kept.",
		examples: []string{
			"vkandinsky tune --config config_5s_i2v_pro_20b",
			"vkandinsky tune --config k5_lite_i2v_5s_sft_sd --quick --json",
			"vkandinsky tune --clear",
		},
	}
	var o tuneOptions
	o.model.register(cmd.flags.group("Model"))
	f := cmd.flags.group("Work")
	o.size.register(f)
	o.attention.register(f)
	f.BoolVar(&o.quick, "quick", false, "fewer repetitions, and only the operations in which most time goes")
	f.DurationVar(&o.limit, "limit", 0, "measure no longer than about `TIME`, what is most costly first (default 2m, with --quick 30s)")
	f.BoolVar(&o.clear, "clear", false, "forget what was measured on this device before")
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.ways, "ways", false, "list every way that was measured, not only the chosen one beside the default")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c)
	}
	return cmd
}

func (o *tuneOptions) run(ctx context.Context, c *console) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	o.device.bytes = o.attention.sage()
	engineOptions, err := o.device.options(log)
	if err != nil {
		return err
	}
	if engineOptions.CacheDir == "" {
		return badInput(fmt.Errorf("--cache-dir is empty: there is nowhere to keep what is measured"))
	}
	if o.clear {
		if err := forget(engineOptions); err != nil {
			return err
		}
	}
	if o.model.configName == "" && o.model.dir == "" {
		return o.list(ctx, c, engineOptions)
	}
	work, err := o.work()
	if err != nil {
		return err
	}
	engineOptions.Timings = true
	if !o.log.quiet {
		reporter, done := c.progress()
		defer done()
		work.Progress = showTuning(reporter)
	}
	var report *tune.Report
	err = withDevice(ctx, engineOptions, func(d *engine.Device) (err error) {
		report, err = tune.Run(ctx, d, work)
		return err
	})
	if report != nil && (err == nil || report.Interrupted) {
		err = errors.Join(err, o.print(c, report))
	}
	return err
}

func (o *tuneOptions) print(c *console, report *tune.Report) error {
	if o.json {
		return c.printJSON(report)
	}
	return printTuning(c.out, report, o.ways)
}

// showTuning shows a stage for what is done, and one for all that is measured, with the time left.
func showTuning(reporter *progress.Reporter) func(p tune.Progress) {
	return func(p tune.Progress) {
		if p.Total == 0 {
			reporter.Stage(p.What, 0)
			return
		}
		if p.Done == 0 {
			reporter.Stage(fmt.Sprintf("measuring %d operations, about %v", p.Total, p.Left.Round(time.Second)), p.Total)
		}
		reporter.Step(p.Done)
	}
}

// work turns the flags into what is to be tuned for.
func (o *tuneOptions) work() (work tune.Options, err error) {
	work.Quick, work.Limit = o.quick, o.limit
	if o.limit < 0 {
		return work, badInputf("--limit %v: use a time above 0, such as 1m", o.limit)
	}
	if work.Config, err = o.model.config(); err != nil {
		return work, err
	}
	if work.Geometry, err = o.size.geometry(work.Config); err != nil {
		return work, err
	}
	if work.Precision, err = o.model.precision(); err != nil {
		return work, err
	}
	if work.Linear, err = o.model.linear(work.Precision); err != nil {
		return work, err
	}
	work.Attention, err = o.attention.checked(work.Precision)
	return work, err
}

// forget removes what was kept for the device.
func forget(o engine.Options) error {
	s, release, err := engine.FindDevice(o)
	if err != nil {
		return err
	}
	defer release()
	if err := os.Remove(engine.TuningFile(o.CacheDir, s.Physical.Info)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// list prints the choices that are in force.
func (o *tuneOptions) list(ctx context.Context, c *console, engineOptions engine.Options) error {
	return withDevice(ctx, engineOptions, func(d *engine.Device) error {
		all := d.Tuning().All()
		if o.json {
			return c.printJSON(all)
		}
		if len(all) == 0 {
			fmt.Fprintf(c.out, "nothing is tuned on %s: vkandinsky tune --config NAME measures\n", d.Summary.Physical.Info.Name)
			return nil
		}
		rows := []string{"kernel\tshape\tchoice\ttime\tdefault\tfaster"}
		for _, e := range all {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%.2f×", e.Kernel, e.Shape, e.Choice, duration(e.Seconds), duration(e.Default), e.Default/max(e.Seconds, 1e-12)))
		}
		return table(c.out, rows)
	})
}

// printTuning lists what is faster than by default and by how much, or with ways all that was measured.
func printTuning(w io.Writer, r *tune.Report, ways bool) error {
	fmt.Fprintf(w, "%s, %s, kernels %s, %s, %d tokens\n", r.Device, r.Driver, r.Kernels, r.Config, r.Tokens)
	if len(r.Results) == 0 && r.Left == 0 && !r.Interrupted {
		_, err := fmt.Fprintln(w, "no operation has more than one way on this device: there is nothing to tune")
		return err
	}
	rows := []string{"kernel\tshape\tdefault\ttime\tchosen\ttime\tfaster"}
	if ways {
		rows = []string{"kernel\tshape\tway\ttime\tspeed\t"}
	}
	better := 0
	for _, result := range r.Results {
		if result.Choice != result.Default {
			better++
		}
		if ways {
			rows = append(rows, wayRows(result)...)
		} else {
			rows = append(rows, choiceRow(result))
		}
	}
	if len(r.Results) > 0 {
		if err := table(w, rows); err != nil {
			return err
		}
		fmt.Fprintf(w, "%d of %d operations are faster than by default; kept in %s\n", better, len(r.Results), r.File)
	}
	if r.Left > 0 {
		why := "they would pass the limit (--limit)"
		if r.Interrupted {
			why = "it was interrupted"
		}
		fmt.Fprintf(w, "%d operations were not measured: %s\n", r.Left, why)
	}
	if text := gainText(r, better); text != "" {
		fmt.Fprintln(w, text)
	}
	text := "took " + seconds(r.Took)
	if r.Compiling > 100*time.Millisecond {
		text += fmt.Sprintf(", %s of them to compile %d kernels, which are kept", seconds(r.Compiling), r.Compiled)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// gainText says what a pass of the whole model gains, "" where that is not known.
func gainText(r *tune.Report, better int) string {
	p := r.Pass
	switch {
	case p == nil && !r.Interrupted && r.Left == 0 && better == 0:
		return "a pass gains nothing: the defaults are the fastest here"
	case p == nil:
		return ""
	}
	text := fmt.Sprintf("a pass of %d blocks takes %s by default and %s as chosen (from passes of one block)", p.Blocks, seconds(p.Default), seconds(p.Tuned))
	if p.Tuned < p.Default {
		return fmt.Sprintf("%s: %.1f %% less", text, 100*(1-float64(p.Tuned)/float64(p.Default)))
	}
	return text + ": times on this device are too unsteady for a gain to show; --clear forgets the choices"
}

// choiceRow is an operation with its default and what was chosen.
func choiceRow(r tune.Result) string {
	row := fmt.Sprintf("%s\t%s\t%s\t%s", r.Kernel, r.Shape, r.Default, duration(r.Of(r.Default).Seconds))
	if r.Choice == r.Default {
		return row + "\tdefault\t\t"
	}
	return row + fmt.Sprintf("\t%s\t%s\t%.2f×", r.Choice, duration(r.Of(r.Choice).Seconds), r.Speedup)
}

// wayRows are all ways of an operation.
func wayRows(r tune.Result) (rows []string) {
	for n, m := range r.Ways {
		kernel, shape := r.Kernel, r.Shape
		if n > 0 {
			kernel, shape = "", ""
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", kernel, shape, m.Way, duration(m.Seconds), flops(m.TFLOPS), wayNote(r, m)))
	}
	return rows
}

// duration prints seconds that are a number.
func duration(s float64) string { return seconds(time.Duration(s * 1e9)) }

// flops prints a rate given in TFLOP/s.
func flops(rate float64) string {
	if rate < 0.5 {
		return fmt.Sprintf("%.3g GFLOP/s", rate*1e3)
	}
	return fmt.Sprintf("%.3g TFLOP/s", rate)
}

// wayNote says what a way is among the others.
func wayNote(r tune.Result, m tune.Measure) string {
	note := ""
	switch {
	case m.Way == r.Choice && r.Choice == r.Default:
		note = "default, stays"
	case m.Way == r.Choice:
		note = fmt.Sprintf("chosen, %.2f× the default", r.Speedup)
	case m.Way == r.Default:
		note = "default"
	case m.Stopped:
		note = "far slower"
	}
	return note
}
