package kandinsky5

import (
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/clip"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/vae"
)

// half says whether kernels multiply in fp16.
func (p *planner) half() bool { return p.limits.Half && p.opts.Precision == load.Mixed }

// tokenizer opens the language model's, nil without a checkpoint.
func (p *planner) tokenizer() (*tokenizer.Tokenizer, error) {
	if p.tok == nil && p.nets.layout.QwenTokenizer != "" {
		var err error
		if p.tok, err = tokenizer.OpenQwenIn(p.nets.layout.Files(), p.nets.layout.QwenTokenizer); err != nil {
			return nil, err
		}
	}
	return p.tok, nil
}

// sequences returns how many ids each encoded prompt has, and how many rows of it are kept. Without a tokenizer, and where
// a prompt is not known yet, it has as many as can be.
func (p *planner) sequences() (tokens, rows []int, err error) {
	t, err := p.tokenizer()
	if err != nil {
		return nil, nil, err
	}
	template, longest := p.out.Settings.template(), p.config.Model.Qwen.MaxLength
	for k, text := range p.out.Settings.texts() {
		valid, crop := longest+template.CropStart, template.CropStart
		if k > 0 || p.known && !p.out.Settings.expands() {
			if t != nil {
				prompt, err := t.EncodePrompt(template, text, longest)
				if err != nil {
					return nil, nil, err
				}
				valid, crop = prompt.Valid(), prompt.Crop
			}
		}
		tokens, rows = append(tokens, valid), append(rows, max(1, valid-crop))
	}
	return tokens, rows, nil
}

// text is the larger of the two encoders, which work one after the other.
func (p *planner) text() error {
	tokens, rows, err := p.sequences()
	if err != nil {
		return err
	}
	layers := p.opts.QwenLayersInMemory
	if p.smallest {
		layers = max(1, layers)
	}
	o := qwen.Options{Precision: p.opts.Precision, Quantize: p.opts.QuantizeQwen, LayersInMemory: layers, Room: qwen.Work{Tokens: tokens}}
	need, layers, err := qwen.Need(p.nets.qwenConfig, p.nets.qwen, o, p.left(), p.half())
	if err != nil {
		return err
	}
	pooled, err := clip.Need(p.nets.clipConfig, p.nets.clip, p.opts.Precision, p.config.Model.CLIP.MaxLength, p.cut(), p.half())
	if err != nil {
		return err
	}
	p.out.Choice.TextLayers, p.out.Choice.TextLayersOf = layers, p.nets.qwenConfig.Text.NumHiddenLayers
	staging := p.qwenStaging(need, layers)
	kept, err := p.qwenKept()
	if err != nil {
		return err
	}
	both := load.Largest(need, pooled)
	both.Staging = max(need.Staging, pooled.Staging-staging.Bytes) // one encoder after the other
	p.add(StageText, both, staging, kept)
	p.rows = rows
	for _, n := range rows {
		p.held.Add("always", "prompts", 1, int64(n)*int64(p.nets.qwenConfig.Text.HiddenSize)*4)
	}
	return nil
}

// qwenKept is what of the text encoder is quantized and waits on the host until the text is encoded.
func (p *planner) qwenKept() (PlanItem, error) {
	n, err := qwen.Quantized(p.nets.qwenConfig, p.nets.qwen, p.opts.Precision, p.opts.QuantizeQwen, p.out.Settings.expands() && p.out.Settings.picture != nil)
	return PlanItem{OnHost, "text encoder: matrices in 4 bits", "always", n}, err
}

// qwenStaging is what reading decoder layers pins: those that stay go through two buffers as well as those that stream.
func (p *planner) qwenStaging(need *load.Need, layers int) PlanItem {
	layer := PlanItem{InPinned, "text encoder: staging", "load", 0}
	for _, i := range need.Items() {
		if layers > 0 && i.Label == "decoder layers" {
			layer.Bytes = int64(min(2, p.nets.qwenConfig.Text.NumHiddenLayers)) * i.Bytes / int64(layers)
		}
	}
	return layer
}

