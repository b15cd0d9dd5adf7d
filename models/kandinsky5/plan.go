package kandinsky5

import (
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/clip"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// PlanLimits describe the machine that a run is planned for, in bytes. Zero limits are taken as no limit.
type PlanLimits struct {
	Device          int64 // device memory that may be used
	Host            int64 // host memory that may be pinned
	MaxAllocation   int64 // of one allocation
	MaxStorageRange int64 // of one binding
	Half            bool  // kernels multiply in fp16, which takes a little scratch memory
	Matrices        bool  // cooperative matrices multiply the autoencoder's convolutions, for which some weights are folded
}

// DeviceLimits are those of a device's kernels; how much memory there is they leave open.
func DeviceLimits(c engine.Caps) PlanLimits {
	v := vae.LimitsOf(c, load.Mixed)
	return PlanLimits{MaxAllocation: v.MaxAllocation, MaxStorageRange: v.MaxStorageRange, Half: v.Half, Matrices: v.Matrices}
}

// Where says which memory an item lies in.
type Where string

// Places of memory.
const (
	OnDevice Where = "device"
	InPinned Where = "pinned host"
)

// PlanItem is something that lies in memory during a stage.
type PlanItem struct {
	Where Where  `json:"where"`
	Label string `json:"label"`
	When  string `json:"when"`
	Bytes int64  `json:"bytes"`
}

// StagePlan is what a stage needs at its peak.
type StagePlan struct {
	Stage  Stage      `json:"stage"`
	Items  []PlanItem `json:"items"`
	Device int64      `json:"device_bytes"`
	Pinned int64      `json:"pinned_bytes"`
}

// MemoryPlan says what will lie where, stage by stage, before anything is loaded.
type MemoryPlan struct {
	Settings    Settings      `json:"settings"`
	Stages      []StagePlan   `json:"stages"`
	Device      int64         `json:"peak_device_bytes"`
	Pinned      int64         `json:"peak_pinned_bytes"`
	BlockBytes  int64         `json:"block_bytes"`
	BytesLoaded int64         `json:"bytes_per_step"` // that cross the bus in a step, for all branches together
	Swap        swap.Plan     `json:"swap"`
	HostTier    swap.HostTier `json:"host_tier"`
	Fits        bool          `json:"fits"`
	Advice      string        `json:"advice,omitempty"` // what would make it fit
}

// planner is a plan in the making.
type planner struct {
	config *configs.Config
	opts   Options
	limits PlanLimits
	nets   planNetworks
	out    *MemoryPlan
}

// planNetworks give the shapes and types of the networks.
type planNetworks struct {
	dit, qwen, clip load.Reader
	vaeStored       weights.DType
	vae             weights.VAEConfig
	qwenConfig      weights.QwenConfig
	layout          weights.Layout // zero for the published networks
	clipConfig      weights.CLIPConfig
}

// PlanRun plans a request without a device and without reading weights. With a checkpoint its headers say the types of
// the tensors; without one (nil) the published networks in bf16 (VAE in fp16) are meant. A picture that the request
// lacks is taken to have the request's size.
func PlanRun(config *configs.Config, c *Checkpoint, o Options, r Request, limits PlanLimits) (_ *MemoryPlan, err error) {
	if config.Pipeline == configs.I2V && r.Image == nil && r.Resume == nil {
		if r.Width == 0 && r.Height == 0 {
			r.Width, r.Height = 768, 512
			if config.Metrics.Resolution >= 1024 {
				r.Width, r.Height = 1024, 1024
			}
		}
		if r.Width < 1 || r.Height < 1 || r.Width > 4096 || r.Height > 4096 {
			return nil, requestError("size %d×%d: give both width and height in pixels, up to 2048", r.Width, r.Height)
		}
		r.Image = media.NewImage(r.Height, r.Width)
	}
	if r.Prompt == "" {
		r.Prompt = "a prompt"
	}
	settings, err := Resolve(config, r)
	if err != nil {
		return nil, err
	}
	p := &planner{config: config, opts: o, limits: limits, out: &MemoryPlan{Settings: settings}}
	closeAll, err := p.nets.open(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = oneline.Join(err, closeAll()) }()
	if limits.MaxAllocation == 0 {
		p.limits.MaxAllocation = 1 << 62
	}
	if limits.MaxStorageRange == 0 {
		p.limits.MaxStorageRange = 1<<32 - 256
	}
	return p.out, p.plan()
}

func (n *planNetworks) open(c *Checkpoint) (func() error, error) {
	if c == nil {
		*n = planNetworks{dit: load.Synthetic(weights.BF16), qwen: load.Synthetic(weights.BF16), clip: load.Synthetic(weights.F32), vaeStored: weights.F16,
			vae: weights.HunyuanVAE(), qwenConfig: weights.Qwen7B(), clipConfig: weights.CLIPViTL14()}
		return func() error { return nil }, nil
	}
	p := &Pipeline{ckpt: c}
	if err := p.nets.open(c); err != nil {
		return nil, oneline.Join(err, p.Close())
	}
	*n = planNetworks{dit: p.nets.ditReader, qwen: p.nets.qwenReader, clip: p.nets.clipReader, vaeStored: storedType(p.nets.vae),
		vae: p.nets.vaeConfig, layout: c.Layout, qwenConfig: p.nets.qwenConfig, clipConfig: p.nets.clipConfig}
	return p.Close, nil
}

func (p *planner) plan() error {
	stages := []func() error{p.expand, p.text, p.image, p.denoise, p.decode}
	if p.out.Settings.resume != nil {
		stages = stages[3:]
	}
	for _, stage := range stages {
		if err := stage(); err != nil {
			return err
		}
	}
	p.out.judge(p.limits)
	if !p.out.Fits {
		p.out.Advice = p.advice()
	}
	return nil
}

// judge finds the peaks of the stages and whether they fit.
func (m *MemoryPlan) judge(limits PlanLimits) {
	m.Device, m.Pinned = 0, 0
	for _, s := range m.Stages {
		m.Device, m.Pinned = max(m.Device, s.Device), max(m.Pinned, s.Pinned)
	}
	m.Fits = (limits.Device == 0 || m.Device <= limits.Device) && (limits.Host == 0 || m.Pinned <= limits.Host)
}

// Only returns the plan of a single stage.
func (m *MemoryPlan) Only(stage Stage, limits PlanLimits) *MemoryPlan {
	out := *m
	out.Stages = slices.DeleteFunc(slices.Clone(m.Stages), func(s StagePlan) bool { return s.Stage != stage })
	if out.judge(limits); out.Fits {
		out.Advice = ""
	}
	return &out
}

func (p *planner) add(s Stage, items []load.Item, pinned ...PlanItem) {
	stage := StagePlan{Stage: s}
	for _, i := range items {
		stage.Device += i.Bytes
		// Pieces of one thing, such as a layer's cache, are one item.
		if n := len(stage.Items); n > 0 && stage.Items[n-1].Label == i.Label && stage.Items[n-1].When == i.When {
			stage.Items[n-1].Bytes += i.Bytes
			continue
		}
		stage.Items = append(stage.Items, PlanItem{OnDevice, i.Label, i.When, i.Bytes})
	}
	for _, i := range pinned {
		if i.Bytes > 0 {
			stage.Items = append(stage.Items, i)
			stage.Pinned += i.Bytes
		}
	}
	p.out.Stages = append(p.out.Stages, stage)
}

// textTokens is the longest sequence that the text encoder sees.
func (p *planner) textTokens() int {
	return p.config.Model.Qwen.MaxLength + p.out.Settings.template().CropStart
}

// text is the larger of the two encoders, which work one after the other.
func (p *planner) text() error {
	tokens := make([]int, len(p.out.Settings.texts()))
	for k := range tokens {
		tokens[k] = p.textTokens()
	}
	half := p.limits.Half && p.opts.Precision == load.Mixed
	budget := p.limits.Device
	items, layers, err := qwen.Plan(p.nets.qwenConfig, p.nets.qwen, qwen.Options{Precision: p.opts.Precision, LayersInMemory: p.opts.QwenLayersInMemory, Room: qwen.Work{Tokens: tokens}}, budget, half)
	if err != nil {
		return err
	}
	pooled, err := clip.Plan(p.nets.clipConfig, p.nets.clip, p.opts.Precision, p.config.Model.CLIP.MaxLength, half)
	if err != nil {
		return err
	}
	if sum(pooled) > sum(items) {
		items = pooled
	}
	p.add(StageText, items, p.qwenStaging(items, layers))
	return nil
}

// qwenStaging is what streaming decoder layers pins, if not all are on the device.
func (p *planner) qwenStaging(items []load.Item, layers int) PlanItem {
	layer := PlanItem{InPinned, "text encoder: staging", "load", 0}
	for _, i := range items {
		if layers > 0 && layers < p.nets.qwenConfig.Text.NumHiddenLayers && i.Label == "decoder layers" {
			layer.Bytes = 2 * i.Bytes / int64(layers)
		}
	}
	return layer
}

// expand is the language model at work on the prompt. The ids are counted with the checkpoint's tokenizer; without a
// checkpoint they are estimated.
func (p *planner) expand() error {
	if !p.out.Settings.ExpandPrompt {
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
	half := p.limits.Half && p.opts.Precision == load.Mixed
	o, err := expansionOptions(p.nets.qwenConfig, p.nets.qwen, p.opts, e.work(tokens, p.opts.expandTokens()), p.limits.Device, half)
	if err != nil {
		return err
	}
	items, layers, err := qwen.Plan(p.nets.qwenConfig, p.nets.qwen, o, p.limits.Device, half)
	if err != nil {
		return err
	}
	p.add(StageExpand, items, p.qwenStaging(items, layers))
	return nil
}

// bytesPerID is about how many bytes of English an id of the published vocabulary has.
const bytesPerID = 4

func (p *planner) conversation(e expansion) (int, error) {
	if p.nets.layout.QwenTokenizer == "" {
		n := (len(e.text) + bytesPerID - 1) / bytesPerID
		for _, cells := range e.cells {
			n += cells
		}
		return n, nil
	}
	t, err := tokenizer.OpenQwen(p.nets.layout.QwenTokenizer)
	if err != nil {
		return 0, err
	}
	ids, err := e.ids(t)
	return len(ids), err
}

func sum(items []load.Item) int64 {
	var n int64
	for _, i := range items {
		n += i.Bytes
	}
	return n
}

func (p *planner) vaeModel() vae.Model {
	mixed := p.opts.Precision == load.Mixed
	return vae.Model{Config: p.nets.vae, Precision: p.opts.Precision, Stored: p.nets.vaeStored,
		Limits: vae.Limits{MaxAllocation: p.limits.MaxAllocation, MaxStorageRange: p.limits.MaxStorageRange,
			Half: p.limits.Half && mixed, Matrices: p.limits.Matrices && mixed}}
}

func (p *planner) image() error {
	if p.out.Settings.image == nil {
		return nil
	}
	size := p.out.Settings.Size
	need, err := p.vaeModel().EncodeNeed(vae.Size{Frames: 1, Height: size.Height, Width: size.Width}, vae.Tiling{})
	if err != nil {
		return err
	}
	need.Add("encode", "pixels", 1, int64(size.Height)*int64(size.Width)*12)
	p.add(StageImage, need.Items())
	return nil
}

func (p *planner) denoise() error {
	s := p.out.Settings
	g := s.Geometry
	request := dit.Request{Config: DiTConfig(p.config), Reader: p.nets.dit, Half: p.limits.Half && p.opts.Precision == load.Mixed,
		Size: dit.Size{Frames: g.LatentFrames, Height: g.LatentHeight, Width: g.LatentWidth}, TextRows: p.config.Model.Qwen.MaxLength,
		Branches: len(s.texts()), Times: s.Steps, Residuals: s.MagCache, MaxAllocation: p.limits.MaxAllocation,
		Options: dit.Options{Precision: p.opts.Precision, Visual: dit.SwapOptions{Slots: p.opts.BlocksInMemory, Stream: p.opts.StreamSlots, Policy: p.opts.SwapPolicy}}}
	tier := p.opts.HostTier
	if tier == "" {
		tier = swap.Pinned
	}
	needs, err := p.ditNeeds(request, tier)
	if err == nil && p.opts.HostTier == "" && p.limits.Host > 0 && needs.PinnedLoad > p.limits.Host {
		tier = swap.Mapped
		needs, err = p.ditNeeds(request, tier)
	}
	if err != nil {
		return requestError("%v", err)
	}
	latent := load.Buffer{Label: "latents", DType: engine.F32, Shape: []int{g.LatentFrames, g.LatentHeight, g.LatentWidth, request.Config.InVisualDim}}
	needs.Add("denoise", latent.Label, 1, latent.Bytes())
	if s.hasFirstFrame() {
		needs.Add("denoise", "first frame", 1, latent.Bytes()/int64(g.LatentFrames))
	}
	if s.resume != nil && len(s.resume.Earlier) > 0 {
		needs.Add("denoise", "latents of earlier steps", len(s.resume.Earlier), latent.Bytes())
	}
	needs.Add("denoise", "prompts", request.Branches, int64(request.TextRows)*int64(request.Config.InTextDim)*4)
	p.out.Swap, p.out.HostTier, p.out.BlockBytes, p.out.BytesLoaded = needs.Plan, tier, needs.BlockBytes, needs.LoadedBytes
	label := "waiting blocks"
	if tier == swap.Mapped {
		label = "staging ring for blocks"
	}
	p.add(StageDenoise, needs.Device().Items(), PlanItem{InPinned, label, "denoise", needs.Pinned},
		PlanItem{InPinned, "staging while loading", "load", needs.PinnedLoad - needs.Pinned})
	return nil
}

func (p *planner) ditNeeds(r dit.Request, tier swap.HostTier) (*dit.Needs, error) {
	r.Options.Visual.Tier = tier
	return dit.Plan(r)
}

// decode takes the largest tiles that the memory holds, as the pipeline does.
func (p *planner) decode() error {
	s := p.out.Settings
	size := vae.Size{Frames: s.Geometry.Frames, Height: s.Size.Height, Width: s.Size.Width}
	budget := p.limits.Device
	if budget == 0 {
		budget = 1 << 62
	}
	tiling, err := p.vaeModel().FitTiling(size, budget)
	if err != nil {
		return requestError("%v", err)
	}
	need, err := p.vaeModel().DecodeNeed(size, tiling, false)
	if err != nil {
		return err
	}
	p.add(StageDecode, need.Items())
	return nil
}

// advice names the change that would help most.
func (p *planner) advice() string {
	if p.limits.Host > 0 && p.out.Pinned > p.limits.Host {
		return "keep the blocks in the checkpoint file: --host-tier mapped"
	}
	over := p.out.Device - p.limits.Device
	for _, s := range p.out.Stages {
		if s.Device != p.out.Device {
			continue
		}
		switch {
		case (s.Stage == StageText || s.Stage == StageExpand) && p.opts.QwenLayersInMemory > 1:
			return "stream the text encoder: --qwen-layers-in-memory 1"
		case s.Stage == StageDenoise && p.out.Swap.Slots > 1:
			if fewer := p.out.Swap.Slots - int((over+p.out.BlockBytes-1)/p.out.BlockBytes); fewer >= 1 {
				return fmt.Sprintf("keep fewer blocks on the device: --enable-block-swap --blocks-in-memory %d", fewer)
			}
			return fmt.Sprintf("even one block on the device is %s too much: make a smaller or shorter video", memory.Size(over-int64(p.out.Swap.Slots-1)*p.out.BlockBytes))
		}
		return fmt.Sprintf("the stage %q needs %s more: make a smaller video, or raise the budget", s.Stage, memory.Size(over))
	}
	return ""
}
