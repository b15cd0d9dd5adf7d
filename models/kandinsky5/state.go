package kandinsky5

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// State is a run after some of its steps: all that the rest of it needs, so that a later process, or another device, ends
// with the frames of a run that was never interrupted. A State is not changed once it is made.
//
// It holds no residuals of MagCache, which are thirty times the latents (372 MiB a branch for 5 s of the 20B model at
// 768×512), but what they follow from: the latents that the passes in question saw. These passes, at most one for each branch, are made once more.
type State struct {
	Settings   Settings
	Step       int             // steps done
	Latents    []float32       // [T, H, W, C], as step Step begins with them
	Earlier    []Earlier       // in the order of their steps; empty without MagCache
	FirstFrame []float32       // [1, H, W, C], the clean first frame of image-to-video; else nil
	Prompts    []EncodedPrompt // the prompt, and with guidance the negative one
	Precision  load.Precision
	Linear     load.Linear
	Attention  load.Attention
	Host       load.HostWeights // what blocks waited in
	Model      string           // fingerprint of the transformer's and the VAE's weights
	Config     string           // fingerprint of the configuration, file paths left out
	Hashes     *Hashes          // with Request.Digests: what the steps gave
	Rounding   receipt.Rounding // how the steps so far were computed; zero where it is not known
	// Notes are the caller's own, such as a command line. Generate does not look at them.
	Notes map[string]string
}

// Earlier is what an earlier step began with, which MagCache took a residual of that is still needed.
type Earlier struct {
	Step    int
	Latents []float32 // [T, H, W, C]
}

// EncodedPrompt is what the text encoders made of a prompt.
type EncodedPrompt struct {
	Text   []float32 // [L, in_text_dim]
	Pooled []float32 // [in_text_dim2]
}

// Finished describes a step that Generate has made.
type Finished struct {
	Step, Steps int           // steps done, of how many
	Took        time.Duration // by this step
	Latents     []float32     // [T, H, W, C] after it
	State       *State        // what the run can be continued from
	// Preview draws the clean clip that the step predicts, a pixel for each latent; nil without Request.Preview. It may be
	// called later and on any goroutine: the run does not wait for it.
	Preview func() *Clip
}

// Decision is what a caller wants after a step.
type Decision int

// Decisions. Go goes on; Stop ends Generate with ErrStopped; Decode makes no more steps and decodes the clean clip as the
// step just made predicts it.
const (
	Go Decision = iota
	Stop
	Decode
)

// ErrStopped is what Generate's error wraps when Request.AfterStep decided to stop.
var ErrStopped = errors.New("stopped")

// check compares a state, which may come from anywhere, with the configuration that is to continue it.
func (s *State) check(config *configs.Config) error {
	g, model := s.Settings.Geometry, config.Model.DiT
	if err := s.Settings.checkNumbers(config); err != nil {
		return err
	}
	want, err := config.Geometry(g.Seconds, s.Settings.Size)
	if err != nil {
		return requestError("the state: %v", err)
	}
	frame := g.LatentHeight * g.LatentWidth * model.InVisualDim
	switch {
	case s.Config != configFingerprint(config):
		return requestError("the state was made with another configuration than %s, or with that file before it was changed", config.Name)
	case want != g || s.Settings.Geometry.Size != s.Settings.Size:
		return requestError("the state contradicts itself: %d latent frames of %d×%d for %d×%d pixels", g.LatentFrames, g.LatentWidth, g.LatentHeight, s.Settings.Size.Width, s.Settings.Size.Height)
	case s.Step < 0 || s.Step > s.Settings.Steps:
		return requestError("the state contradicts itself: %d of %d steps done", s.Step, s.Settings.Steps)
	case len(s.Latents) != g.LatentFrames*frame:
		return requestError("the state has %d numbers of latents, its size needs %d", len(s.Latents), g.LatentFrames*frame)
	case (config.Pipeline == configs.I2V) != (s.FirstFrame != nil), s.FirstFrame != nil && len(s.FirstFrame) != frame:
		return requestError("the state has %d numbers of a first frame, a model for %s with frames of %d", len(s.FirstFrame), config.Pipeline, frame)
	case len(s.Prompts) != len(s.Settings.texts()):
		return requestError("the state has %d prompts, guidance %g needs %d", len(s.Prompts), s.Settings.Guidance, len(s.Settings.texts()))
	}
	if err := s.checkEarlier(config); err != nil {
		return err
	}
	for k, p := range s.Prompts {
		if len(p.Text) == 0 || len(p.Text)%model.InTextDim != 0 || len(p.Pooled) != model.InTextDim2 {
			return requestError("prompt %d of the state has %d and %d numbers, the model wants multiples of %d, and %d", k, len(p.Text), len(p.Pooled), model.InTextDim, model.InTextDim2)
		}
	}
	return nil
}

