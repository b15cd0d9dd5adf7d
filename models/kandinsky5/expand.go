package kandinsky5

import (
	"context"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// expansionIDs is how many ids an expanded prompt has at most when the options do not say (kandinsky-5,
// kandinsky/t2v_pipeline.py, expand_prompt).
const expansionIDs = 256

func (o Options) expandTokens() int {
	if o.ExpandTokens > 0 {
		return o.ExpandTokens
	}
	return expansionIDs
}

// CheckExpansion returns why a checkpoint cannot expand prompts: its language model must have lm_head, unless tied to
// the embedding, and for image-to-video configurations the vision tower. A whole prompt encoder may lack both.
func (c *Checkpoint) CheckExpansion() (err error) {
	if c.madeUp != nil {
		return requestError("a made-up text encoder writes no prompts")
	}
	ckpt, err := weights.OpenComponent(c.Layout.Qwen.Path, weights.Qwen)
	if err != nil {
		return err
	}
	defer func() { err = oneline.Join(err, ckpt.Close()) }()
	config, _, err := weights.LoadQwenConfig(c.Layout.Qwen, ckpt)
	if err != nil {
		return err
	}
	return weights.Check(ckpt, expansionSpec(config, c.Config.Pipeline == configs.I2V)).Err()
}

// expansionSpec lists the tensors that expansion needs.
func expansionSpec(c weights.QwenConfig, picture bool) weights.Spec {
	if picture {
		return weights.QwenSpec(c)
	}
	seen := map[string]bool{}
	for _, t := range weights.QwenVisionSpec(c) {
		seen[t.Name] = true
	}
	var spec weights.Spec
	for _, t := range weights.QwenSpec(c) {
		if !seen[t.Name] {
			spec = append(spec, t)
		}
	}
	return spec
}

// expansion is a conversation for the language model.
type expansion struct {
	text      string // in which the picture has one pad
	cells     []int  // merged cells of the picture, if there is one
	patches   int
	processor qwen.Processor
	picture   *Image
	rules     weights.GenerationConfig
}

// newExpansion reads the settings that lie beside the language model. layout may be the zero value, for published ones.
func newExpansion(l weights.Layout, c weights.QwenConfig, s Settings) (e expansion, err error) {
	if e.rules, err = weights.LoadGenerationConfig(l.Generation, c); err != nil {
		return e, err
	}
	if s.picture == nil {
		e.text = tokenizer.Chat(tokenizer.ExpandT2V().Fill(s.Prompt), tokenizer.NoImage)
		return e, nil
	}
	e.text = tokenizer.Chat(tokenizer.ExpandI2V().Fill(s.Prompt), tokenizer.ImageBefore)
	e.picture, e.processor.Vision = s.picture, c.Vision
	if e.processor.Config, err = weights.LoadImageProcessorConfig(l.ImageProcessor()); err != nil {
		return e, err
	}
	if e.patches, err = e.processor.Patches(s.picture.Height, s.picture.Width); err != nil {
		return e, requestError("%v", err)
	}
	e.cells = []int{e.patches / (c.Vision.SpatialMergeSize * c.Vision.SpatialMergeSize)}
	return e, nil
}

// ids is the conversation as the language model sees it.
func (e expansion) ids(t *tokenizer.Tokenizer) ([]int32, error) {
	ids, err := t.RepeatImagePads(t.Encode(e.text), e.cells...)
	if err != nil {
		return nil, requestError("the prompt cannot be expanded: %v (leave %s out of it, or use --expand-prompt 0)", err, tokenizer.ImagePad)
	}
	return ids, nil
}

// work measures what expansion computes, for a conversation of so many ids that as many more may follow.
func (e expansion) work(tokens, more int) qwen.Work {
	return qwen.Work{Tokens: []int{tokens}, Patches: e.patches, NewTokens: more}
}

// expansionOptions say how the language model is held while it writes. Every id needs all of lm_head, which is not read
// ahead as layers are: it stays on the device wherever the budget holds it beside the layers asked for, or one. 0 is no
// budget.
func expansionOptions(c weights.QwenConfig, r load.Reader, o Options, work qwen.Work, cut memory.Cut, half bool) (qwen.Options, error) {
	q := qwen.Options{Precision: o.Precision, Quantize: o.QuantizeQwen, LayersInMemory: o.QwenLayersInMemory, Room: work, KeepHead: true}
	if cut.Budget == 0 {
		return q, nil
	}
	least := q
	least.LayersInMemory = max(1, q.LayersInMemory)
	need, _, err := qwen.Need(c, r, least, cut, half)
	if err != nil {
		return q, err
	}
	q.KeepHead = need.Bytes() <= cut.Budget
	return q, nil
}

// ExpandPrompt returns a request's prompt written out, and makes no video. The request is checked as in Generate.
func (p *Pipeline) ExpandPrompt(ctx context.Context, r Request) (string, error) {
	r.ExpandPrompt = true
	settings, err := Resolve(p.ckpt.Config, r)
	if err != nil {
		return "", err
	}
	defer p.nets.qwen4Bits.Forget()
	g := &run{Pipeline: p, asked: p.opts, opts: p.opts, settings: settings, progress: r.Progress, told: r.Expanding}
	defer g.release()
	if err := g.stage(ctx, StageExpand, func() error { return g.expandPrompt(ctx) }); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("%s: %w", StageExpand, advise(StageExpand, err, g.opts))
	}
	return g.settings.ExpandedPrompt, nil
}

