package kandinsky5

import (
	"context"
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/clip"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
)

// Prepared is what the text encoders gave for a request, in host memory: about 4 MB a prompt. It serves requests of the
// same prompts on the pipeline that made it.
type Prepared struct {
	expanded string
	texts    []string
	rows     []*hostRows // of each text
	pooled   [][]float32
}

// hostRows is a tensor [n, d].
type hostRows struct {
	n, d   int
	values []float32
}

// Prepare runs the text stages of n requests, for which each text encoder is loaded once; a text that several requests
// share is encoded once. Request.Prepared takes what it returns. request returns the k-th request, and may be asked for
// it several times: pictures need not be held all at once. The results are the bits that Generate computes by itself.
func (p *Pipeline) Prepare(ctx context.Context, n int, request func(k int) (Request, error)) ([]*Prepared, error) {
	runs, err := p.textRuns(n, request)
	if err != nil || n == 0 {
		return nil, err
	}
	defer p.nets.qwen4Bits.Forget()
	defer runs[0].release()
	stages := []struct {
		stage Stage
		work  func() error
	}{
		{StageExpand, func() error { return p.expandAll(ctx, runs, request, func(int) error { return nil }) }},
		{StageText, func() error { return p.encodeAll(ctx, runs) }},
	}
	for _, s := range stages {
		if s.stage == StageExpand && !slices.ContainsFunc(runs, func(g *run) bool { return g.settings.expands() }) {
			continue
		}
		if err := runs[0].stage(ctx, s.stage, s.work); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return nil, fmt.Errorf("%s: %w", s.stage, advise(s.stage, err, p.opts))
		}
	}
	if err := p.checkFiles(); err != nil {
		return nil, requestError("%v", err)
	}
	out := make([]*Prepared, n)
	for k, g := range runs {
		out[k] = g.prepared
		out[k].expanded = g.settings.ExpandedPrompt
	}
	return out, nil
}

// textRuns are runs of n requests for their text stages.
func (p *Pipeline) textRuns(n int, request func(k int) (Request, error)) ([]*run, error) {
	runs := make([]*run, n)
	for k := range runs {
		r, err := request(k)
		if err != nil {
			return nil, err
		}
		settings, err := Resolve(p.ckpt.Config, r)
		if err != nil {
			return nil, err
		}
		if err := p.adapting(r, func(set *lora.Set) error { settings.adapt(set); return nil }); err != nil {
			return nil, err
		}
		runs[k] = &run{Pipeline: p, asked: p.opts, opts: p.opts, settings: settings.withoutPictures(), progress: r.Progress, told: r.Expanding}
	}
	return runs, nil
}

// ExpandPrompts returns the prompts of n requests written out, and makes no video. The language model is loaded once. request is as in
// Prepare; written, if not nil, is called with every prompt as soon as it is there, and an error of it ends the work. What
// was written before an error is returned with it.
func (p *Pipeline) ExpandPrompts(ctx context.Context, n int, request func(k int) (Request, error), written func(k int, text string) error) ([]string, error) {
	asked := func(k int) (Request, error) {
		r, err := request(k)
		r.ExpandPrompt = true
		return r, err
	}
	runs, err := p.textRuns(n, asked)
	if err != nil || n == 0 {
		return nil, err
	}
	defer p.nets.qwen4Bits.Forget()
	defer runs[0].release()
	var out []string
	err = runs[0].stage(ctx, StageExpand, func() error {
		return p.expandAll(ctx, runs, asked, func(k int) error {
			text := runs[k].settings.ExpandedPrompt
			if out = append(out, text); written == nil {
				return nil
			}
			return written(k, text)
		})
	})
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", StageExpand, advise(StageExpand, err, p.opts))
	}
	return out, err
}

// withoutPictures keeps that there is a picture, which decides about templates, and lets go of its pixels.
func (s Settings) withoutPictures() Settings {
	if s.image != nil {
		s.image, s.picture = &Image{}, &Image{}
	}
	return s
}

// expandAll lets the language model write out the prompts of all runs that ask for it. It is loaded for the largest. written is called after
// each.
func (p *Pipeline) expandAll(ctx context.Context, runs []*run, request func(k int) (Request, error), written func(k int) error) error {
	conversation := func(k int) (e expansion, ids []int32, err error) {
		r, err := request(k)
		if err != nil {
			return e, nil, err
		}
		if e, err = newExpansion(p.ckpt.Layout, p.nets.qwenConfig, Settings{Prompt: r.Prompt, picture: r.Image}); err != nil {
			return e, nil, err
		}
		ids, err = e.ids(p.qwenTok)
		return e, ids, err
	}
	var most qwen.Work
	var open []int
	for k, g := range runs {
		if !g.settings.expands() {
			continue
		}
		if err := g.checkExpansion(); err != nil {
			return err
		}
		e, ids, err := conversation(k)
		if err != nil {
			return err
		}
		w := e.work(len(ids), p.opts.expandTokens())
		if len(open) == 0 {
			most = w
		}
		most.Tokens[0], most.Patches, most.NewTokens = max(most.Tokens[0], w.Tokens[0]), max(most.Patches, w.Patches), max(most.NewTokens, w.NewTokens)
		open = append(open, k)
	}
	m, err := runs[open[0]].openWriter(ctx, most)
	if err != nil {
		return err
	}
	for _, k := range open {
		if err = ctx.Err(); err != nil {
			break
		}
		var e expansion
		var ids []int32
		if e, ids, err = conversation(k); err != nil {
			break
		}
		if err = runs[k].converse(ctx, m, e, ids); err == nil {
			err = written(k)
		}
		if err != nil {
			break
		}
	}
	return oneline.Join(err, m.Close())
}