// checkEarlier compares what is there with what MagCache will ask for.
func (s *State) checkEarlier(config *configs.Config) error {
	var needed []int
	if s.Settings.MagCache {
		cache, err := NewMagCache(config.MagRatios, s.Settings.Steps, Guided(s.Settings.Guidance))
		if err != nil {
			return requestError("the state: %v", err)
		}
		needed = slices.DeleteFunc(residualSteps(cache.Plan(), s.Step), func(step int) bool { return step < 0 })
		slices.Sort(needed)
		needed = slices.Compact(needed)
	}
	if len(needed) != len(s.Earlier) {
		return requestError("the state has the latents of %d earlier steps, MagCache needs %d", len(s.Earlier), len(needed))
	}
	for k, e := range s.Earlier {
		if e.Step != needed[k] || len(e.Latents) != len(s.Latents) {
			return requestError("the state has %d numbers of step %d, MagCache needs %d of step %d", len(e.Latents), e.Step, len(s.Latents), needed[k])
		}
	}
	return nil
}

// checkState refuses a state of other weights or of another precision.
func (g *run) checkState() error {
	s := g.settings.resume
	switch {
	case s == nil:
		return nil
	case s.Precision != g.opts.Precision:
		return requestError("the state was made with precision %s, not %s", s.Precision, g.opts.Precision)
	case s.Linear != g.opts.Linear:
		return requestError("the state was made with linear layers in %s, not %s", s.Linear, g.opts.Linear)
	case s.Attention != g.opts.Attention:
		return requestError("the state was made with --attention-engine %s, not %s", s.Attention, g.opts.Attention)
	case s.Host != g.opts.hostWeights():
		return requestError("the state was made with blocks waiting in %s, not %s", s.Host, g.opts.hostWeights())
	case !sameLoRA(s.Settings.LoRA, g.adapters.Applied()):
		return requestError("the state was made with %s, not %s", adaptersText(s.Settings.LoRA), adaptersText(g.adapters.Applied()))
	case s.Model != g.modelFingerprint():
		return requestError("the state was made with other weights than those in %s", g.ckpt.Layout.DiT.Path)
	}
	return nil
}

// keeper makes the states of a run.
type keeper struct {
	base   State    // what no step changes
	plan   [][]bool // of MagCache; nil without
	inputs []Earlier
}

// newKeeper brings to the host what all states of the run have in common.
func (g *run) newKeeper(ctx context.Context, prompts []dit.Prompt, first, latents engine.Tensor, cache *MagCache) (*keeper, error) {
	k := &keeper{}
	if cache != nil {
		k.plan = cache.Plan()
	}
	if s := g.from; s != nil {
		k.base, k.inputs = *s, append(slices.Clone(s.Earlier), Earlier{s.Step, s.Latents})
		k.base.Rounding = g.rounds
		return k, nil
	}
	start, err := g.device.DownloadF32(ctx, latents)
	if err != nil {
		return nil, err
	}
	k.inputs = []Earlier{{0, start}}
	k.base = State{Settings: g.settings, Precision: g.opts.Precision, Linear: g.opts.Linear, Attention: g.opts.Attention, Host: g.opts.hostWeights(), Model: g.modelFingerprint(), Config: configFingerprint(g.ckpt.Config)}
	k.base.Settings.image, k.base.Settings.picture, k.base.Rounding = nil, nil, g.rounds
	for _, p := range prompts {
		text, err := g.device.DownloadF32(ctx, p.Text)
		if err != nil {
			return nil, err
		}
		k.base.Prompts = append(k.base.Prompts, EncodedPrompt{Text: text, Pooled: p.Pooled})
	}
	if !first.IsZero() {
		k.base.FirstFrame, err = g.device.DownloadF32(ctx, first)
	}
	return k, err
}

// after makes the state after a step.
func (k *keeper) after(step int, latents []float32) *State {
	needed := residualSteps(k.plan, step)
	s := k.base
	s.Step, s.Latents, s.Earlier = step, latents, nil
	for _, in := range k.inputs {
		if slices.Contains(needed, in.Step) {
			s.Earlier = append(s.Earlier, in)
		}
	}
	k.inputs = append(k.inputs, Earlier{step, latents})
	// A residual lives for a few steps; what came before the oldest that any branch still has will not be asked for.
	for len(k.inputs) > 2*magMaxSkips+2 {
		k.inputs = k.inputs[1:]
	}
	return &s
}

// stepDone keeps the state after a step, tells the caller about it and obeys.
func (g *run) stepDone(ctx context.Context, k *keeper, step Step) error {
	if err := g.checkFiles(); err != nil {
		return err // no state is kept of a step that may be of two models
	}
	latents, err := g.device.DownloadF32(ctx, step.Latents)
	if err != nil {
		return err
	}
	done, before := step.Index+1, k.inputs[len(k.inputs)-1].Latents
	g.from = k.after(done, latents)
	g.from.Hashes = g.digest.sofar(step.Index)
	if g.afterStep == nil {
		return nil
	}
	f := Finished{Step: done, Steps: step.Count, Took: step.Took, Latents: latents, State: g.from}
	f.Preview = g.previewOf(before, latents, k.base.FirstFrame, step)
	decision, err := g.afterStep(f)
	switch {
	case err != nil:
		return err
	case decision == Stop:
		return fmt.Errorf("%w after step %d of %d", ErrStopped, done, step.Count)
	case decision == Decode:
		return ErrEnough
	}
	return nil
}

