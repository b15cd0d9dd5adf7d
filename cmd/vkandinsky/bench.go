package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/engine"
)

// benchCommand is bench step with the other measurements below it.
func benchCommand() *command {
	cmd := benchStepCommand()
	step := benchStepCommand()
	cmd.name, cmd.summary = "bench", "measure forward passes, block swapping, kernels and copies"
	cmd.about = "Without a word after it, the same as bench step: forward passes of the transformer.\n" + cmd.about
	cmd.subs = append([]*command{step}, benchPipelineCommand(), benchSwapCommand(), benchMatmulCommand(), benchAttentionCommand(), benchConvCommand(), benchCopyCommand(), benchVAECommand())
	run := cmd.run
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if len(args) > 0 {
			return unknownCommand("measurement", args[0], cmd.subs, "vkandinsky help bench")
		}
		return run(ctx, c, args)
	}
	return cmd
}

// leastFlag is how long a measurement takes at least.
type leastFlag struct{ least time.Duration }

func (l *leastFlag) register(f *pflag.FlagSet) {
	f.DurationVar(&l.least, "least", 300*time.Millisecond, "repeat each measurement until it took this `TIME`, from 1ms to 1m")
}

func (l *leastFlag) check() error {
	if l.least < time.Millisecond || l.least > time.Minute {
		return badInputf("--least %v: use 1ms to 1m", l.least)
	}
	return nil
}

// measuring runs work on a device, showing progress unless quiet. The marks cost next to nothing; single kernels are not
// timed.
func measuring(ctx context.Context, c *console, d *deviceFlags, l *logFlags, stage string, work func(d *engine.Device, progress func(done, total int)) error) error {
	log, err := l.logger(c)
	if err != nil {
		return err
	}
	options, err := d.options(log)
	if err != nil {
		return err
	}
	options.Marks = true
	progress := func(int, int) {}
	if !l.quiet {
		reporter, done := c.progress()
		defer done()
		reporter.Stage(stage, 0)
		progress = func(n, total int) {
			reporter.Total(total)
			reporter.Step(n)
		}
	}
	return withDevice(ctx, options, func(d *engine.Device) error { return work(d, progress) })
}
