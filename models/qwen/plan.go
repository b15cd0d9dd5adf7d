package qwen

import (
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Plan lists the device memory at the peak of the work that opts.Room measures; the bytes add up to it. It also returns
// how many layers are on the device: opts.LayersInMemory, or with 0 as many as budget bytes hold (0: all). halved says
// whether the kernels multiply in fp16.
func Plan(config weights.QwenConfig, r load.Reader, opts Options, budget int64, halved bool) (items []load.Item, layers int, err error) {
	n, layers, err := Need(config, r, opts, memory.Cut{Budget: budget}, halved)
	if err != nil {
		return nil, 0, err
	}
	return n.Items(), layers, nil
}

// Need is Plan for an allocator that cuts memory in a way, its budget being that of Plan.
func Need(config weights.QwenConfig, r load.Reader, opts Options, cut memory.Cut, halved bool) (n *load.Need, layers int, err error) {
	l, err := layoutOf(config, r, opts.Precision, opts.Quantize)
	if err != nil {
		return nil, 0, err
	}
	p, err := newPlanner(config, r, l, opts, cut, halved)
	if err != nil {
		return nil, 0, err
	}
	layers = opts.LayersInMemory
	if layers == 0 {
		layers = p.layersThatFit(cut.Budget, cut.Budget > 0)
	}
	layers = min(layers, l.blocks.Blocks())
	return p.peak(layers), layers, nil
}

// planner adds up memory.
type planner struct {
	config weights.QwenConfig
	layout layout
	vision visionLayout
	head   engine.DType
	opts   Options
	work   Work
	cut    memory.Cut
	halved bool
}

func newPlanner(config weights.QwenConfig, r load.Reader, l layout, opts Options, cut memory.Cut, halved bool) (p planner, err error) {
	p = planner{config: config, layout: l, opts: opts, cut: cut, halved: halved, work: opts.Room}
	if len(p.work.Tokens) == 0 {
		p.work.Tokens = []int{385, 385}
	}
	if p.work.Patches > 0 {
		if p.vision, err = visionLayoutOf(config, r, opts.Precision, opts.Quantize); err != nil {
			return p, err
		}
	}
	if p.needsHead() {
		p.head, err = headType(config, r, opts.Precision)
	}
	return p, err
}

func (p planner) needsHead() bool { return p.work.Logits > 0 || p.work.NewTokens > 0 }

// layersThatFit returns how many layers can be on the device at once within a limit, at least one.
func (p planner) layersThatFit(limit int64, limited bool) int {
	for k := p.layout.blocks.Blocks(); k > 1; k-- {
		if !limited || p.peak(k).Bytes() <= limit {
			return k
		}
	}
	return 1
}

// peak returns the largest need of the steps of the work, with k layers on the device.
func (p planner) peak(k int) *load.Need {
	steps := []*load.Need{p.decoding(k)}
	if p.work.Patches > 0 {
		steps = append(steps, p.seeing(k)...)
	}
	if p.needsHead() {
		steps = append(steps, p.choosing(k))
	}
	return load.Largest(steps...)
}

// always counts what is there from New to Close.
func (p planner) always(k int) *load.Need {
	n := &load.Need{Cut: p.cut}
	n.Add("always", "final norm", 1, p.layout.norm.Bytes)
	n.Add("always", "decoder layers", k, p.layout.blocks.BlockBytes())
	if p.opts.KeepHead && p.needsHead() {
		t := p.config.Text
		for from, step := 0, headPiece(t, p.head); from < t.VocabSize; from += step {
			n.Add("always", "lm_head", 1, int64(min(step, t.VocabSize-from))*int64(t.HiddenSize)*p.head.Size())
		}
	}
	return n
}

// prompts counts what prompts keep while they go through the layers: all but the last n of them.
func (p planner) prompts(n *load.Need, when string, without int) {
	t := p.config.Text
	if p.work.NewTokens > 0 {
		n.AddBuffers(when, generationBuffers(t, p.opts.Precision.Activation(), p.work.Tokens[0], p.work.NewTokens)...)
		return
	}
	for _, tokens := range p.work.Tokens[:len(p.work.Tokens)-without] {
		n.AddBuffers(when, hiddenBuffer(t, tokens))
	}
}

func (p planner) rotations(n *load.Need, when string, without int) {
	for _, tokens := range p.work.Tokens[:len(p.work.Tokens)-without] {
		n.AddBuffers(when, load.Buffer{Label: "rotations", DType: engine.F32, Shape: []int{tokens, p.config.Text.HeadDim()}})
	}
}

// decoding is the prompts' pass through the layers.
func (p planner) decoding(k int) *load.Need {
	n := p.always(k)
	p.prompts(n, "decoder", 0)
	p.rotations(n, "decoder", 0)
	if p.work.Patches > 0 {
		n.AddBuffers("decoder", embedsBuffer(p.config.Vision, p.work.Patches))
	}
	n.AddBuffers("decoder", workspaceBuffers(p.config.Text, p.opts.Precision.Activation(), slices.Max(p.work.Tokens), p.halved)...)
	return n
}

// choosing is the computation of logits, during which a text that is continued keeps its workspace.
func (p planner) choosing(k int) *load.Need {
	n := p.always(k)
	p.prompts(n, "logits", 0)
	if p.work.NewTokens > 0 {
		p.rotations(n, "logits", 0)
		n.AddBuffers("logits", workspaceBuffers(p.config.Text, p.opts.Precision.Activation(), slices.Max(p.work.Tokens), p.halved)...)
	}
	n.AddBuffers("logits", headBuffers(p.config.Text, p.head, max(p.work.Logits, 1), !p.opts.KeepHead)...)
	return n
}

// seeing is the vision tower's work, block by block. A block's weights are there until the next one's copy is done.
func (p planner) seeing(k int) []*load.Need {
	var steps []*load.Need
	groups := append(append([]load.Group{p.vision.patch}, p.vision.blocks...), p.vision.merger)
	for i := 1; i < len(groups); i++ {
		n := p.always(k)
		p.prompts(n, "vision", 1)
		p.rotations(n, "vision", 1)
		n.AddBuffers("vision", embedsBuffer(p.config.Vision, p.work.Patches))
		n.AddBuffers("vision", towerBuffers(p.config.Vision, p.opts.Precision.Activation(), p.work.Patches, p.halved)...)
		n.Add("vision", "vision weights", 1, groups[i-1].Bytes)
		n.Add("vision", "vision weights", 1, groups[i].Bytes)
		steps = append(steps, n)
	}
	return steps
}

// Quantized returns the bytes of all matrices that are quantized while loading, of the decoder and if it is used of the vision
// tower: a reader that keeps them (load.Kept) takes as much.
func Quantized(config weights.QwenConfig, r load.Reader, p load.Precision, quantize, vision bool) (int64, error) {
	if !quantize {
		return 0, nil
	}
	l, err := layoutOf(config, r, p, true)
	if err != nil {
		return 0, err
	}
	var groups []load.Group
	for i := range l.blocks.Blocks() {
		groups = append(groups, l.blocks.Block(i))
	}
	if vision {
		v, err := visionLayoutOf(config, r, p, true)
		if err != nil {
			return 0, err
		}
		groups = append(append(groups, v.blocks...), v.merger)
	}
	var n int64
	for _, g := range groups {
		n += g.Quantized(r)
	}
	return n, nil
}
