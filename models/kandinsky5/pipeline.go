package kandinsky5

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Pipeline makes videos on a device with a checkpoint. Text encoders and VAE are on the device only while they work; the
// transformer stays between calls of Generate, unless Options.Offload. One goroutine at a time.
type Pipeline struct {
	device  *engine.Device
	ckpt    *Checkpoint
	opts    Options
	log     *slog.Logger
	nets    networks
	qwenTok *tokenizer.Tokenizer
	clipTok *tokenizer.Tokenizer
	dit     *dit.Model    // nil while it is not loaded
	tier    swap.HostTier // where its blocks wait
}

// networks are the open checkpoints with their configurations.
type networks struct {
	dit, vae, qwen, clip *weights.Checkpoint
	// Readers live as long as the checkpoints, so that every tensor is looked through for broken values once.
	ditReader, vaeReader, qwenReader, clipReader load.Reader
	vaeConfig                                    weights.VAEConfig
	qwenConfig                                   weights.QwenConfig
	clipConfig                                   weights.CLIPConfig
}

// New opens the checkpoint's files and checks that every network has the tensors it needs; nothing is loaded yet. An
// error names the file and the tensor. The device must outlive the pipeline.
func New(ctx context.Context, d *engine.Device, c *Checkpoint, o Options) (*Pipeline, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &Pipeline{device: d, ckpt: c, opts: o, log: o.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if err := p.open(); err != nil {
		return nil, oneline.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pipeline) open() error {
	if err := p.nets.open(p.ckpt); err != nil {
		return err
	}
	if _, err := p.ditSwap().Plan(p.ckpt.ditConfig().NumVisualBlocks); err != nil {
		return requestError("%v", err)
	}
	var err error
	if p.qwenTok, err = tokenizer.OpenQwen(p.ckpt.Layout.QwenTokenizer); err != nil {
		return err
	}
	p.clipTok, err = tokenizer.OpenCLIP(p.ckpt.Layout.CLIPTokenizer)
	return err
}

func (n *networks) open(c *Checkpoint) error {
	var err error
	if n.dit, err = c.open(weights.DiT, weights.DiTSpec(c.ditConfig().DiTConfig)); err != nil {
		return err
	}
	n.ditReader = load.FromCheckpoint(n.dit)
	return oneline.Join(n.openVAE(c), n.openText(c))
}

func (n *networks) openVAE(c *Checkpoint) error {
	ckpt, err := weights.OpenComponent(c.Layout.VAE.Path, weights.VAE)
	if err != nil {
		return err
	}
	n.vae, n.vaeReader = ckpt, load.FromCheckpoint(ckpt)
	if n.vaeConfig, _, err = weights.LoadVAEConfig(c.Layout.VAE, ckpt); err != nil {
		return err
	}
	return weights.Check(ckpt, weights.VAESpec(n.vaeConfig)).Err()
}

func (n *networks) openText(c *Checkpoint) error {
	var err error
	if n.qwen, err = weights.OpenComponent(c.Layout.Qwen.Path, weights.Qwen); err != nil {
		return err
	}
	if n.qwenConfig, _, err = weights.LoadQwenConfig(c.Layout.Qwen, n.qwen); err != nil {
		return err
	}
	n.qwenReader = load.FromCheckpoint(n.qwen)
	if n.clip, err = weights.OpenComponent(c.Layout.CLIP.Path, weights.CLIP); err != nil {
		return err
	}
	n.clipReader = load.FromCheckpoint(n.clip)
	if n.clipConfig, _, err = weights.LoadCLIPConfig(c.Layout.CLIP, n.clip); err != nil {
		return err
	}
	// The vision tower and lm_head are of no use for a prompt, so a checkpoint may lack them.
	if err := weights.Check(n.qwen, weights.QwenTextSpec(n.qwenConfig)).Err(); err != nil {
		return err
	}
	return weights.Check(n.clip, weights.CLIPSpec(n.clipConfig)).Err()
}

// Close frees what is on the device and closes the files.
func (p *Pipeline) Close() error {
	errs := []error{p.freeTransformer()}
	for _, c := range []*weights.Checkpoint{p.nets.dit, p.nets.vae, p.nets.qwen, p.nets.clip} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	p.nets = networks{}
	return oneline.Join(errs...)
}

func (p *Pipeline) freeTransformer() error {
	if p.dit == nil {
		return nil
	}
	err := p.dit.Close()
	p.dit = nil
	return err
}

// run is one call of Generate.
type run struct {
	*Pipeline
	settings Settings
	progress func(Progress)
	told     func(text string) // Request.Expanding
	// afterStep is Request.AfterStep.
	afterStep func(Finished) (Decision, error)
	preview   bool    // Request.Preview
	colours   colours // for previews
	stats     Stats
	arena     *engine.Arena // what lives through stages: prompts, first frame, latents
	timed     bool          // the device measures time
	clock     engine.Clock
	trace     swap.Trace
}

// Generate makes a video. Errors about the request wrap ErrRequest and come before any work. A cancelled context ends
// the work at the next step or tile and gives everything back.
func (p *Pipeline) Generate(ctx context.Context, r Request) (*Result, error) {
	settings, err := Resolve(p.ckpt.Config, r)
	if err != nil {
		return nil, err
	}
	g := &run{Pipeline: p, settings: settings, progress: r.Progress, told: r.Expanding, afterStep: r.AfterStep, preview: r.Preview, arena: p.device.NewArena("clip")}
	defer g.arena.Release()
	if err := g.checkState(); err != nil {
		return nil, err
	}
	clip, err := g.timedGenerate(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, oneline.Join(err, p.freeTransformer())
	}
	if p.opts.Offload {
		if err := p.freeTransformer(); err != nil {
			return nil, err
		}
	}
	return &Result{Clip: clip, Settings: g.settings, Stats: g.stats, Trace: g.trace}, nil
}

// timedGenerate compares the clocks first.
func (g *run) timedGenerate(ctx context.Context) (*Clip, error) {
	clock, err := g.device.Clock(ctx)
	if err == nil {
		g.clock, g.timed = clock, true
	} else if !errors.Is(err, engine.ErrNoTimestamps) {
		return nil, err
	}
	return g.generate(ctx)
}

func (g *run) generate(ctx context.Context) (*Clip, error) {
	var prompts []dit.Prompt
	var first, latents engine.Tensor
	var clip *Clip
	resumed := g.settings.resume != nil
	stages := []struct {
		stage Stage
		skip  bool
		work  func() error
	}{
		{StageExpand, !g.settings.ExpandPrompt || resumed, func() error { return g.expandPrompt(ctx) }},
		{StageText, g.stepsMade() == g.settings.Steps, func() (err error) { prompts, err = g.encodeText(ctx); return }},
		{StageImage, !g.settings.hasFirstFrame(), func() (err error) { first, err = g.encodeImage(ctx); return }},
		{StagePreview, !g.preview || g.stepsMade() == g.settings.Steps, func() error { return g.learnColours(ctx) }},
		{StageLoad, g.dit != nil || g.stepsMade() == g.settings.Steps, func() error { return g.loadTransformer(ctx) }},
		{StageDenoise, false, func() (err error) { latents, err = g.denoise(ctx, prompts, first); return }},
		{StageDecode, false, func() (err error) { clip, err = g.decode(ctx, latents); return }},
	}
	for _, s := range stages {
		if s.skip {
			continue
		}
		if err := g.stage(ctx, s.stage, s.work); err != nil {
			return nil, fmt.Errorf("%s: %w", s.stage, advise(s.stage, err, g.opts))
		}
	}
	return clip, nil
}

// stage runs a stage and keeps its statistics.
func (g *run) stage(ctx context.Context, stage Stage, work func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.report(stage, 0, 0)
	mem := g.device.Mem
	mem.ResetPeak()
	start := time.Now()
	err := work()
	s := StageStats{Stage: stage, Took: time.Since(start), PeakDevice: mem.Peak(memory.Device)}
	g.stats.Stages = append(g.stats.Stages, s)
	if g.timed {
		begin := g.clock.At(start)
		g.trace.Host = append(g.trace.Host, engine.Span{Label: string(stage), Start: begin, End: begin + float64(s.Took)})
	}
	g.stats.PeakDevice = max(g.stats.PeakDevice, s.PeakDevice)
	g.stats.PeakPinned = max(g.stats.PeakPinned, mem.Peak(memory.Upload)+mem.Peak(memory.Readback))
	g.log.Debug("stage over", "stage", stage, "took", s.Took, "peak", memory.Size(s.PeakDevice), "error", err)
	return err
}

func (g *run) report(stage Stage, done, total int) {
	if g.progress != nil {
		g.progress(Progress{Stage: stage, Done: done, Total: total, DeviceBytes: g.device.Mem.Used(memory.Device)})
	}
}

// ditSwap returns how the transformer's visual blocks are held, but for the host tier.
func (p *Pipeline) ditSwap() dit.SwapOptions {
	return dit.SwapOptions{Slots: p.opts.BlocksInMemory, Stream: p.opts.StreamSlots, Policy: p.opts.SwapPolicy}
}

func (g *run) loadTransformer(ctx context.Context) error {
	options, err := g.ditOptions()
	if err != nil {
		return err
	}
	model, err := dit.New(ctx, g.device, g.nets.ditReader, g.ckpt.ditConfig(), options)
	if err != nil {
		return err
	}
	g.dit = model
	return nil
}

// ditOptions decides the host tier: pinned memory where it holds all waiting blocks, else the mapped file.
func (g *run) ditOptions() (dit.Options, error) {
	o := dit.Options{Precision: g.opts.Precision, Visual: g.ditSwap()}
	tier := g.opts.HostTier
	if tier == "" {
		o.Visual.Tier = swap.Pinned
		needs, err := dit.Plan(dit.Request{Config: g.ckpt.ditConfig(), Reader: g.nets.ditReader, Options: o, Size: dit.Size{Frames: 1, Height: 16, Width: 16}, TextRows: 1, Branches: 1})
		if err != nil {
			return o, err
		}
		if tier = swap.Pinned; needs.Pinned > g.hostRoom() {
			tier = swap.Mapped
			g.log.Info("blocks stay in the checkpoint file: pinned host memory does not hold them", "needed", memory.Size(needs.Pinned), "free", memory.Size(g.hostRoom()))
		}
	}
	o.Visual.Tier, g.tier = tier, tier
	return o, nil
}

// hostRoom is how many bytes of pinned memory blocks may take: the driver's budget and what the machine has free, less
// an eighth for everybody else.
func (g *run) hostRoom() int64 {
	room := int64(1) << 62
	if budget, left := g.device.Mem.Budget(memory.Upload); budget > 0 {
		room = left
	}
	if g.opts.HostMemory > 0 {
		return min(room, g.opts.HostMemory)
	}
	if free, ok := hostmem.Available(); ok {
		room = min(room, free-free/8)
	}
	return room
}