// restorePrompts puts a state's encoded prompts back on the device, into the run's arena.
func (g *run) restorePrompts(ctx context.Context) ([]dit.Prompt, error) {
	width := g.ckpt.Config.Model.DiT.InTextDim
	var out []dit.Prompt
	for _, p := range g.settings.resume.Prompts {
		text := g.arena.Alloc("prompt", engine.F32, len(p.Text)/width, width)
		if err := g.arena.Err(); err != nil {
			return nil, err
		}
		if err := g.device.UploadF32(ctx, text, p.Text); err != nil {
			return nil, err
		}
		out = append(out, dit.Prompt{Text: text, Pooled: p.Pooled})
	}
	return out, g.digest.text(ctx, out)
}

// restoreFirstFrame puts a state's first frame back on the device, into the run's arena.
func (g *run) restoreFirstFrame(ctx context.Context) (engine.Tensor, error) {
	geometry, channels := g.settings.Geometry, g.ckpt.Config.Model.DiT.InVisualDim
	first := g.arena.Alloc("first frame", engine.F32, 1, geometry.LatentHeight, geometry.LatentWidth, channels)
	if err := g.arena.Err(); err != nil {
		return engine.Tensor{}, err
	}
	if err := g.device.UploadF32(ctx, first, g.settings.resume.FirstFrame); err != nil {
		return engine.Tensor{}, err
	}
	return first, g.digest.firstFrame(ctx, first)
}

// sampledTensors and sampledBytes bound what of a network's values goes into its fingerprint.
const (
	sampledTensors = 32
	sampledBytes   = 4096
)

// sameLoRA says whether adapters act alike, wherever their files lie.
func sameLoRA(a, b []lora.Applied) bool {
	return slices.EqualFunc(a, b, func(x, y lora.Applied) bool {
		x.Path, y.Path = "", ""
		return x == y
	})
}

// adaptersText names adapters in an error.
func adaptersText(list []lora.Applied) string {
	if len(list) == 0 {
		return "no LoRA adapter"
	}
	text := "the LoRA adapters"
	for k, a := range list {
		if k > 0 {
			text += ","
		}
		text += fmt.Sprintf(" %s:%g", a.Path, a.Weight)
	}
	return text
}

// modelFingerprint tells models, with their adapters, apart without reading all of them: every tensor's name, type and shape,
// and the first values of some.
func (p *Pipeline) modelFingerprint() string {
	h := sha256.New()
	for _, f := range p.adapters.Files() {
		for _, name := range f.Names() {
			t, _ := f.Tensor(name)
			fmt.Fprintf(h, "%q %s %v\n", name, t.DType, t.Shape)
			h.Write(t.Data[:min(len(t.Data), sampledBytes)])
		}
	}
	for _, c := range []*weights.Checkpoint{p.nets.dit, p.nets.vae} {
		if c == nil {
			continue // made up, from names and shapes that the configuration has
		}
		names := slices.Sorted(slices.Values(c.Names()))
		for k, name := range names {
			t, _ := c.Tensor(name)
			fmt.Fprintf(h, "%q %s %v\n", name, t.DType, t.Shape)
			if k%max(1, len(names)/sampledTensors) == 0 {
				h.Write(t.Data[:min(len(t.Data), sampledBytes)])
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// configFingerprint tells apart configurations that compute differently. Where files lie and how blocks are swapped changes
// no number.
func configFingerprint(config *configs.Config) string {
	c := *config
	c.Name, c.File, c.Dir, c.BlockSwap = "", "", "", configs.BlockSwap{}
	c.Model.CheckpointPath, c.Model.VAE.CheckpointPath = "", ""
	for _, e := range []*configs.TextEmbedder{&c.Model.Qwen, &c.Model.CLIP} {
		e.CheckpointPath, e.TokenizerPath = "", ""
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("kandinsky5: a configuration is no JSON: %v", err)) // a number that is not finite cannot be read
	}
	sum := sha256.Sum256(binary.LittleEndian.AppendUint32(text, uint32(len(text))))
	return hex.EncodeToString(sum[:16])
}

// restoreEarlier uploads what MagCache's residuals follow from, to an arena that the caller releases.
func (g *run) restoreEarlier(ctx context.Context, arena *engine.Arena, like engine.Tensor) ([]Replay, error) {
	if g.from == nil {
		return nil, nil
	}
	var out []Replay
	for _, e := range g.from.Earlier {
		t := arena.Alloc("latents of an earlier step", engine.F32, like.Shape...)
		if err := arena.Err(); err != nil {
			return nil, err
		}
		if err := g.device.UploadF32(ctx, t, e.Latents); err != nil {
			return nil, err
		}
		out = append(out, Replay{Step: e.Step, Latents: t})
	}
	return out, nil
}