// expand is the language model at work on the prompt. The ids are counted with the checkpoint's tokenizer; without a
// checkpoint they are estimated.
func (p *planner) expand() error {
	if !p.out.Settings.expands() {
		return nil
	}
	e, err := newExpansion(p.nets.layout, p.nets.qwenConfig, p.out.Settings)
	if err != nil {
		return err
	}
	tokens, err := p.conversation(e)
	if err != nil {
		return err
	}
	o, err := expansionOptions(p.nets.qwenConfig, p.nets.qwen, p.opts, e.work(tokens, p.opts.expandTokens()), p.left(), p.half())
	if err != nil {
		return err
	}
	if p.smallest {
		o.LayersInMemory, o.KeepHead = max(1, o.LayersInMemory), false
	}
	need, layers, err := qwen.Need(p.nets.qwenConfig, p.nets.qwen, o, p.left(), p.half())
	if err != nil {
		return err
	}
	p.out.Choice.ExpandLayers = layers
	kept, err := p.qwenKept()
	if err != nil {
		return err
	}
	p.add(StageExpand, need, p.qwenStaging(need, layers), kept)
	return nil
}

// bytesPerID is about how many bytes of English an id of the published vocabulary has.
const bytesPerID = 4

func (p *planner) conversation(e expansion) (int, error) {
	t, err := p.tokenizer()
	if err != nil {
		return 0, err
	}
	if t == nil {
		n := (len(e.text) + bytesPerID - 1) / bytesPerID
		for _, cells := range e.cells {
			n += cells
		}
		return n, nil
	}
	ids, err := e.ids(t)
	return len(ids), err
}

func (p *planner) vaeModel() vae.Model {
	mixed := p.opts.Precision == load.Mixed
	return vae.Model{Config: p.nets.vae, Precision: p.opts.Precision, Stored: p.nets.vaeStored,
		Limits: vae.Limits{MaxAllocation: p.limits.MaxAllocation, MaxStorageRange: p.limits.MaxStorageRange,
			Half: p.limits.Half && mixed, Matrices: p.limits.Matrices && mixed, Cut: p.cut()}}
}

func (p *planner) image() error {
	if p.out.Settings.image == nil {
		return nil
	}
	if p.nets.vaeDecodes {
		return errNoEncoder()
	}
	size, g := p.out.Settings.Size, p.out.Settings.Geometry
	need, err := p.vaeModel().EncodeNeed(vae.Size{Frames: 1, Height: size.Height, Width: size.Width}, vae.Tiling{})
	if err != nil {
		return err
	}
	latent := int64(g.LatentHeight) * int64(g.LatentWidth) * int64(p.nets.vae.LatentChannels) * 4
	need.Add("encode", "pixels", 1, int64(size.Height)*int64(size.Width)*12)
	need.Add("encode", "noise of the first frame", 1, latent)
	p.held.Add("always", "first frame", 1, latent)
	p.add(StageImage, need)
	return nil
}

// latents is the clip as it is denoised.
func (p *planner) latents() load.Buffer {
	g := p.out.Settings.Geometry
	return load.Buffer{Label: "latents", DType: engine.F32, Shape: []int{g.LatentFrames, g.LatentHeight, g.LatentWidth, DiTConfig(p.config).InVisualDim}}
}

func (p *planner) denoise() error {
	p.held.AddBuffers("always", p.latents())
	d, err := p.transformer()
	if err != nil {
		return requestError("%v", err)
	}
	needs, c := d.needs, &p.out.Choice
	p.out.Swap, p.out.HostTier, p.out.BlockBytes, p.out.BytesLoaded = needs.Plan, d.tier, needs.BlockBytes, needs.LoadedBytes
	p.out.AtMost = p.opts.HostWeights == load.CodedWeights
	c.BlocksInMemory, c.StreamSlots, c.HostTier, c.PinnedBlocks, c.HeadGroups = needs.Plan.Slots, needs.Plan.Stream, d.tier, needs.PinnedBlocks, d.groups
	p.out.StepWork = stepWork(p.config, p.out.Settings, slices.Max(p.rows))
	p.add(StageDenoise, needs.Device(), append(waiting(d),
		PlanItem{InPinned, "staging while loading", "load", needs.PinnedLoad - needs.Pinned}, p.hashed(needs.PinnedLoad))...)
	p.loaded = needs.Weights()
	return nil
}

