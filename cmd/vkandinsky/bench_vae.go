package main

import (
	"context"
	"fmt"
	"io"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// benchVAEOptions are the flags of bench vae.
type benchVAEOptions struct {
	model                  modelFlags
	width, height, frames  int
	rounds, parts          int
	noTimings, json, small bool
	device                 deviceFlags
	log                    logFlags
}

func benchVAECommand() *command {
	cmd := &command{
		name: "vae", summary: "a whole decode of the autoencoder",
		about: "Decodes made-up latents to frames with the published autoencoder and made-up weights, in the reference's tiles in time and\n" +
			"whole frames, until the bytes of all frames are on the host.",
		examples: []string{"vkandinsky bench vae", "vkandinsky bench vae --frames 25 --width 512 --height 512 --rounds 3 --json"},
	}
	var o benchVAEOptions
	f := cmd.flags.group("Work")
	f.IntVar(&o.frames, "frames", 121, "`NUMBER` of frames, one more than a multiple of 4")
	f.IntVar(&o.width, "width", 768, "`PIXELS`, a multiple of 8")
	f.IntVar(&o.height, "height", 512, "`PIXELS`, a multiple of 8")
	f.IntVar(&o.rounds, "rounds", 2, "`NUMBER` of decodes; the first compiles kernels")
	f.BoolVar(&o.small, "small", false, "a network of few channels instead of the published one, to try the command")
	f.StringVar(&o.model.precisionName, "precision", "mixed", "`HOW` exactly to compute: mixed (16-bit operands, fp32 sums) or f32")
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.IntVar(&o.parts, "kernel-times", 10, "list the `NUMBER` of kinds of kernels that took most time")
	f.BoolVar(&o.noTimings, "no-timings", false, "no timestamp queries: no kernel times")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c)
	}
	return cmd
}

// options checks the flags.
func (o *benchVAEOptions) options() (bench.VAEOptions, error) {
	b := bench.VAEOptions{Config: weights.HunyuanVAE(), Weights: load.Synthetic(weights.F16), Rounds: o.rounds,
		Size: vae.Size{Frames: o.frames, Height: o.height, Width: o.width}}
	if o.small {
		b.Config = weights.SmallSynth().VAE
	}
	switch {
	case o.frames < 1 || o.frames%4 != 1 || o.frames > 1001:
		return b, badInputf("--frames %d: use 1, 5, 9 and so on up to 1001", o.frames)
	case o.width < 16 || o.height < 16 || o.width%8 != 0 || o.height%8 != 0 || o.width > 2048 || o.height > 2048:
		return b, badInputf("size %d×%d: use multiples of 8 from 16 to 2048", o.width, o.height)
	case o.rounds < 1 || o.rounds > 1000:
		return b, badInputf("--rounds %d: use 1 to 1000", o.rounds)
	}
	var err error
	b.Precision, err = o.model.precision()
	return b, err
}

func (o *benchVAEOptions) run(ctx context.Context, c *console) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	engineOptions, err := o.device.options(log)
	if err != nil {
		return err
	}
	engineOptions.Timings = !o.noTimings
	if !o.log.quiet {
		reporter, done := c.progress()
		defer done()
		options.Progress = func(round, n, total int) {
			if n == 0 {
				reporter.Stage(fmt.Sprintf("decode %d of %d", round+1, options.Rounds), total)
			}
			reporter.Step(n)
		}
	}
	var report *bench.VAEReport
	err = withDevice(ctx, engineOptions, func(d *engine.Device) (err error) {
		report, err = bench.RunVAE(ctx, d, options)
		return err
	})
	if err != nil {
		return err
	}
	if o.json {
		return c.printJSON(report)
	}
	return printVAE(c.out, report, o.parts)
}

func printVAE(w io.Writer, r *bench.VAEReport, parts int) error {
	rows := []string{
		fmt.Sprintf("device\t%s, %s, kernels %s, %s precision", r.Device, r.Driver, r.Kernels, r.Precision),
		fmt.Sprintf("work\t%d frames of %d×%d, %s", r.Size.Frames, r.Size.Width, r.Size.Height, units.Rate(r.Work.Total(), "FLOP")),
		fmt.Sprintf("start\t%s for the weights", seconds(r.LoadTime)),
		pipelinesRow(r.Pipelines),
	}
	for k, n := range r.Rounds {
		device := ""
		if n.DeviceTime > 0 {
			device = fmt.Sprintf(", %s on the device", seconds(n.DeviceTime))
		}
		rows = append(rows, fmt.Sprintf("decode %d\t%s%s, %s, %s recording, %d dispatches, %d submits", k+1, seconds(n.Time), device, units.Rate(n.TFLOPS*1e12, "FLOP/s"), seconds(n.RecordTime), n.Dispatches, n.Submits))
	}
	rows = append(rows, fmt.Sprintf("peak memory\tdevice %s", memory.Size(r.PeakDevice)))
	if err := table(w, rows); err != nil {
		return err
	}
	last := r.Rounds[len(r.Rounds)-1]
	return printKernels(w, bench.Pass{Kernels: last.Parts, DeviceTime: last.DeviceTime}, parts)
}
