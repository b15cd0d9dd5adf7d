package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/bench"
)

// copyOptions are the flags of bench copy.
type copyOptions struct {
	sizes  []string
	kinds  []string
	least  leastFlag
	device deviceFlags
	log    logFlags
	json   bool
}

// largestCopy keeps a copy inside one allocation of any driver.
const largestCopy = 2 << 30

func benchCopyCommand() *command {
	cmd := &command{
		name: "copy", summary: "copies between host and device, alone and beside computing",
		about: "Measures the transfer queue: to the device and back, several sizes, from every kind of host memory that the device offers,\n" +
			"while nothing computes and while the compute queue multiplies matrices, and how much longer that takes meanwhile.",
		examples: []string{"vkandinsky bench copy", "vkandinsky bench copy --size 584MiB --memory cached --json"},
	}
	var o copyOptions
	f := cmd.flags.group("Work")
	f.StringSliceVar(&o.sizes, "size", []string{"1MiB", "16MiB", "128MiB", "584MiB"}, "`SIZES` of a copy, at most 2GiB")
	f.StringSliceVar(&o.kinds, "memory", nil, "`KINDS` of host memory: cached, write-combined, imported (default all that the device has)")
	o.least.register(f)
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
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
func (o *copyOptions) options() (bench.CopyOptions, error) {
	b := bench.CopyOptions{Least: o.least.least}
	for _, text := range o.sizes {
		n, err := parseByteSize(text)
		if err == nil && (n > largestCopy || n < 4096) {
			err = fmt.Errorf("%q: use 4KiB to 2GiB", text)
		}
		if err != nil {
			return b, badInputf("--size: %w", err)
		}
		b.Sizes = append(b.Sizes, n&^3)
	}
	for _, k := range o.kinds {
		kind := engine.HostKind(k)
		if !slices.Contains([]engine.HostKind{engine.HostCached, engine.HostWriteCombined, engine.HostImported}, kind) {
			return b, badInputf("--memory %q: use %s, %s or %s", k, engine.HostCached, engine.HostWriteCombined, engine.HostImported)
		}
		b.Kinds = append(b.Kinds, kind)
	}
	return b, o.least.check()
}

func (o *copyOptions) run(ctx context.Context, c *console) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	var report *bench.CopyReport
	err = measuring(ctx, c, &o.device, &o.log, "copy", func(d *engine.Device, progress func(done, total int)) (err error) {
		for _, k := range options.Kinds {
			if !slices.Contains(d.HostKinds(), k) {
				return badInputf("--memory %s: the device has no such host memory", k)
			}
		}
		options.Progress = progress
		report, err = bench.Copies(ctx, d, options)
		return err
	})
	if err != nil {
		return err
	}
	if o.json {
		return c.printJSON(report)
	}
	return printCopies(c.out, report)
}

func printCopies(w io.Writer, r *bench.CopyReport) error {
	fmt.Fprintf(w, "%s, %s\n", r.Device, r.Driver)
	if r.Shared {
		fmt.Fprintln(w, "copies and kernels take turns on one queue, so nothing is measured while computing")
	}
	fmt.Fprintln(w)
	rows := []string{"host memory\tdirection\tsize\tidle\twhile computing\tof the idle rate\tcompute slower by"}
	for _, k := range r.Runs {
		busy := "-\t-\t-"
		if k.Busy > 0 {
			busy = fmt.Sprintf("%s\t%s\t%.1f %%", units.Rate(k.Busy, "B/s"), units.Percent(k.Share()), 100*k.Slows)
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", k.Memory, k.Direction(), memory.Size(k.Size), units.Rate(k.Idle, "B/s"), busy))
	}
	return table(w, rows)
}
