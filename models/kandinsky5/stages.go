package kandinsky5

import (
	"context"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/clip"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/swap"
)

// texts are the prompts that are encoded: the prompt, written out or as it was given, behind the adapters' trigger, and with
// guidance the negative prompt.
func (s Settings) texts() []string {
	prompt := s.Prompt
	if s.ExpandedPrompt != "" {
		prompt = s.ExpandedPrompt
	}
	prompt = s.Trigger + prompt
	if Guided(s.Guidance) {
		return []string{prompt, s.NegativePrompt}
	}
	return []string{prompt}
}

// encodeText makes the conditions of the transformer. Padded rows are dropped at once: no row of a prompt sees them, and
// the transformer would mask them. The tensors belong to the run's arena.
func (g *run) encodeText(ctx context.Context) ([]dit.Prompt, error) {
	if g.settings.resume != nil {
		return g.restorePrompts(ctx)
	}
	defer g.nets.qwen4Bits.Forget()
	if g.prepared != nil {
		return g.restore(ctx)
	}
	texts := g.settings.texts()
	pooled, err := g.pooled(ctx, texts)
	if err != nil {
		return nil, err
	}
	g.report(StageText, 1, 2)
	rows, err := g.textRows(ctx, texts)
	if err != nil {
		return nil, err
	}
	g.report(StageText, 2, 2)
	prompts := make([]dit.Prompt, len(texts))
	for k := range prompts {
		prompts[k] = dit.Prompt{Text: rows[k], Pooled: pooled[k]}
	}
	return prompts, g.digest.text(ctx, prompts)
}