// hashed is where latents are copied after each step to be hashed. Where the host has no memory for it beside the pinned bytes
// a run does without.
func (p *planner) hashed(pinned int64) PlanItem {
	item := PlanItem{InPinned, "latents to hash", "denoise", 0}
	if latents := p.latents(); p.hashes && (p.limits.Host == 0 || pinned+leastStaging+latents.Bytes() <= p.limits.Host) {
		item.Bytes = latents.Bytes()
	}
	return item
}

// restored is what a state has instead of the stages before denoising.
func (p *planner) restored() error {
	s := p.out.Settings.resume
	for _, prompt := range s.Prompts {
		p.rows = append(p.rows, len(prompt.Text)/p.config.Model.DiT.InTextDim)
		p.held.Add("always", "prompts", 1, 4*int64(len(prompt.Text)))
	}
	p.held.Add("always", "first frame", 1, 4*int64(len(s.FirstFrame)))
	return nil
}

// ditNeeds is what the transformer needs, with the latents of earlier steps where a state has some.
func (p *planner) ditNeeds(r dit.Request) (*dit.Needs, error) {
	needs, err := dit.Plan(r)
	if err == nil {
		needs.Add("denoise", "latents of earlier steps", p.earlier, p.latents().Bytes())
	}
	return needs, err
}

// ditRequest is the transformer's work with so many blocks in memory, 0 for all.
func (p *planner) ditRequest(blocks int) dit.Request {
	s := p.out.Settings
	g, visual := s.Geometry, p.opts.ditSwap()
	visual.Slots, visual.Stream = blocks, min(p.opts.StreamSlots, blocks)
	return dit.Request{Config: DiTConfig(p.config), Reader: p.nets.dit, Half: p.half(), Fragments: p.limits.Fragments,
		Size: dit.Size{Frames: g.LatentFrames, Height: g.LatentHeight, Width: g.LatentWidth}, TextRows: slices.Max(p.rows),
		Branches: len(s.texts()), Times: s.Steps, Residuals: s.MagCache, MaxAllocation: p.limits.MaxAllocation, MaxStorageRange: p.limits.MaxStorageRange, Cut: p.cut(),
		Options: dit.Options{Precision: p.opts.Precision, Linear: p.opts.Linear, Visual: visual}}
}

// decode takes the largest tiles that the memory holds, as the pipeline does: beside the transformer if it may stay.
func (p *planner) decode() error {
	s := p.out.Settings
	size := vae.Size{Frames: s.Geometry.Frames, Height: s.Size.Height, Width: s.Size.Width}
	model := p.vaeModel()
	whole, err := model.FitTiling(size, 1<<62)
	if err != nil {
		return requestError("%v", err)
	}
	if p.limits.Device > 0 && !p.smallest {
		stay, err := p.decodeBeside(model, size, whole)
		if err != nil {
			return err
		}
		p.out.Choice.KeepTransformer = stay
	} else {
		p.out.Choice.KeepTransformer = !p.opts.Offload && !p.smallest
	}
	tiling, budget := whole, p.left().Budget
	if p.smallest {
		tiling = vae.SmallestTiling(size)
	} else if budget > 0 && !p.out.Choice.KeepTransformer {
		if tiling, err = model.FitTiling(size, budget); err != nil {
			// The smallest tiles say what is missing.
			p.out.Short = err.Error()
		}
	}
	need, err := model.DecodeNeed(size, tiling, false)
	if err != nil {
		return err
	}
	if p.out.Choice.KeepTransformer {
		need = need.After(p.loaded)
	}
	p.out.Choice.Tile, p.out.Choice.WholeTile = [2]int{tiling.Height, tiling.Width}, [2]int{whole.Height, whole.Width}
	p.add(StageDecode, need)
	return nil
}

// decodeBeside says whether the transformer stays while the decoder works in the largest tiles.
func (p *planner) decodeBeside(model vae.Model, size vae.Size, whole vae.Tiling) (bool, error) {
	if p.opts.Offload {
		return false, nil
	}
	left := p.cut()
	left.Budget = max(1, left.Budget-p.loaded.After(p.held).Bytes())
	model.Limits.Cut = left
	need, err := model.DecodeNeed(size, whole, false)
	return err == nil && need.Bytes() <= left.Budget, err
}
