package kandinsky5

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/receipt"
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
	counted swap.Counters // what earlier clips' statistics say of it
	prints  *fingerprints // of the weights; nil until they are asked for
	learned colours       // for previews with this autoencoder; nil until they are asked for

	toldRounding string // in what a run rounds otherwise than another, as the log has it already

	adapters *lora.Set // merged into its weights; nil before they are opened
}

// networks are the open checkpoints with their configurations.
type networks struct {
	dit, vae, qwen, clip *weights.Checkpoint // nil where their tensors are made up
	// Readers live as long as the checkpoints, so that every tensor is looked through for broken values once.
	ditReader, vaeReader, qwenReader, clipReader load.Reader
	qwen4Bits                                    *load.Kept // what qwenReader has quantized, kept until the text is encoded
	vaeConfig                                    weights.VAEConfig
	vaeStored                                    weights.DType // of its matrices
	vaeDecodes                                   bool          // it has no encoder
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
	if err := p.open(ctx); err != nil {
		return nil, oneline.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pipeline) open(ctx context.Context) error {
	if err := p.nets.open(p.ckpt); err != nil {
		return err
	}
	if err := oneline.Join(p.opts.checkLinear(), p.opts.checkAttention()); err != nil {
		return err
	}
	if _, err := p.opts.ditSwap().Plan(p.ckpt.ditConfig().NumVisualBlocks); err != nil {
		return requestError("%v", err)
	}
	var err error
	if p.qwenTok, err = tokenizer.OpenQwenIn(p.ckpt.Layout.Files(), p.ckpt.Layout.QwenTokenizer); err != nil {
		return err
	}
	if p.clipTok, err = tokenizer.OpenCLIPIn(p.ckpt.Layout.Files(), p.ckpt.Layout.CLIPTokenizer); err != nil {
		return err
	}
	return p.SetLoRA(ctx, p.opts.LoRA...)
}

func (n *networks) open(c *Checkpoint) error {
	if c.madeUp != nil {
		n.makeUp(*c.madeUp)
		return nil
	}
	var err error
	if n.dit, err = c.open(weights.DiT, weights.DiTSpec(c.ditConfig().DiTConfig)); err != nil {
		return err
	}
	n.ditReader = load.FromCheckpoint(n.dit)
	return oneline.Join(n.openVAE(c), n.openText(c))
}

// makeUp has tensors of the types that plans count where there is no checkpoint.
func (n *networks) makeUp(o weights.SynthOptions) {
	n.vaeConfig, n.qwenConfig, n.clipConfig, n.vaeStored = o.VAE, o.Qwen, o.CLIP, weights.F16
	n.ditReader, n.vaeReader, n.clipReader = load.Synthetic(weights.BF16), load.Synthetic(weights.F16), load.Synthetic(weights.F32)
	n.qwen4Bits = load.Keep4Bits(load.Synthetic(weights.BF16))
	n.qwenReader = n.qwen4Bits
}

func (n *networks) openVAE(c *Checkpoint) error {
	ckpt, err := c.Layout.VAE.Open(weights.VAE)
	if err != nil {
		return err
	}
	n.vae, n.vaeReader, n.vaeStored, n.vaeDecodes = ckpt, load.FromCheckpoint(ckpt), storedType(ckpt), ckpt.DecoderOnly()
	if n.vaeConfig, _, err = weights.LoadVAEConfig(c.Layout.VAE, ckpt); err != nil {
		return err
	}
	return weights.Check(ckpt, weights.VAESpecOf(ckpt, n.vaeConfig)).Err()
}

func (n *networks) openText(c *Checkpoint) error {
	var err error
	if n.qwen, err = c.Layout.Qwen.Open(weights.Qwen); err != nil {
		return err
	}
	if n.qwenConfig, _, err = weights.LoadQwenConfig(c.Layout.Qwen, n.qwen); err != nil {
		return err
	}
	n.qwen4Bits = load.Keep4Bits(load.FromCheckpoint(n.qwen))
	n.qwenReader = n.qwen4Bits
	if n.clip, err = c.Layout.CLIP.Open(weights.CLIP); err != nil {
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
	p.prints.stop() // it reads the files
	p.prints = nil
	errs := []error{p.freeTransformer(), p.closeLoRA()}
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
	asked    Options // the pipeline's
	opts     Options // the same with what a plan chose
	auto     bool    // a plan chose
	attempts int     // of making do with less
	plan     *MemoryPlan
	request  Request
	arenas   []*engine.Arena // of all stages so far
	settings Settings
	from     *State // what denoising begins with: what is continued, or the last step before a failure; nil is noise
	progress func(Progress)
	told     func(text string) // Request.Expanding
	// afterStep is Request.AfterStep.
	afterStep func(Finished) (Decision, error)
	preview   bool    // Request.Preview
	colours   colours // for previews
	stats     Stats
	arena     *engine.Arena // what the stage leaves to those after it: prompts, first frame, latents
	timed     bool          // the device measures time
	clock     engine.Clock
	trace     swap.Trace
	prepared  *Prepared         // nil where the prompts are still to be encoded
	digest    *digester         // nil when nobody asks for digests
	compiling *engine.Compiling // the kernels to come
	reading   reading
	rounds    receipt.Rounding
}

// Generate makes a video. Errors about the request wrap ErrRequest and come before any work. A cancelled context ends
// the work at the next step or tile and gives everything back.
func (p *Pipeline) Generate(ctx context.Context, r Request) (*Result, error) {
	g, err := p.newRun(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.release()
	if err := g.choose(r); err != nil {
		return nil, err
	}
	g.tellRounding(g.rounding())
	clip, err := g.rehearsedGenerate(ctx)
	if changed := p.checkFiles(); changed != nil && ctx.Err() == nil {
		err = changed // and whatever came of it
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		p.nets.qwen4Bits.Forget()
		return nil, oneline.Join(err, p.freeTransformer())
	}
	if p.opts.Offload {
		if err := p.freeTransformer(); err != nil {
			return nil, err
		}
	}
	g.learn()
	return &Result{Clip: clip, Settings: g.settings, Stats: g.stats, Plan: g.plan, Trace: g.trace, Digests: g.digest.digests(), Rounding: g.rounds}, nil
}

// newRun resolves a request. The caller releases the run.
func (p *Pipeline) newRun(ctx context.Context, r Request) (*run, error) {
	settings, err := Resolve(p.ckpt.Config, r)
	if err != nil {
		return nil, err
	}
	if settings.resume == nil && settings.hasFirstFrame() && p.nets.vaeDecodes {
		return nil, errNoEncoder()
	}
	if r.LoRA != nil {
		if err := p.SetLoRA(ctx, *r.LoRA...); err != nil {
			return nil, err
		}
	}
	if settings.resume == nil {
		p.adapt(&settings)
	}
	g := &run{Pipeline: p, asked: p.opts, opts: p.opts, request: r, settings: settings, from: settings.resume, progress: r.Progress, told: r.Expanding,
		afterStep: r.AfterStep, preview: r.Preview, prepared: r.Prepared}
	if r.Digests {
		g.digest = &digester{device: p.device, log: p.log}
	}
	if err := p.checkFiles(); err != nil {
		g.release()
		return nil, err
	}
	if err := g.checkState(); err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

// release gives back what stages left.
func (g *run) release() {
	g.digest.close()
	g.device.LimitDeviceMemory(0)
	for _, a := range g.arenas {
		a.Release()
	}
}

// rehearsedGenerate compiles kernels beside the work.
func (g *run) rehearsedGenerate(ctx context.Context) (*Clip, error) {
	before := g.device.Pipelines()
	g.compiling = g.rehearse(ctx)
	silence := g.tellWaiting()
	clip, err := g.timedGenerate(ctx)
	silence()
	g.compiling.Stop()
	g.stats.Kernels = g.device.Pipelines().Since(before)
	g.log.Debug("kernels", "compiled", g.stats.Kernels.Made, "when they were needed", g.stats.Kernels.Late, "waited", g.stats.Kernels.Waited, "rehearsal", g.compiling.Wait(ctx))
	return clip, err
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
	never := func() bool { return false }
	var prompts []dit.Prompt
	var first, latents engine.Tensor
	var clip *Clip
	resumed, over := g.settings.resume != nil, func() bool { return g.stepsMade() == g.settings.Steps }
	stages := []struct {
		stage Stage
		skip  func() bool
		work  func() error
	}{
		{StageExpand, func() bool { return resumed || !g.settings.expands() }, func() error { return g.expandPrompt(ctx) }},
		{StageText, over, func() (err error) { prompts, err = g.encodeText(ctx); return }},
		{StageImage, func() bool { return !g.settings.hasFirstFrame() }, func() (err error) { first, err = g.encodeImage(ctx); return }},
		{StagePreview, func() bool { return !g.preview || over() }, func() error { return g.learnColours(ctx) }},
		{StageLoad, func() bool { return g.dit != nil || over() }, func() error { return g.loadTransformer(ctx) }},
		{StageDenoise, never, func() (err error) { latents, err = g.denoise(ctx, prompts, first); return }},
		{StageDecode, never, func() (err error) { clip, err = g.decode(ctx, latents); return }},
	}
	for k := 0; k < len(stages); k++ {
		s := stages[k]
		if s.skip() {
			continue
		}
		err := g.stage(ctx, s.stage, s.work)
		if err == nil {
			continue
		}
		again, err := g.makeDo(s.stage, err)
		if !again {
			return nil, fmt.Errorf("%s: %w", s.stage, advise(s.stage, err, g.advised()))
		}
		if k--; s.stage == StageDenoise {
			k-- // the transformer is loaded anew
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
	if err := g.device.Settle(); err != nil {
		return err
	}
	g.device.WatchMemory()
	mem.ResetPeak()
	g.arena = g.device.NewArena("clip")
	g.arenas = append(g.arenas, g.arena)
	start := time.Now()
	err := work()
	if err != nil {
		g.arena.Release()
	}
	s := StageStats{Stage: stage, Took: time.Since(start), PeakDevice: mem.Peak(memory.Device), PeakPinned: mem.Peak(memory.Upload) + mem.Peak(memory.Readback)}
	g.stats.Stages = append(g.stats.Stages, s)
	if g.timed {
		begin := g.clock.At(start)
		g.trace.Host = append(g.trace.Host, engine.Span{Label: string(stage), Start: begin, End: begin + float64(s.Took)})
	}
	g.stats.PeakDevice = max(g.stats.PeakDevice, s.PeakDevice)
	g.stats.PeakPinned = max(g.stats.PeakPinned, s.PeakPinned)
	g.log.Debug("stage over", "stage", stage, "took", s.Took, "peak", memory.Size(s.PeakDevice), "error", err)
	return err
}

func (g *run) report(stage Stage, done, total int) {
	if g.progress != nil {
		g.progress(Progress{Stage: stage, Done: done, Total: total, DeviceBytes: g.device.Mem.Used(memory.Device)})
	}
}

// ditSwap returns how the transformer's visual blocks are held, but for the host tier.
func (o Options) ditSwap() dit.SwapOptions {
	return dit.SwapOptions{Slots: o.BlocksInMemory, Stream: o.StreamSlots, Policy: o.SwapPolicy, Host: o.HostWeights, Adapters: o.adapters}
}

func (g *run) loadTransformer(ctx context.Context) error {
	options, err := g.ditOptions()
	if err != nil {
		return err
	}
	options.Visual.Reading = g.reading.set
	defer g.reading.set(0, 0)
	model, err := dit.New(ctx, g.device, g.transformerReader(), g.ckpt.ditConfig(), options)
	if err != nil {
		return err
	}
	g.dit, g.counted = model, swap.Counters{}
	if g.opts.Linear == load.LinearInt8 {
		rounding := model.Rounding()
		g.stats.Rounding = &rounding
		g.log.Info("linear layers of the visual blocks are computed in 8-bit integers", "weights", rounding.String())
	}
	return nil
}

// ditOptions decides the host tier, where neither a flag nor a plan did: pinned memory for all waiting blocks, else for as many
// as it holds, else the mapped file.
func (g *run) ditOptions() (dit.Options, error) {
	o := dit.Options{Precision: g.opts.Precision, Linear: g.opts.Linear, Attention: g.opts.Attention, HeadGroups: g.opts.HeadGroups, Visual: g.opts.ditSwap()}
	o.Visual.Tier, o.Visual.Pinned, o.Visual.Room = g.opts.HostTier, g.opts.PinnedBlocks, g.pinnedRoom
	if tier := o.Visual.Tier; tier == "" || tier == swap.Mixed && o.Visual.Pinned == 0 && !g.auto {
		o.Visual.Tier = swap.Pinned
		needs, err := g.heldNeeds(o)
		if err != nil {
			return o, err
		}
		if needs.Pinned > g.hostRoom() || tier == swap.Mixed {
			if o.Linear == load.LinearInt8 {
				return o, pinnedOnly(needs.Pinned, g.hostRoom())
			}
			if err := g.pinSome(&o); err != nil {
				return o, err
			}
			g.log.Info("blocks stay in the checkpoint file: pinned host memory does not hold all", "needed", memory.Size(needs.Pinned), "free", memory.Size(g.hostRoom()), "pinned blocks", o.Visual.Pinned)
		}
	}
	g.tier = o.Visual.Tier
	return o, nil
}
