package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// generateOptions are the flags of generate and, but for the output, of plan.
type generateOptions struct {
	model   modelFlags
	lora    loraFlags
	request requestFlags
	swap    swapFlags
	hold    holdFlags
	device  deviceFlags
	output  outputFlags
	receipt receiptFlags
	many    manyFlags
	keep    keepFlags
	preview previewFlags
	log     logFlags
	from    string // a receipt to repeat
	repeat  *repeat
}

// register puts the flags of generate into groups.
func (o *generateOptions) register(f *flags) {
	model := f.group("Model")
	o.model.register(model)
	o.lora.register(model)
	video := f.group("Video")
	o.request.register(video)
	o.many.register(video)
	video.StringVar(&o.from, "from", "", "make the clip of a receipt `FILE`.json again; flags given beside it win")
	memory := f.group("Memory")
	o.swap.register(memory)
	o.hold.register(memory)
	o.device.register(f.group("Device"))
	output := f.group("Output")
	o.output.register(output)
	o.receipt.register(output)
	o.preview.register(output)
	o.keep.register(f.group("Interruptions"))
	o.log.register(output)
}

// requestFlags say what video is made, in upstream's names.
type requestFlags struct {
	prompt, image, negative string
	size                    sizeFlags
	steps, expand           int
	guidance, scale         float64
	seed                    uint64
	magcache, quantizeQwen  bool
	attention               attentionFlag
	picture                 *receipt.Picture // which file image was
}

// upstreamSeed is the seed of upstream's command line.
const upstreamSeed = 1137

func (r *requestFlags) register(f *pflag.FlagSet) {
	f.StringVar(&r.prompt, "prompt", "", "`TEXT` that says what the video shows")
	f.StringVar(&r.image, "image", "", "first frame: a PNG, JPEG or WebP `FILE` (image-to-video configurations)")
	f.StringVar(&r.negative, "negative-prompt", configs.DefaultNegativePrompt, "`TEXT` that says what the video should not be like")
	r.size.register(f)
	f.IntVar(&r.steps, "sample-steps", 0, "sampling `STEPS` (default the configuration's)")
	f.Float64Var(&r.guidance, "guidance-weight", 0, "`WEIGHT` of the prompt against the negative prompt; 1 halves the work (default the configuration's)")
	f.Float64Var(&r.scale, "scheduler-scale", 5, "`SHIFT` of the steps towards noise")
	f.Uint64Var(&r.seed, "seed", upstreamSeed, "`NUMBER` the noise follows from")
	f.BoolVar(&r.magcache, "magcache", false, "skip forward passes that change little (MagCache)")
	f.IntVar(&r.expand, "expand-prompt", 1, "`1` lets the text encoder write the prompt out, looking at the picture; 0 takes it as it is (also the default of configurations that say so, and of text encoders that cannot write)")
	f.BoolVar(&r.quantizeQwen, "qwen-quantization", false, "hold the linear layers of the text encoder in 4 bits (NF4, quantized while loading): a quarter of the memory, less exact")
	r.attention.register(f)
}

// holdFlags say how networks are held besides the visual blocks.
type holdFlags struct {
	offload    bool
	qwenLayers int
	headGroups int
}

func (h *holdFlags) register(f *pflag.FlagSet) {
	f.IntVar(&h.qwenLayers, "qwen-layers-in-memory", 0, "`LAYERS` of the text encoder on the device at a time (default as many as fit)")
	f.IntVar(&h.headGroups, "head-groups", 0, "compute attention for one of so many `GROUPS` of heads at a time: less memory for activations, the same picture (default 1, more where the budget asks for it)")
	f.BoolVar(&h.offload, "offload", false, "take each network from the device as soon as its stage is over (by default the transformer stays while frames are decoded, if there is room)")
}

// outputFlags say what is written.
type outputFlags struct {
	file, frames, sheet string
	stats, json         bool
	files               timelineFlags
	printPrompt         bool
}

