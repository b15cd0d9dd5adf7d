package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// planOptions are generate's flags without the output, and the memory to plan for.
type planOptions struct {
	generateOptions
	json bool
}

func planCommand() *command {
	cmd := &command{
		name: "plan", summary: "print what would lie where in memory, stage by stage",
		about: "Takes generate's flags and prints what each stage would hold in device memory and in pinned host memory. With --vram\n" +
			"no GPU is touched; without a checkpoint the published networks are meant. Exit status 1 when it does not fit.",
		examples: []string{
			"vkandinsky plan --config config_5s_i2v_pro_20b --vram 24GiB --ram 64GiB --blocks-in-memory 2",
			"vkandinsky plan --checkpoint-dir Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers --device 0 --json",
		},
	}
	var o planOptions
	o.model.register(cmd.flags.group("Model"))
	o.request.register(cmd.flags.group("Video"))
	f := cmd.flags.group("Memory")
	f.Var(&o.device.vram, "vram", "plan for a device with this much memory, without touching a GPU")
	f.Var(&o.device.ram, "ram", "plan for a machine with this much host memory to pin (default what this machine has free)")
	o.swap.register(f)
	o.hold.register(f)
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
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
	if o.request.prompt == "" {
		o.request.prompt = "a prompt" // its length hardly matters: texts are padded, and instructions far longer
	}
	if err := o.request.checkUpstream(log); err != nil {
		return err
	}
	config, err := o.model.config()
	if err != nil {
		return err
	}
	options, err := o.options(&cmd.flags, config, log)
	if err != nil {
		return err
	}
	request, err := o.request.request(&cmd.flags)
	if err != nil {
		return err
	}
	request.Digests = true // as generate has it, but for --no-receipt
	limits, err := o.limits(ctx, log)
	if err != nil {
		return err
	}
	checkpoint, err := o.checkpointIfThere(config, log)
	if err != nil {
		return err
	}
	if request.ExpandPrompt, err = o.request.expands(&cmd.flags, config, checkpoint, false, log); err != nil {
		return err
	}
	plan, err := kandinsky5.PlanRun(config, checkpoint, options, request, limits)
	if err != nil {
		return badInput(err)
	}
	if o.json {
		err = c.printJSON(plan)
	} else {
		err = printPlan(c.out, config, plan, limits)
	}
	if err != nil {
		return err
	}
	return planError(plan, limits)
}

// limits are those of the flags, or of the device that would be used.
func (o *planOptions) limits(ctx context.Context, log *slog.Logger) (kandinsky5.PlanLimits, error) {
	eo, err := o.device.options(log)
	if err != nil {
		return kandinsky5.PlanLimits{}, err
	}
	if o.device.vram > 0 {
		limits := kandinsky5.PlanLimits{Device: int64(o.device.vram), Host: int64(o.device.ram), Half: eo.Tier != engine.TierBase}
		if limits.Host == 0 {
			limits.Host = freeHostMemory()
		}
		return limits, nil
	}
	var limits kandinsky5.PlanLimits
	err = withDevice(ctx, eo, func(d *engine.Device) error {
		limits = deviceLimits(d)
		if o.device.ram == 0 {
			if free := freeHostMemory(); free > 0 && (limits.Host == 0 || free < limits.Host) {
				limits.Host = free
			}
		}
		return nil
	})
	return limits, err
}

// deviceLimits are those of an open device that holds nothing yet.
func deviceLimits(d *engine.Device) kandinsky5.PlanLimits {
	limits := kandinsky5.DeviceLimits(d.Caps())
	limits.Device, _ = d.Mem.Budget(memory.Device)
	limits.Host, _ = d.Mem.Budget(memory.Upload)
	return limits
}

// freeHostMemory is what the machine has free less an eighth for everybody else, 0 where the system does not tell.
func freeHostMemory() int64 {
	free, _ := hostmem.Available()
	return free - free/8
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

func printPlan(w io.Writer, config *configs.Config, p *kandinsky5.MemoryPlan, limits kandinsky5.PlanLimits) error {
	g := p.Settings.Geometry
	fmt.Fprintf(w, "%s: %d frames of %d×%d, %d tokens, %d steps\n", config.Name, g.Frames, p.Settings.Size.Width, p.Settings.Size.Height, g.Tokens, p.Settings.Steps)
	fmt.Fprintf(w, "visual blocks: %s; %s each, %s over the bus a step\n", p.Swap, memory.Size(p.BlockBytes), memory.Size(p.BytesLoaded))
	for _, s := range p.Stages {
		fmt.Fprintf(w, "\n%s: device %s, pinned host %s\n", s.Stage, memory.Size(s.Device), memory.Size(s.Pinned))
		var rows []string
		for _, i := range s.Items {
			rows = append(rows, fmt.Sprintf("  %s\t%s\t%s\t%s", i.Where, i.Label, i.When, memory.Size(i.Bytes)))
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\npeak: device %s of %s, pinned host %s of %s: %s\n", memory.Size(p.Device), limitText(limits.Device), memory.Size(p.Pinned), limitText(limits.Host), fitText(p.Fits))
	return err
}

func limitText(n int64) string {
	if n == 0 {
		return "any"
	}
	return memory.Size(n)
}

func fitText(fits bool) string {
	if fits {
		return "fits"
	}
	return "DOES NOT FIT"
}

// planError says by how much a plan does not fit and what would help; nil when it fits.
func planError(p *kandinsky5.MemoryPlan, limits kandinsky5.PlanLimits) error {
	if p.Fits {
		return nil
	}
	text := fmt.Sprintf("%s of device memory are needed, %s may be used", memory.Size(p.Device), limitText(limits.Device))
	if limits.Device == 0 || p.Device <= limits.Device {
		text = fmt.Sprintf("%s of pinned host memory are needed, %s may be used", memory.Size(p.Pinned), limitText(limits.Host))
	}
	if p.Advice != "" {
		text += ": " + p.Advice
	}
	return fmt.Errorf("the run does not fit: %s", text)
}