// pooled encodes the bare texts with CLIP (kandinsky-5, kandinsky/models/text_embedders.py).
func (g *run) pooled(ctx context.Context, texts []string) ([][]float32, error) {
	m, err := clip.New(ctx, g.device, g.nets.clipReader, g.nets.clipConfig, clip.Options{Precision: g.opts.Precision})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	out := make([][]float32, len(texts))
	for k, text := range texts {
		if out[k], err = g.pooledText(ctx, m, text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *Pipeline) pooledText(ctx context.Context, m *clip.Model, text string) ([]float32, error) {
	prompt, err := p.clipTok.EncodeCLIP(text, p.ckpt.Config.Model.CLIP.MaxLength)
	if err != nil {
		return nil, err
	}
	return m.Pooled(ctx, prompt.IDs)
}

// template is the video template for every clip, also one that starts from a picture, and the image template for a
// single picture without one (kandinsky-5, kandinsky/generation_utils.py, generate_sample).
func (s Settings) template() tokenizer.Template {
	if s.Geometry.LatentFrames == 1 && s.image == nil {
		return tokenizer.Image()
	}
	return tokenizer.Video()
}

// textRows encodes the texts with Qwen and keeps the rows of the prompt itself, F32 [L, D].
func (g *run) textRows(ctx context.Context, texts []string) ([]engine.Tensor, error) {
	sequences := make([][]int32, len(texts))
	crops := make([]int, len(texts))
	for k, text := range texts {
		var err error
		if sequences[k], crops[k], err = g.tokens(text); err != nil {
			return nil, err
		}
	}
	lengths := make([]int, len(texts))
	for k := range lengths {
		lengths[k] = len(sequences[k])
	}
	m, err := qwen.New(ctx, g.device, g.nets.qwenReader, g.nets.qwenConfig, qwen.Options{Precision: g.opts.Precision, Quantize: g.opts.QuantizeQwen,
		LayersInMemory: g.opts.QwenLayersInMemory, Room: qwen.Work{Tokens: lengths}})
	if err != nil {
		return nil, err
	}
	rows, err := g.keepRows(ctx, m, sequences, crops)
	g.logLayers(StageText, m)
	return rows, oneline.Join(err, m.Close())
}

// logLayers tells how the text encoder's layers were held and what crossed the bus.
func (p *Pipeline) logLayers(stage Stage, m *qwen.Model) {
	c, plan := m.Counters()
	p.log.Debug("text encoder", "stage", stage, "layers", plan.String(), "used", c.Accesses, "copied", c.Loads, "over the bus", memory.Size(c.Bytes), "reading", c.ReadTime,
		"in 4 bits on the host", memory.Size(p.nets.qwen4Bits.Bytes()))
}

// tokens are a text's ids within its template, and how many of them come before the text.
func (g *run) tokens(text string) (ids []int32, crop int, err error) {
	prompt, err := g.qwenTok.EncodePrompt(g.settings.template(), text, g.ckpt.Config.Model.Qwen.MaxLength)
	if err != nil {
		return nil, 0, err
	}
	if ids, crop = prompt.IDs[:prompt.Valid()], prompt.Crop; len(ids) <= crop {
		return nil, 0, requestError("the prompt %.40q leaves no text after the template", text)
	}
	return ids, crop, nil
}

func (g *run) keepRows(ctx context.Context, m *qwen.Model, sequences [][]int32, crops []int) ([]engine.Tensor, error) {
	hidden, err := m.HiddenBatch(ctx, sequences)
	if err != nil {
		return nil, err
	}
	// Before more is taken: what the layers worked in must be free, as planned.
	err = g.device.Settle()
	s := g.device.Compute()
	rows := make([]engine.Tensor, len(hidden))
	for k, h := range hidden {
		rows[k] = g.arena.Alloc("prompt", engine.F32, h.Dim(0)-crops[k], h.Dim(1))
		if g.arena.Err() == nil {
			s.Copy(rows[k], h.Rows(crops[k], h.Dim(0)))
		}
		g.device.Free(h)
	}
	return rows, oneline.Join(err, g.arena.Err(), s.Finish(ctx))
}

// encodeImage encodes the first frame: a sample of the posterior, scaled as the transformer sees latents, F32
// [1, H, W, C].
func (g *run) encodeImage(ctx context.Context) (engine.Tensor, error) {
	if g.settings.resume != nil {
		return g.restoreFirstFrame(ctx)
	}
	if err := g.roomForImage(); err != nil {
		return engine.Tensor{}, err
	}
	v, err := vae.New(g.device, g.nets.vaeReader, g.nets.vaeConfig, g.opts.Precision)
	if err != nil {
		return engine.Tensor{}, err
	}
	defer v.Close()
	if err := v.LoadEncoder(ctx); err != nil {
		return engine.Tensor{}, err
	}
	geometry, channels := g.settings.Geometry, g.nets.vaeConfig.LatentChannels
	temporary := g.device.NewArena("first frame")
	defer temporary.Release()
	pixels := temporary.Alloc("pixels", engine.F32, 1, g.settings.Size.Height, g.settings.Size.Width, 3)
	noise := temporary.Alloc("noise", engine.F32, 1, geometry.LatentHeight, geometry.LatentWidth, channels)
	first := g.arena.Alloc("first frame", engine.F32, 1, geometry.LatentHeight, geometry.LatentWidth, channels)
	if err := oneline.Join(temporary.Err(), g.arena.Err()); err != nil {
		return engine.Tensor{}, err
	}
	values, err := posteriorNoise(g.settings.Seed, channels, geometry.LatentHeight, geometry.LatentWidth)
	if err != nil {
		return engine.Tensor{}, err
	}
	if err := g.device.UploadF32(ctx, noise, values); err != nil {
		return engine.Tensor{}, err
	}
	if err := g.device.UploadF32(ctx, pixels, vae.Normalize(g.settings.image.Pix)); err != nil {
		return engine.Tensor{}, err
	}
	posterior, err := v.Encode(ctx, pixels, vae.EncodeOptions{})
	if err != nil {
		return engine.Tensor{}, err
	}
	defer posterior.Free()
	posterior.Sample(g.device.Compute(), first, noise, g.nets.vaeConfig.ScalingFactor)
	if err := g.device.Compute().Finish(ctx); err != nil {
		return first, err
	}
	return first, g.digest.firstFrame(ctx, first)
}

// denoise integrates from noise, or from where a state stands, and returns the clean latents, F32 [T, H, W, C].
func (g *run) denoise(ctx context.Context, prompts []dit.Prompt, first engine.Tensor) (engine.Tensor, error) {
	s, geometry := g.settings, g.settings.Geometry
	latents, err := g.startLatents(ctx)
	if err != nil {
		return latents, err
	}
	options := DenoiseOptions{Steps: s.Steps, SchedulerScale: s.SchedulerScale, Guidance: s.Guidance, FirstFrame: first, Start: g.stepsMade()}
	if options.Start == s.Steps {
		err := Denoise(ctx, g.device, nil, nil, latents, options)
		if err == nil {
			err = g.digest.final(ctx, latents)
		}
		return latents, err
	}
	options.Recorded = func(int) { g.digest.record(latents) }
	size := dit.Size{Frames: geometry.LatentFrames, Height: geometry.LatentHeight, Width: geometry.LatentWidth, RopeScale: RopeScale(g.ckpt.Config)}
	g.asked.adapters = g.dit.Adapters() // should the run go on with a smaller plan, then in the same way
	pass, err := g.dit.NewPass(ctx, dit.PassOptions{Size: size, Prompts: prompts, Times: options.Times()})
	if err != nil {
		return engine.Tensor{}, err
	}
	defer pass.Close()
	if s.MagCache {
		if options.MagCache, err = NewMagCache(g.ckpt.Config.MagRatios, s.Steps, Guided(s.Guidance)); err != nil {
			return engine.Tensor{}, err
		}
	}
	earlier := g.device.NewArena("earlier steps")
	defer earlier.Release()
	if options.Replay, err = g.restoreEarlier(ctx, earlier, latents); err != nil {
		return engine.Tensor{}, err
	}
	steps := &stepTimes{}
	if options.OnStep, err = g.onStep(ctx, steps, func() (*keeper, error) { return g.newKeeper(ctx, prompts, first, latents, options.MagCache) }); err != nil {
		return engine.Tensor{}, err
	}
	g.device.Compute().TakeSpans()
	g.report(StageDenoise, options.Start, s.Steps)
	err = Denoise(ctx, g.device, pass, g.dit, latents, options)
	counters, plan := g.dit.Counters()
	g.stats.Swap, g.stats.SwapPlan = g.stats.Swap.Plus(counters.Since(g.counted)), plan.String()
	g.counted = counters
	g.stats.HostTier, g.stats.StepTimes = g.tier, append(g.stats.StepTimes, steps.took...) // of all attempts
	g.stats.StepsMade = len(g.stats.StepTimes)
	if err == nil && g.timed {
		g.judge(steps, plan)
	}
	if err == nil {
		err = g.digest.final(ctx, latents)
	}
	return latents, err
}

// startLatents are the noise of the seed, or a state's latents, F32 [T, H, W, C].
func (g *run) startLatents(ctx context.Context) (engine.Tensor, error) {
	geometry := g.settings.Geometry
	latents := g.arena.Alloc("latents", engine.F32, geometry.LatentFrames, geometry.LatentHeight, geometry.LatentWidth, g.ckpt.Config.Model.DiT.InVisualDim)
	if err := g.arena.Err(); err != nil {
		return engine.Tensor{}, err
	}
	if g.from != nil {
		if err := g.digest.start(latents, nil, g.settings.Steps, g.from.Hashes); err != nil {
			return engine.Tensor{}, err
		}
		return latents, g.device.UploadF32(ctx, latents, g.from.Latents)
	}
	noise, err := LatentNoise(g.settings.Seed, int(latents.Elems()))
	if err != nil {
		return engine.Tensor{}, err
	}
	if err := g.digest.start(latents, noise, g.settings.Steps, nil); err != nil {
		return engine.Tensor{}, err
	}
	return latents, g.device.UploadF32(ctx, latents, noise)
}

// stepsMade is how many steps were made before denoising begins, or begins anew.
func (g *run) stepsMade() int {
	if g.from == nil {
		return 0
	}
	return g.from.Step
}

// onStep returns what happens after each step. Where a smaller plan may be needed, each leaves the state that it would go on
// from.
func (g *run) onStep(ctx context.Context, steps *stepTimes, newKeeper func() (*keeper, error)) (func(Step) error, error) {
	var states *keeper
	if g.afterStep != nil || g.auto {
		var err error
		if states, err = newKeeper(); err != nil {
			return nil, err
		}
	}
	return func(step Step) error {
		g.stats.Skipped += step.Skipped
		g.digest.step(step.Index)
		steps.add(step.Took, g.device.Compute().TakeSpans())
		g.report(StageDenoise, step.Index+1, step.Count)
		if states != nil {
			begin := time.Now()
			err := g.stepDone(ctx, states, step)
			g.stats.AfterSteps += time.Since(begin)
			if err != nil {
				return err
			}
		}
		if step.Index+1 == step.Count {
			return nil
		}
		return g.squeeze(ctx)
	}, nil
}

// stepTimes collects what the steps took.
type stepTimes struct {
	compute []engine.Span
	took    []time.Duration
	second  float64 // when the second step's work began, on the device's clock; 0 where there is none
}

func (s *stepTimes) add(took time.Duration, spans []engine.Span) {
	if len(s.took) == 1 && len(spans) > 0 {
		s.second = spans[0].Start
	}
	s.took = append(s.took, took)
	s.compute = append(s.compute, spans...)
}

// judge works out where the steps' time went.
func (g *run) judge(s *stepTimes, plan swap.Plan) {
	g.trace.Compute, g.trace.Transfer = s.compute, g.dit.TakeCopies()
	all := swap.IntervalsOf(g.trace.Compute, g.trace.Transfer)
	timing := all.Timing()
	g.stats.Timing = &timing
	r := swap.Run{Plan: plan, Tier: g.tier, Shared: g.device.SharedQueue(), Passes: len(s.took), Room: -1, Intervals: all.Since(s.second)}
	steady := s.took
	if s.second > 0 {
		steady = s.took[1:]
	}
	for _, d := range steady {
		r.Time += d
	}
	if budget, _ := g.device.Mem.Budget(memory.Device); budget > 0 {
		r.Room = int(max(0, budget-g.device.Mem.Peak(memory.Device)) / g.dit.BlockBytes())
	}
	verdict := swap.Judge(r)
	g.stats.Verdict = &verdict
}