func (o *outputFlags) register(f *pflag.FlagSet) {
	f.StringVarP(&o.file, "output-filename", "o", "", "`FILE`.mp4, .gif or .png (default vkandinsky_SEED.mp4, .png for one picture)")
	f.StringVar(&o.frames, "frames-dir", "", "also write every frame as PNG into this `FOLDER`")
	f.StringVar(&o.sheet, "contact-sheet", "", "also write `FILE`.png with frames side by side")
	f.BoolVar(&o.printPrompt, "print-prompt", false, "print the expanded prompt alone and make no video; of many clips as a .yaml list that --prompt-file takes, with --json as JSON")
	f.BoolVar(&o.stats, "stats", false, "print where time and memory went")
	f.BoolVar(&o.json, "json", false, "print JSON (settings, statistics, files) instead of the file's path")
	o.files.register(f)
}

func generateCommand() *command {
	cmd := &command{
		name: "generate", summary: "make a video from a prompt, and a picture (the default)",
		about: "Makes a video. First the text encoder writes the prompt out, as the reference program does: --expand-prompt 0 leaves it as\n" +
			"it is, --print-prompt shows the result alone. The path of what was written is all that standard output gets. Beside the\n" +
			"clip lies its receipt, a .json that --from and vkandinsky compare read. Ctrl-C finishes the step and saves the run, which\n" +
			"--resume continues to the same frames; pressed twice it stops at once and leaves no half-written file. Without --config\n" +
			"and --checkpoint-dir the video is made by the small model inside the program, which knows one coloured shape that moves, from\n" +
			"a picture that comes with it unless --image names another.",
		examples: []string{
			`vkandinsky generate --prompt "a red circle moves to the right"`,
			`vkandinsky --config configs/config_5s_i2v_pro_20b.yaml --prompt "The dragon breathes fire." --image dragon.jpg \`,
			`    --video_duration 5 --enable_block_swap --blocks_in_memory 6 --offload`,
			`vkandinsky --checkpoint-dir Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers --blocks-in-memory 2 --vram-budget 12GiB \`,
			`    --image dragon.jpg --prompt "The dragon breathes fire." --contact-sheet dragon.png --timeline dragon.svg`,
			`vkandinsky --checkpoint-dir Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers --image dragon.jpg --prompt "The dragon breathes fire." \`,
			`    --lora dolly-in/lora.safetensors --lora smoke.safetensors:0.6`,
			`vkandinsky --from dragon.json -o dragon-again.mp4`,
			`vkandinsky --config k5_pro_t2v_5s_sft_sd --blocks-in-memory 6 --prompt-file prompts.txt -o night.mp4`,
			`vkandinsky --from dragon.json --seeds 1..8 -o dragons.mp4`,
			`vkandinsky --from dragon.json --seeds 1..8 --draft-steps 10 -o dragons.mp4`,
			`vkandinsky generate --continue 3,7 -o dragons.mp4`,
			`vkandinsky --config k5_pro_t2v_5s_sft_sd --prompt "A fox runs." --checkpoint-every 5 -o fox.mp4`,
			`vkandinsky generate --resume fox.mp4.state`,
		},
	}
	var o generateOptions
	o.model.tinyDefault = true
	o.register(&cmd.flags)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		if o.manyAsked() {
			return o.runMany(ctx, c, cmd)
		}
		return o.run(ctx, c, cmd)
	}
	return cmd
}

// job is a checked command line: nothing in it can fail for a mistake that could have been seen before.
type job struct {
	checkpoint *kandinsky5.Checkpoint
	request    kandinsky5.Request
	options    kandinsky5.Options
	engine     engine.Options
	files      timelineFlags
	promptOnly bool // expand the prompt, make no video
	keeper     *keeper
	previews   *previewer
	loseAt     []int // --fault step=N
	stopAfter  int   // the step that a draft ends with; 0: all are made
	clips      int   // that are made, if there are many
}

func (o *generateOptions) run(ctx context.Context, c *console, cmd *command) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	if o.keep.resume != "" && o.from != "" {
		return badInputf("--resume continues a run, --from begins one anew: leave one of them out")
	}
	if err := o.keep.restore(&cmd.flags); err != nil {
		return err
	}
	if err := o.keep.check(); err != nil {
		return err
	}
	if o.from != "" {
		if err := o.openRepeat(&cmd.flags, log); err != nil {
			return err
		}
	}
	if err := o.checkOutput(); err != nil {
		return err
	}
	j, err := o.check(&cmd.flags, log, nil)
	if err != nil {
		return err
	}
	j.files = o.output.files
	if j.promptOnly {
		return o.printPrompt(ctx, c, j, log)
	}
	notes, err := o.remember(&cmd.flags)
	if err != nil {
		return err
	}
	j.keeper = newKeeper(ctx, o.keep, o.output.file, notes, log)
	previews, err := newPreviewer(o.preview, o.output.file, c, log)
	if err != nil {
		return err
	}
	defer previews.close()
	j.previews, j.request.Preview = previews, previews != nil
	j.request.AfterStep = func(f kandinsky5.Finished) (kandinsky5.Decision, error) {
		previews.offer(f)
		return j.keeper.afterStep(f)
	}
	if err := o.produce(ctx, c, j, log); err != nil {
		return j.keeper.failed(ctx, err)
	}
	return j.keeper.written(o.output.file)
}

// produce makes the video, writes it and reports.
func (o *generateOptions) produce(ctx context.Context, c *console, j *job, log *slog.Logger) error {
	var m made
	err := j.run(ctx, c, log, !o.log.quiet, func(d *engine.Device, p *kandinsky5.Pipeline) (err error) {
		if err := j.admit(ctx, c, d, p, !o.log.quiet); err != nil {
			return err
		}
		m, err = o.generate(ctx, d, p, j, log)
		return err
	})
	if err != nil {
		return err
	}
	g, err := o.write(ctx, c, j, m, log)
	if err != nil {
		return err
	}
	return o.output.report(c, g)
}

// check turns the flags into a job. What concerns the model and the device is another job's where that is not nil.
func (o *generateOptions) check(f *flags, log *slog.Logger, shared *job) (*job, error) {
	j := &job{promptOnly: o.output.printPrompt}
	if j.promptOnly && f.changed("expand-prompt") && o.request.expand == 0 {
		return nil, badInput(fmt.Errorf("--print-prompt prints the expanded prompt, which --expand-prompt 0 turns off: leave one of them out"))
	}
	if err := o.request.checkUpstream(log); err != nil {
		return nil, err
	}
	var err error
	o.device.bytes = o.request.attention.sage()
	if j.engine, err = o.device.options(log); err != nil {
		return nil, err
	}
	j.engine.Marks, j.loseAt = true, o.device.loseAt
	var config *configs.Config
	if shared != nil {
		config = shared.checkpoint.Config
	} else if config, err = o.model.config(); err != nil {
		return nil, err
	}
	if j.options, err = o.options(f, config, log); err != nil {
		return nil, err
	}
	if o.keep.state != nil {
		j.request, o.request.picture = kandinsky5.Request{Resume: o.keep.state}, pictureOf(o.keep.state)
	} else if j.request, err = o.request.request(f, config); err != nil {
		return nil, err
	}
	if o.keep.state == nil {
		if err := o.model.completePicture(config, &j.request); err != nil {
			return nil, err
		}
	}
	if _, err = kandinsky5.Resolve(config, j.request); err != nil {
		return nil, badInput(err)
	}
	if shared != nil {
		j.checkpoint = shared.checkpoint
	} else if j.checkpoint, err = o.model.checkpoint(config); err != nil {
		return nil, err
	}
	if shared == nil {
		o.model.announce(config, o.request.image, log)
	}
	return j, o.decide(j, f, log)
}

// options is how the pipeline holds its networks.
func (o *generateOptions) options(f *flags, config *configs.Config, log *slog.Logger) (kandinsky5.Options, error) {
	k := kandinsky5.Options{
		StreamSlots: o.swap.stream, SwapPolicy: o.swap.policy(), HostTier: o.swap.tier(), HostWeights: o.swap.host(),
		QwenLayersInMemory: o.hold.qwenLayers, HeadGroups: o.hold.headGroups, Offload: o.hold.offload, QuantizeQwen: o.request.quantizeQwen,
		HostMemory: int64(o.device.ram), Auto: true, Log: log,
	}
	var err error
	if k.Precision, err = o.model.precision(); err != nil {
		return k, err
	}
	if k.Linear, err = o.model.linear(k.Precision); err != nil {
		return k, err
	}
	if k.Attention, err = o.request.attention.checked(k.Precision); err != nil {
		return k, err
	}
	if k.BlocksInMemory, err = o.swap.asked(f, config); err != nil {
		return k, err
	}
	if k.QwenLayersInMemory < 0 {
		return k, badInput(fmt.Errorf("--qwen-layers-in-memory %d: use 1 or more", k.QwenLayersInMemory))
	}
	if heads := kandinsky5.DiTConfig(config).Heads(); k.HeadGroups < 0 || k.HeadGroups > 0 && heads%k.HeadGroups != 0 {
		return k, badInput(fmt.Errorf("--head-groups %d: use a divisor of the %d heads", k.HeadGroups, heads))
	}
	k.LoRA, err = o.lora.sources(config)
	return k, err
}

// checkUpstream refuses what this program cannot do yet, and says what it does instead of choosing an attention library.
func (r *requestFlags) checkUpstream(log *slog.Logger) error {
	if r.expand != 0 && r.expand != 1 {
		return badInput(fmt.Errorf("--expand-prompt %d: use 1, or 0 to take the prompt as it is", r.expand))
	}
	if asked := r.attention.asked; strings.HasPrefix(asked, "flash_attention") {
		log.Info("attention is computed by this program's own kernels", "asked for", asked)
	}
	return nil
}

// request reads the picture and joins the flags. A value that was given must be possible even where its zero means a
// default.
func (r *requestFlags) request(f *flags, config *configs.Config) (kandinsky5.Request, error) {
	q := kandinsky5.Request{
		Prompt: r.prompt, NegativePrompt: &r.negative, Width: r.size.width, Height: r.size.height, Seconds: r.size.duration(config), Steps: r.steps,
		Guidance: r.guidance, SchedulerScale: r.scale, Seed: r.seed, MagCache: r.magcache,
	}
	switch {
	case strings.TrimSpace(r.prompt) == "":
		return q, badInput(fmt.Errorf("the prompt is empty: say with --prompt what the video shows"))
	case f.changed("sample-steps") && r.steps < 1:
		return q, badInput(fmt.Errorf("--sample-steps %d: use 1 or more", r.steps))
	case f.changed("guidance-weight") && !(r.guidance > 0):
		return q, badInput(fmt.Errorf("--guidance-weight %g: use a number above 0; 1 turns guidance off", r.guidance))
	case !(r.scale > 0):
		return q, badInput(fmt.Errorf("--scheduler-scale %g: use a number above 0", r.scale))
	case f.changed("width") && r.size.width < 1 || f.changed("height") && r.size.height < 1:
		return q, badInput(fmt.Errorf("size %d×%d: width and height are at least 16 pixels", r.size.width, r.size.height))
	}
	if r.image == "" {
		return q, nil
	}
	var err error
	q.Image, r.picture, err = loadPicture(r.image)
	return q, badInput(err)
}

// check fills in the output's name and makes sure that everything can be written.
func (o *outputFlags) check(r *requestFlags) error {
	if o.printPrompt {
		if o.stats {
			return badInput(fmt.Errorf("--print-prompt prints prompts alone: leave --stats out"))
		}
		return nil
	}
	if o.file == "" {
		o.file = fmt.Sprintf("vkandinsky_%d.%s", r.seed, r.extension())
	}
	if err := media.CheckOutput(o.file); err != nil {
		return badInput(err)
	}
	if err := o.files.checkPaths(); err != nil {
		return err
	}
	if o.sheet != "" {
		if !strings.EqualFold(filepath.Ext(o.sheet), ".png") {
			return badInput(fmt.Errorf("--contact-sheet %s: the sheet is a .png", o.sheet))
		}
		if err := media.CheckOutput(o.sheet); err != nil {
			return badInput(err)
		}
	}
	if o.frames != "" {
		return checkParent("frames-dir", o.frames)
	}
	return nil
}

// write writes the clip in all the forms asked for.
func (o *outputFlags) write(ctx context.Context, clip *kandinsky5.Clip, log *slog.Logger) error {
	if o.frames != "" {
		if err := media.WriteFrames(ctx, o.frames, clip); err != nil {
			return err
		}
	}
	if o.sheet != "" {
		if err := media.WriteContactSheet(ctx, o.sheet, clip, media.SheetOptions{}); err != nil {
			return err
		}
	}
	return media.WriteVideo(ctx, o.file, clip, configs.FramesPerSecond, media.VideoOptions{
		Log: func(format string, args ...any) { log.Warn(fmt.Sprintf(format, args...)) },
	})
}
