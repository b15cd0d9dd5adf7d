package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// planOptions are generate's flags without the output, the memory to plan for, and rates to predict with.
type planOptions struct {
	generateOptions
	tflops  float64
	busRate string
	picture string
	draft   int
	types   bool
	json    bool
}

// Rates that a plan assumes where none is given and none was measured: what a PCIe 3.0 link of 16 lanes carries, and what a
// mid-range card with matrix units may reach.
const (
	assumedBus    = 12e9
	assumedTFLOPS = 50
)

func planCommand() *command {
	cmd := &command{
		name: "plan", summary: "print what would lie where in memory, stage by stage, and how long a step would take",
		about: "Takes generate's flags, chooses what they leave open as generate does, and prints what each stage would hold in device\n" +
			"memory and in pinned host memory, what crosses the bus, what is read, and how long denoising would take at given rates.\n" +
			"With --vram no GPU is touched; without a checkpoint the published networks are meant. Exit status 0: the run fits; 1: it\n" +
			"does not, and the smallest change that makes it fit is named; 2: a mistake in the flags.",
		examples: []string{
			"vkandinsky plan --config config_5s_i2v_pro_20b --vram 24GiB --ram 64GiB --tflops 60 --bus-rate 24GB/s",
			"vkandinsky plan --config k5_pro_i2v_5s_sft_hd --vram 16GiB --ram 32GiB --picture plan.svg",
			"vkandinsky plan --config config_5s_i2v_pro_20b --blocks-in-memory 2 --types",
			"vkandinsky plan --checkpoint-dir Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers --device 0 --json",
		},
	}
	var o planOptions
	o.model.tinyDefault = true
	f := cmd.flags.group("Model")
	o.model.register(f)
	o.lora.register(f)
	o.request.register(cmd.flags.group("Video"))
	f = cmd.flags.group("Memory")
	f.Var(&o.device.vram, "vram", "plan for a device with this much memory, without touching a GPU")
	f.Var(&o.device.ram, "ram", "plan for a machine with this much host memory to pin (default what this machine has free)")
	o.swap.register(f)
	o.hold.register(f)
	f = cmd.flags.group("Time")
	f.Float64Var(&o.tflops, "tflops", 0, "`TFLOPS` that the device computes matrix products with (default measured by an earlier run, or assumed)")
	f.IntVar(&o.draft, "draft-steps", 0, "plan a draft, of so many `STEPS`")
	f.StringVar(&o.busRate, "bus-rate", "", "`RATE` from host memory to the device, such as 24GB/s (default measured, or assumed)")
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.StringVar(&o.picture, "picture", "", "draw what lies in memory stage by stage: `FILE`.svg")
	f.BoolVar(&o.types, "types", false, "print instead what the transformer takes in every type of file and every way to hold its blocks")
	f.BoolVar(&o.json, "json", false, "print JSON")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c, cmd)
	}
	return cmd
}

func (o *planOptions) run(ctx context.Context, c *console, cmd *command) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	work, err := o.work(cmd, log)
	if err != nil {
		return err
	}
	if o.types {
		return o.printTypes(c, work)
	}
	given, err := o.rates(cmd)
	if err != nil {
		return err
	}
	limits, measured, err := o.machine(ctx, work, log)
	if err != nil {
		return err
	}
	limits.Rates = given.Else(measured)
	plan, err := kandinsky5.PlanRun(work.config, work.checkpoint, work.options, work.request, limits)
	if err != nil {
		return badInput(err)
	}
	if o.draft < 0 || cmd.flags.changed("draft-steps") && (o.draft == 0 || o.draft >= plan.Settings.Steps) {
		return badInputf("--draft-steps %d: the clip has %d steps: use 1 to %d", o.draft, plan.Settings.Steps, plan.Settings.Steps-1)
	}
	plan.StopAfter = o.draft
	p := planned{MemoryPlan: plan, Limits: limits}
	p.predict(given, measured)
	if o.picture != "" {
		if err := media.WriteFile(o.picture, p.memoryMap(work.config).writeTo); err != nil {
			return err
		}
	}
	if o.json {
		err = c.printJSON(p)
	} else {
		err = p.print(c.out, work.config)
	}
	if err != nil {
		return err
	}
	return plan.Error(limits)
}