// expandPrompt lets the language model write the prompt out, looking at the picture as it was given. Its memory is free
// again afterwards.
func (g *run) expandPrompt(ctx context.Context) error {
	if err := g.checkExpansion(); err != nil {
		return err
	}
	e, err := newExpansion(g.ckpt.Layout, g.nets.qwenConfig, g.settings)
	if err != nil {
		return err
	}
	ids, err := e.ids(g.qwenTok)
	if err != nil {
		return err
	}
	m, err := g.openWriter(ctx, e.work(len(ids), g.opts.expandTokens()))
	if err != nil {
		return err
	}
	err = g.converse(ctx, m, e, ids)
	return oneline.Join(err, m.Close())
}

// checkExpansion returns what the language model lacks.
func (g *run) checkExpansion() error {
	if g.nets.qwen == nil {
		return g.ckpt.CheckExpansion()
	}
	return weights.Check(g.nets.qwen, expansionSpec(g.nets.qwenConfig, g.settings.picture != nil)).Err()
}

// converse shows the model the picture, if there is one, and lets it write.
func (g *run) converse(ctx context.Context, m *qwen.Model, e expansion, ids []int32) error {
	prompt := qwen.Prompt{IDs: ids}
	if e.picture != nil {
		picture, err := e.processor.Image(e.picture)
		if err != nil {
			return err
		}
		prompt.Images = []qwen.Image{picture}
	}
	err := g.write(ctx, m, prompt, e.rules)
	g.logLayers(StageExpand, m)
	return err
}

func (g *run) openWriter(ctx context.Context, work qwen.Work) (*qwen.Model, error) {
	half := g.opts.Precision == load.Mixed && g.device.Caps().Tier >= engine.TierFP16
	o, err := expansionOptions(g.nets.qwenConfig, g.nets.qwenReader, g.opts, work, g.device.Mem.Left(), half)
	if err != nil {
		return nil, err
	}
	return qwen.New(ctx, g.device, g.nets.qwenReader, g.nets.qwenConfig, o)
}

// write continues the conversation and keeps what was written as the prompt.
func (g *run) write(ctx context.Context, m *qwen.Model, prompt qwen.Prompt, rules weights.GenerationConfig) error {
	said := ""
	ids, err := m.Generate(ctx, prompt, qwen.GenerateOptions{Max: g.opts.expandTokens(), Stop: rules.Stop, Choose: qwen.Chooser(rules, g.settings.Seed),
		Added: func(ids []int32) {
			g.report(StageExpand, len(ids), g.opts.expandTokens())
			if text := sofar(g.qwenTok, ids); g.told != nil && text != said {
				said = text
				g.told(text)
			}
		}})
	if err != nil {
		return err
	}
	text := g.qwenTok.Decode(ids, true)
	if text != said && g.told != nil {
		g.told(text)
	}
	if strings.TrimSpace(text) == "" {
		g.log.Warn("the language model wrote nothing: the prompt stays as it is")
		text = g.settings.Prompt
	}
	g.settings.ExpandedPrompt = text
	return nil
}

// sofar is the text of ids that more will follow: a character whose bytes have not all come is left out. The text of
// more ids begins with it.
func sofar(t *tokenizer.Tokenizer, ids []int32) string {
	return strings.TrimRight(t.Decode(ids, true), "\uFFFD")
}
