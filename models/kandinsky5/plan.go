package kandinsky5

import (
	"slices"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// PlanLimits describe the machine that a run is planned for, in bytes. Zero limits are taken as no limit.
type PlanLimits struct {
	Device          int64 `json:"device_bytes"`                // device memory that may be used
	Host            int64 `json:"pinned_bytes"`                // host memory that may be pinned
	MaxAllocation   int64 `json:"max_allocation,omitempty"`    // of one allocation
	MaxStorageRange int64 `json:"max_storage_range,omitempty"` // of one binding
	Chunk           int64 `json:"chunk,omitempty"`             // of the allocator, see memory.Cut; 0 is its default
	Align           int64 `json:"align,omitempty"`
	Rates           Rates `json:"-"`                   // where they are known, they decide through how many slots blocks stream
	Half            bool  `json:"half"`                // kernels multiply in fp16, which takes a little scratch memory
	Fragments       bool  `json:"fragments,omitempty"` // kernels can build matrices element by element, for which operands are packed
	Matrices        bool  `json:"matrices"`            // cooperative matrices multiply the autoencoder's convolutions, for which some weights are folded
}

// LimitsOf are those of an open device that holds nothing yet: its budgets, and of host memory no more than the machine
// has free.
func LimitsOf(d *engine.Device, o Options) PlanLimits {
	l, cut := DeviceLimits(d.Caps()), d.Mem.Cut()
	l.Chunk, l.Align, l.Device = cut.Chunk, cut.Align, cut.Budget
	if room := hostRoom(d, o); room < anyRoom {
		l.Host = room
	}
	l.Rates.Bus, l.Rates.Shared = d.Rates().Bus, d.SharedQueue()
	return l
}

// DeviceLimits are those of a device's kernels; how much memory there is they leave open.
func DeviceLimits(c engine.Caps) PlanLimits {
	v := vae.LimitsOf(c, load.Mixed)
	return PlanLimits{MaxAllocation: v.MaxAllocation, MaxStorageRange: v.MaxStorageRange, Half: v.Half, Matrices: v.Matrices, Fragments: c.Fragments != engine.NoFragments}
}

// Where says which memory an item lies in.
type Where string

// Places of memory.
const (
	OnDevice Where = "device"
	InPinned Where = "pinned host"
	OnHost   Where = "host" // ordinary memory
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
	StepWork    float64       `json:"flop_per_step"`  // floating-point operations of a step, for all branches together
	Host        HostPlan      `json:"host"`
	Swap        swap.Plan     `json:"swap"`
	Choice      Choice        `json:"choice"`
	HostTier    swap.HostTier `json:"host_tier"`
	AtMost      bool          `json:"bounds,omitempty"` // block and bus bytes are what is set aside: what moves is less
	Fits        bool          `json:"fits"`
	Short       string        `json:"short,omitempty"`              // what does not fit even when made as small as can be
	Advice      string        `json:"advice,omitempty"`             // what would make it fit
	Least       int64         `json:"least_device_bytes,omitempty"` // the smallest budget that works, where it was looked for
}

// planner is a plan in the making.
type planner struct {
	config *configs.Config
	opts   Options
	limits PlanLimits
	nets   planNetworks
	known  bool // the prompt is known
	hashes bool // latents come back to the host after every step
	// smallest asks for what takes the least device memory of all that may be chosen.
	smallest bool
	earlier  int // latents of earlier steps that MagCache's residuals are made from again
	seconds  int // of the video
	tok      *tokenizer.Tokenizer
	held     *load.Need   // what is on the device when a stage begins
	loaded   *load.Need   // of the transformer, once it is there
	rows     []int        // of the encoded prompts
	needs    []*load.Need // of the stages, with what is held
	out      *MemoryPlan
}

// planNetworks give the shapes and types of the networks.
type planNetworks struct {
	dit, qwen, clip load.Reader
	vaeStored       weights.DType
	vae             weights.VAEConfig
	vaeDecodes      bool // it has no encoder
	qwenConfig      weights.QwenConfig
	layout          weights.Layout // zero for the published networks
	clipConfig      weights.CLIPConfig
}

// PlanRun plans a request without a device and without reading weights. With a checkpoint its headers say the types of
// the tensors; without one (nil) the published networks in bf16 (VAE in fp16) are meant. A picture that the request
// lacks is taken to have the request's size, and a prompt to be as long as can be.
//
// What the options leave open it chooses, with Options.Auto also the number of blocks in memory; see MemoryPlan.Choice.
func PlanRun(config *configs.Config, c *Checkpoint, o Options, r Request, limits PlanLimits) (_ *MemoryPlan, err error) {
	if err := o.checkLinear(); err != nil {
		return nil, err
	}
	p, err := newPlanner(config, o, r, limits)
	if err != nil {
		return nil, err
	}
	adapters, err := OpenLoRA(config, o.LoRA)
	if err != nil {
		return nil, err
	}
	defer func() { err = oneline.Join(err, adapters.Close()) }()
	closeAll, err := p.nets.open(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = oneline.Join(err, closeAll()) }()
	p.adapt(adapters, r)
	return p.run()
}

// adapt applies adapters; what a plan asks of them it may ask when they are closed.
func (p *planner) adapt(set *lora.Set, r Request) {
	if r.Resume == nil {
		p.out.Settings.adapt(set)
	}
	p.nets.dit = set.Reader(p.nets.dit)
}

// run makes the plan and says what would help where it does not fit.
func (p *planner) run() (*MemoryPlan, error) {
	err := p.plan()
	if err == nil {
		err = p.host()
	}
	if err == nil && !p.out.Fits {
		p.out.Advice, err = p.advice()
	}
	if err != nil {
		return nil, err
	}
	return p.out, nil
}

func newPlanner(config *configs.Config, o Options, r Request, limits PlanLimits) (*planner, error) {
	r, known, err := completeRequest(config, r)
	if err != nil {
		return nil, err
	}
	settings, err := Resolve(config, r)
	if err != nil {
		return nil, err
	}
	p := &planner{config: config, opts: o, limits: limits, known: known, hashes: r.Digests, seconds: r.Seconds, out: &MemoryPlan{Settings: settings}}
	if r.Resume != nil {
		p.earlier = len(r.Resume.Earlier)
	}
	if limits.MaxAllocation == 0 {
		p.limits.MaxAllocation = 1 << 62
	}
	if limits.MaxStorageRange == 0 {
		p.limits.MaxStorageRange = 1<<32 - 256
	}
	return p, nil
}

// completeRequest makes up the picture and the prompt where they are missing, and says whether the prompt was known.
func completeRequest(config *configs.Config, r Request) (Request, bool, error) {
	if r.Resume != nil {
		return r, true, nil
	}
	if config.Pipeline == configs.I2V && r.Image == nil {
		if r.Width == 0 && r.Height == 0 {
			size := config.DefaultSize()
			r.Width, r.Height = size.Width, size.Height
		}
		if r.Width < 1 || r.Height < 1 || r.Width > 4096 || r.Height > 4096 {
			return r, false, requestError("size %d×%d: give both width and height in pixels, up to 2048", r.Width, r.Height)
		}
		r.Image = media.NewImage(r.Height, r.Width)
	}
	known := r.Prompt != ""
	if !known {
		r.Prompt = "a prompt"
	}
	return r, known, nil
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
	*n = p.planNetworks()
	return p.Close, nil
}

// planNetworks are those of the pipeline's checkpoint.
func (p *Pipeline) planNetworks() planNetworks {
	return planNetworks{dit: p.nets.ditReader, qwen: p.nets.qwenReader, clip: p.nets.clipReader, vaeStored: p.nets.vaeStored,
		vae: p.nets.vaeConfig, vaeDecodes: p.nets.vaeDecodes, layout: p.ckpt.Layout, qwenConfig: p.nets.qwenConfig, clipConfig: p.nets.clipConfig}
}

// plan makes the plan anew.
func (p *planner) plan() error {
	p.out = &MemoryPlan{Settings: p.out.Settings}
	p.held, p.loaded, p.rows, p.needs = p.need(), nil, nil, nil
	p.held.Add("always", "unused binding", 1, unusedBinding)
	stages := []func() error{p.expand, p.text, p.image, p.denoise, p.decode}
	if p.out.Settings.resume != nil {
		stages = []func() error{p.restored, p.denoise, p.decode}
	}
	for _, stage := range stages {
		if err := stage(); err != nil {
			return err
		}
	}
	p.out.judge(p.limits)
	return nil
}

// unusedBinding is what a device holds from the start, in bytes.
const unusedBinding = 256

// cut is how the allocator cuts the budget.
func (p *planner) cut() memory.Cut {
	return memory.Cut{Chunk: p.limits.Chunk, Align: p.limits.Align, MaxAllocation: p.limits.MaxAllocation, Budget: p.limits.Device}
}

// left is how it cuts what is left beside what is held.
func (p *planner) left() memory.Cut {
	c := p.cut()
	if c.Budget > 0 {
		c.Budget = max(c.Budget-p.held.Bytes(), 1)
	}
	return c
}

func (p *planner) need() *load.Need { return &load.Need{Cut: p.cut()} }

// judge finds the peaks of the stages and whether they fit.
func (m *MemoryPlan) judge(limits PlanLimits) {
	m.Device, m.Pinned = 0, 0
	for _, s := range m.Stages {
		m.Device, m.Pinned = max(m.Device, s.Device), max(m.Pinned, s.Pinned)
	}
	m.Fits = m.Short == "" && (limits.Device == 0 || m.Device <= limits.Device) && (limits.Host == 0 || m.Pinned <= limits.Host)
}

// Stage returns the plan of a stage, nil where there is none.
func (m *MemoryPlan) Stage(name Stage) *StagePlan {
	for k := range m.Stages {
		if m.Stages[k].Stage == name {
			return &m.Stages[k]
		}
	}
	return nil
}

// Only returns the plan of a single stage.
func (m *MemoryPlan) Only(stage Stage, limits PlanLimits) *MemoryPlan {
	out := *m
	out.Stages = slices.DeleteFunc(slices.Clone(m.Stages), func(s StagePlan) bool { return s.Stage != stage })
	if stage != StageDecode {
		out.Short = ""
	}
	if out.judge(limits); out.Fits {
		out.Advice = ""
	}
	return &out
}

// add notes a stage that needs this beside what is held.
func (p *planner) add(s Stage, need *load.Need, pinned ...PlanItem) {
	need.Cut = p.cut()
	need = need.After(p.held)
	p.needs = append(p.needs, need)
	stage := StagePlan{Stage: s}
	for _, i := range need.Items() {
		stage.Device += i.Bytes
		// Pieces of one thing, such as a layer's cache, are one item.
		if n := len(stage.Items); n > 0 && stage.Items[n-1].Label == i.Label && stage.Items[n-1].When == i.When {
			stage.Items[n-1].Bytes += i.Bytes
			continue
		}
		stage.Items = append(stage.Items, PlanItem{OnDevice, i.Label, i.When, i.Bytes})
	}
	for _, i := range append(pinned, PlanItem{InPinned, "staging of what is uploaded and downloaded", "always", p.staging(pinned, need.Staging)}) {
		if i.Bytes > 0 {
			stage.Items = append(stage.Items, i)
		}
		if i.Where == InPinned {
			stage.Pinned += i.Bytes
		}
	}
	p.out.Stages = append(p.out.Stages, stage)
}