// printTypes prints what weights take.
func (o *planOptions) printTypes(c *console, work planWork) error {
	w, err := newWeightTypes(work.config, work.options)
	switch {
	case err != nil:
		return badInput(err)
	case o.json:
		return c.printJSON(w)
	}
	return w.print(c.out)
}

// planWork is what the flags ask to plan.
type planWork struct {
	config     *configs.Config
	checkpoint *kandinsky5.Checkpoint // nil: the published networks
	options    kandinsky5.Options
	request    kandinsky5.Request
}

// work checks the flags that generate has too.
func (o *planOptions) work(cmd *command, log *slog.Logger) (w planWork, err error) {
	known := o.request.prompt != ""
	if !known {
		o.request.prompt = "a prompt"
	}
	if err := o.request.checkUpstream(log); err != nil {
		return w, err
	}
	if w.config, err = o.model.config(); err != nil {
		return w, err
	}
	o.model.announce(w.config, o.request.image, log)
	if w.options, err = o.options(&cmd.flags, w.config, log); err != nil {
		return w, err
	}
	if w.request, err = o.request.request(&cmd.flags, w.config); err != nil {
		return w, err
	}
	w.request.Digests = true // as generate has it, but for --no-receipt
	if !known {
		w.request.Prompt = ""
	}
	if w.checkpoint, err = o.checkpointIfThere(w.config, log); err != nil {
		return w, err
	}
	w.request.ExpandPrompt, err = o.request.expands(&cmd.flags, w.config, w.checkpoint, false, log)
	return w, err
}

// rates are those of the flags, zero where there is none.
func (o *planOptions) rates(cmd *command) (r kandinsky5.Rates, err error) {
	if cmd.flags.changed("tflops") && !(o.tflops > 0 && o.tflops < 1e6) {
		return r, badInputf("--tflops %g: use a number above 0, such as 60", o.tflops)
	}
	r.Compute = o.tflops * 1e12
	if o.busRate != "" {
		if r.Bus, err = parseRate(o.busRate); err != nil {
			return r, err
		}
	}
	if o.picture != "" {
		if !strings.HasSuffix(strings.ToLower(o.picture), ".svg") {
			return r, badInputf("--picture %s: the file is a .svg", o.picture)
		}
		err = badInput(media.CheckFile(o.picture))
	}
	return r, err
}

// machine returns the limits of the flags, or of the device that would be used, and what is known of that device's rates.
func (o *planOptions) machine(ctx context.Context, w planWork, log *slog.Logger) (l kandinsky5.PlanLimits, r kandinsky5.Rates, err error) {
	eo, err := o.device.options(log)
	if err != nil {
		return l, r, err
	}
	if o.device.vram > 0 {
		// What kernels need that are not known is planned for: it is little.
		l = kandinsky5.PlanLimits{Device: int64(o.device.vram), Host: int64(o.device.ram), Half: eo.Tier != engine.TierBase, Matrices: eo.Tier != engine.TierBase && eo.Tier != engine.TierFP16}
		if free, ok := hostmem.Available(); ok && l.Host == 0 {
			l.Host = free - free/8
		}
		return l, r, nil
	}
	err = withDevice(ctx, eo, func(d *engine.Device) error {
		l = kandinsky5.LimitsOf(d, w.options)
		known := d.Rates()
		r = kandinsky5.Rates{Bus: known.Bus, Compute: known.Compute[kandinsky5.RateKey(w.config, w.options, d.Caps().Tier)], Shared: d.SharedQueue()}
		return nil
	})
	if errors.Is(err, vk.ErrNoVulkan) {
		err = fmt.Errorf("%w: say with --vram how much device memory to plan for, which needs no driver", err)
	}
	return l, r, err
}

// checkpointIfThere finds the checkpoint. Without a folder that was named, one that is missing is no mistake.
func (o *planOptions) checkpointIfThere(config *configs.Config, log *slog.Logger) (*kandinsky5.Checkpoint, error) {
	c, err := o.model.checkpoint(config)
	if err != nil && o.model.dir == "" {
		log.Info("no checkpoint found: the plan is for the published networks in 16-bit types")
		return nil, nil
	}
	return c, err
}
