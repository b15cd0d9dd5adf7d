package kandinsky5

import (
	"github.com/vkandinsky/vkandinsky/models/clip"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
)

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
	items, layers, err := qwen.Plan(p.nets.qwenConfig, p.nets.qwen, qwen.Options{Precision: p.opts.Precision, Quantize: p.opts.QuantizeQwen, LayersInMemory: p.opts.QwenLayersInMemory, Room: qwen.Work{Tokens: tokens}}, budget, half)
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
	kept, err := p.qwenKept()
	if err != nil {
		return err
	}
	p.add(StageText, items, p.qwenStaging(items, layers), kept)
	return nil
}

// qwenKept is what of the text encoder is quantized and waits on the host until the text is encoded.
func (p *planner) qwenKept() (PlanItem, error) {
	n, err := qwen.Quantized(p.nets.qwenConfig, p.nets.qwen, p.opts.Precision, p.opts.QuantizeQwen, p.out.Settings.ExpandPrompt && p.out.Settings.picture != nil)
	return PlanItem{OnHost, "text encoder: matrices in 4 bits", "always", n}, err
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
	kept, err := p.qwenKept()
	if err != nil {
		return err
	}
	p.add(StageExpand, items, p.qwenStaging(items, layers), kept)
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