// encodeAll encodes the texts of all runs. A text that comes again with the same template is not encoded again.
func (p *Pipeline) encodeAll(ctx context.Context, runs []*run) error {
	b := &textBatch{Pipeline: p, pooled: map[string][]float32{}, rows: map[string]*hostRows{}}
	for _, g := range runs {
		g.prepared = &Prepared{texts: g.settings.texts()}
		for _, text := range g.prepared.texts {
			if err := b.add(g, text); err != nil {
				return err
			}
		}
	}
	if err := b.pool(ctx); err != nil {
		return err
	}
	runs[0].report(StageText, 1, 1+len(b.list))
	if err := b.encode(ctx, runs[0]); err != nil {
		return err
	}
	for _, g := range runs {
		for _, text := range g.prepared.texts {
			g.prepared.pooled = append(g.prepared.pooled, b.pooled[text])
			g.prepared.rows = append(g.prepared.rows, b.rows[b.key(g.settings.template(), text)])
		}
	}
	return nil
}

// textBatch are different texts to encode.
type textBatch struct {
	*Pipeline
	list   []tokenized
	pooled map[string][]float32 // by text
	rows   map[string]*hostRows // by key
}

// tokenized is a text as the language model sees it; the first ids are the template's.
type tokenized struct {
	key  string
	ids  []int32
	crop int
}

func (b *textBatch) key(t tokenizer.Template, text string) string { return t.Text + "\x00" + text }

func (b *textBatch) add(g *run, text string) error {
	key := b.key(g.settings.template(), text)
	if _, ok := b.rows[key]; ok {
		return nil
	}
	ids, crop, err := g.tokens(text)
	if err != nil {
		return err
	}
	b.rows[key], b.pooled[text] = nil, nil
	b.list = append(b.list, tokenized{key, ids, crop})
	return nil
}

func (b *textBatch) pool(ctx context.Context) error {
	m, err := clip.New(ctx, b.device, b.nets.clipReader, b.nets.clipConfig, clip.Options{Precision: b.opts.Precision})
	if err != nil {
		return err
	}
	defer m.Close()
	for text := range b.pooled {
		if b.pooled[text], err = b.pooledText(ctx, m, text); err != nil {
			return err
		}
	}
	return nil
}

// encode brings the language model to the device once, with room for the longest text, and takes one text after the other.
func (b *textBatch) encode(ctx context.Context, g *run) error {
	longest := 0
	for _, t := range b.list {
		longest = max(longest, len(t.ids))
	}
	m, err := qwen.New(ctx, b.device, b.nets.qwenReader, b.nets.qwenConfig, qwen.Options{Precision: b.opts.Precision, Quantize: b.opts.QuantizeQwen,
		LayersInMemory: b.opts.QwenLayersInMemory, Room: qwen.Work{Tokens: []int{longest}}})
	if err != nil {
		return err
	}
	for k, t := range b.list {
		if err = ctx.Err(); err != nil {
			break
		}
		if b.rows[t.key], err = b.hostRows(ctx, m, t); err != nil {
			break
		}
		g.report(StageText, k+2, 1+len(b.list))
	}
	b.logLayers(StageText, m)
	return oneline.Join(err, m.Close())
}

func (b *textBatch) hostRows(ctx context.Context, m *qwen.Model, t tokenized) (*hostRows, error) {
	h, err := m.Hidden(ctx, t.ids, nil)
	if err != nil {
		return nil, err
	}
	defer b.device.Free(h)
	values, err := b.device.DownloadF32(ctx, h.Rows(t.crop, h.Dim(0)))
	return &hostRows{h.Dim(0) - t.crop, h.Dim(1), values}, err
}

// restore brings prepared prompts to the device, in the run's arena.
func (g *run) restore(ctx context.Context) ([]dit.Prompt, error) {
	p := g.prepared
	if !slices.Equal(p.texts, g.settings.texts()) {
		return nil, requestError("the request was prepared with other prompts")
	}
	out := make([]dit.Prompt, len(p.texts))
	digests := make([]receipt.Text, len(out))
	for k, rows := range p.rows {
		t := g.arena.Alloc("prompt", engine.F32, rows.n, rows.d)
		if err := g.arena.Err(); err != nil {
			return nil, err
		}
		if err := g.device.UploadF32(ctx, t, rows.values); err != nil {
			return nil, err
		}
		out[k] = dit.Prompt{Text: t, Pooled: p.pooled[k]}
		if g.digest != nil {
			digests[k] = receipt.Text{Rows: receipt.SumF32(rows.values), Pooled: receipt.SumF32(p.pooled[k])}
		}
	}
	if g.digest != nil {
		g.digest.out.Text = digests
	}
	return out, nil
}
