package dit

import (
	"context"
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// condition is what a branch's visual blocks are told at one time.
type condition struct {
	act  engine.Tensor // SiLU(c), F32 [Td]
	text []byte        // the text stream behind the text blocks as operand, [L, D], in host memory
}

// The text blocks see the prompt and the time, but nothing of the video. So what they give is computed for all times before
// the first step, block by block: a block is on the device once and for a moment, instead of in every step or for good
// (1.7 GiB for the 20B model). The results wait in host memory, 2 MiB for 256 tokens of 4096, and are uploaded in their
// step.

// stateBytes bounds the text streams that are on the device together, one per branch and time: 128 of them at 256 tokens
// of 4096.
const stateBytes = 512 << 20

// textWork are the tensors of the text blocks, which are there before those of the visual blocks.
type textWork struct {
	blockWork
	timeIn  engine.Tensor // F32 [1, D]
	timeMid engine.Tensor // F32 [1, Td]
	time    engine.Tensor // F32 [1, Td]
	rope    engine.Tensor // F32 [L, d/2, 2]
}

// textBuffers lists them, for prompts of so many rows.
func (c Config) textBuffers(act engine.DType, half bool, textRows int) []load.Buffer {
	d, h := c.HeadDim(), c.Heads()
	list := []load.Buffer{
		{Label: "text normed", DType: act, Shape: []int{textRows, c.ModelDim}},
		{Label: "text queries", DType: act, Shape: []int{h, textRows, d}},
		{Label: "text keys", DType: act, Shape: []int{h, textRows, d}},
		{Label: "text values", DType: act, Shape: []int{h, textRows, d}},
		{Label: "text feed-forward", DType: act, Shape: []int{ffChunk(act, c.FFDim, textRows), c.FFDim}},
		{Label: "text modulation", DType: engine.F32, Shape: []int{6 * c.ModelDim}},
		{Label: "time input", DType: engine.F32, Shape: []int{1, c.ModelDim}},
		{Label: "time hidden", DType: engine.F32, Shape: []int{1, c.TimeDim}},
		{Label: "time", DType: engine.F32, Shape: []int{1, c.TimeDim}},
		{Label: "text rotations", DType: engine.F32, Shape: []int{textRows, d / 2, 2}},
	}
	if half {
		list = append(list, load.Buffer{Label: "text attention scratch", DType: engine.U32, Shape: []int{ops.AttentionScratch(h, h)}})
	}
	return list
}

// promptBuffers lists what a branch has besides while the text blocks work: the prompt as the caller gave it and embedded.
func (c Config) promptBuffers(act engine.DType, textRows int) []load.Buffer {
	return []load.Buffer{
		{Label: "prompt", DType: act, Shape: []int{textRows, c.InTextDim}},
		{Label: "embedded prompt", DType: engine.F32, Shape: []int{textRows, c.ModelDim}},
		{Label: "pooled input", DType: engine.F32, Shape: []int{1, c.InTextDim2}},
		{Label: "pooled prompt", DType: engine.F32, Shape: []int{c.TimeDim}},
		{Label: "conditioning", DType: engine.F32, Shape: []int{c.TimeDim}},
	}
}

// stateBuffer is the text stream of a branch at one time.
func (c Config) stateBuffer(textRows int) load.Buffer {
	return load.Buffer{Label: "text stream", DType: engine.F32, Shape: []int{textRows, c.ModelDim}}
}

// actBuffer is the activated conditioning of a branch at one time.
func (c Config) actBuffer() load.Buffer {
	return load.Buffer{Label: "activated conditioning", DType: engine.F32, Shape: []int{c.TimeDim}}
}

// together returns for how many times the text streams of all branches are on the device at once.
func (c Config) together(times, branches, textRows int) int {
	return min(times, max(1, int(stateBytes/(int64(branches)*c.stateBuffer(textRows).Bytes()))))
}

// distinct returns the different times in order.
func distinct(times []float32) []float32 {
	var out []float32
	for _, t := range times {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// conditions computes the conditions of all branches at all times.
func (p *Pass) conditions(ctx context.Context, prompts []Prompt, times []float32) error {
	a := p.model.device.NewArena("text blocks")
	defer a.Release()
	longest := 0
	for _, prompt := range prompts {
		longest = max(longest, rows(prompt.Text))
	}
	var w textWork
	if err := w.alloc(ctx, a, p.model, longest); err != nil {
		return err
	}
	embedded := make([]embeddedPrompt, len(prompts))
	for k, prompt := range prompts {
		var err error
		if embedded[k], err = p.embedPrompt(ctx, a, prompt); err != nil {
			return err
		}
	}
	step := p.model.Config.together(len(times), len(prompts), longest)
	for from := 0; from < len(times); from += step {
		if err := p.conditionsAt(ctx, &w, embedded, times[from:min(from+step, len(times))]); err != nil {
			return err
		}
	}
	return nil
}

func (w *textWork) alloc(ctx context.Context, a *engine.Arena, m *Model, textRows int) error {
	t := allocAll(a, m.Config.textBuffers(m.act, m.half, textRows))
	if err := a.Err(); err != nil {
		return err
	}
	*w = textWork{
		blockWork: blockWork{h: t["text normed"], q: t["text queries"], k: t["text keys"], v: t["text values"], ff: t["text feed-forward"],
			mod: t["text modulation"], scratch: t["text attention scratch"]},
		timeIn: t["time input"], timeMid: t["time hidden"], time: t["time"], rope: t["text rotations"],
	}
	w.normed = w.h
	return m.device.UploadF32(ctx, w.rope, ops.TextRopeTable(textRows, m.Config.HeadDim()).CosSin)
}

// embeddedPrompt is a prompt as the transformer sees it, the same at every time.
type embeddedPrompt struct {
	text   engine.Tensor // y_0, F32 [L, D]
	pooled engine.Tensor // F32 [Td]
	cond   engine.Tensor // F32 [Td], scratch
}

// embedPrompt computes y_0 = LN(W·q + b), and the pooled part of the conditioning, LN(W·p + b).
func (p *Pass) embedPrompt(ctx context.Context, a *engine.Arena, prompt Prompt) (embeddedPrompt, error) {
	m := p.model
	s := m.device.Compute()
	t := allocAll(a, m.Config.promptBuffers(m.act, rows(prompt.Text)))
	if err := a.Err(); err != nil {
		return embeddedPrompt{}, err
	}
	e := embeddedPrompt{text: t["embedded prompt"], pooled: t["pooled prompt"], cond: t["conditioning"]}
	outer := params{m.outer}
	ops.Cast(s, t["prompt"], prompt.Text)
	weight, bias := outer.linear("text_embeddings.in_layer")
	ops.Matmul(s, ops.MatmulArgs{X: t["prompt"], W: weight, Bias: bias, Y: e.text, Half: m.half})
	ops.LayerNorm(s, ops.LayerNormArgs{X: e.text, Y: e.text, Weight: m.outer.Get("text_embeddings.norm.weight"), Bias: m.outer.Get("text_embeddings.norm.bias"), Eps: layerNormEps})

	if err := m.device.UploadF32(ctx, t["pooled input"], prompt.Pooled); err != nil {
		return e, err
	}
	row := e.pooled.Reshape(1, m.Config.TimeDim)
	weight, bias = outer.linear("pooled_text_embeddings.in_layer")
	ops.Matmul(s, ops.MatmulArgs{X: t["pooled input"], W: weight, Bias: bias, Y: row})
	ops.LayerNorm(s, ops.LayerNormArgs{X: row, Y: row, Weight: m.outer.Get("pooled_text_embeddings.norm.weight"), Bias: m.outer.Get("pooled_text_embeddings.norm.bias"), Eps: layerNormEps})
	return e, s.Err()
}

// conditionsAt computes the conditions at some times, bringing every text block to the device once.
func (p *Pass) conditionsAt(ctx context.Context, w *textWork, prompts []embeddedPrompt, times []float32) error {
	m := p.model
	s := m.device.Compute()
	a := m.device.NewArena("text blocks")
	defer a.Release()
	states := make([][]engine.Tensor, len(times)) // by time and branch
	for n, time := range times {
		if err := p.conditioning(ctx, w, prompts, time); err != nil {
			return err
		}
		for k := range prompts {
			y := m.Config.stateBuffer(rows(prompts[k].text)).Alloc(a)
			if err := a.Err(); err != nil {
				return err
			}
			s.Copy(y, prompts[k].text)
			states[n] = append(states[n], y)
		}
	}
	if err := p.textBlocks(ctx, w, times, states); err != nil {
		return err
	}
	for n, time := range times {
		for k, b := range p.branches {
			ops.Cast(s, b.ctx, states[n][k])
			text, err := m.device.Download(ctx, b.ctx)
			if err != nil {
				return err
			}
			c := b.at[time]
			c.text = text
			b.at[time] = c
		}
	}
	return nil
}

// conditioning computes c = W_out·SiLU(W_in·e + b) + b + pooled, and SiLU(c), in fp32.
func (p *Pass) conditioning(ctx context.Context, w *textWork, prompts []embeddedPrompt, time float32) error {
	m := p.model
	s := m.device.Compute()
	if err := m.device.UploadF32(ctx, w.timeIn, ops.TimeEmbedding(time, m.Config.ModelDim)); err != nil {
		return err
	}
	outer := params{m.outer}
	weight, bias := outer.linear("time_embeddings.in_layer")
	ops.Matmul(s, ops.MatmulArgs{X: w.timeIn, W: weight, Bias: bias, Y: w.timeMid, Activation: ops.SiLU})
	weight, bias = outer.linear("time_embeddings.out_layer")
	ops.Matmul(s, ops.MatmulArgs{X: w.timeMid, W: weight, Bias: bias, Y: w.time})
	for k, b := range p.branches {
		if err := p.trace(k, "time_embed", w.time); err != nil {
			return err
		}
		act := b.at[time].act
		ops.Add(s, prompts[k].cond, w.time.Reshape(m.Config.TimeDim), prompts[k].pooled)
		ops.Activate(s, act, prompts[k].cond, ops.SiLU)
	}
	return s.Err()
}

// textBlocks takes the states of all branches and times through the text blocks.
func (p *Pass) textBlocks(ctx context.Context, w *textWork, times []float32, states [][]engine.Tensor) error {
	m := p.model
	if m.text == nil {
		return nil
	}
	s := m.device.Compute()
	blocks, err := load.NewFeed(ctx, m.device, m.reader, m.text.Blocks(), m.text.Block, "text block")
	if err != nil {
		return err
	}
	defer blocks.Close()
	for i := range m.text.Blocks() {
		weights, err := blocks.Next(ctx)
		if err == nil {
			err = p.textBlockAt(w, params{weights}, i, times, states)
		}
		if err == nil {
			_, err = s.Flush()
		}
		if err != nil {
			return fmt.Errorf("text block %d: %w", i, err)
		}
		if m.device.Rehearsing() { // the others need the same kernels
			break
		}
	}
	return s.Finish(ctx)
}

// textBlockAt takes the states through one block.
func (p *Pass) textBlockAt(w *textWork, weights params, i int, times []float32, states [][]engine.Tensor) error {
	s := p.model.device.Compute()
	for n, time := range times {
		for k, b := range p.branches {
			p.textBlock(s, w, weights, states[n][k], b.at[time].act, b.mask)
			if err := p.trace(k, fmt.Sprintf("text_block.%d", i), states[n][k]); err != nil {
				return err
			}
		}
	}
	return s.Err()
}
