package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/clip"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/qwen"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// runCLIP encodes every row of ids.
func runCLIP(ctx context.Context, d *engine.Device, c *testCase, o Options) error {
	config := weights.CLIPViTL14() // for what the case does not say
	if err := c.meta("config", &config); err != nil {
		return err
	}
	ids, err := c.tensor("in.input_ids")
	if err != nil {
		return err
	}
	if len(ids.Shape) != 2 {
		return fmt.Errorf("in.input_ids is %v, want [prompts, ids]", ids.Shape)
	}
	r, err := c.readerFor(weights.CLIP)
	if err != nil {
		return err
	}
	m, err := clip.New(ctx, d, r, config, clip.Options{Precision: o.Precision})
	if err != nil {
		return err
	}
	defer m.Close()
	var hidden, pooled []float32
	all, length := ids.Int32s(), ids.Shape[1]
	for at := 0; at < len(all); at += length {
		h, err := m.Hidden(ctx, all[at:at+length])
		if err != nil {
			return err
		}
		rows, err := d.DownloadF32(ctx, h)
		d.Free(h)
		if err != nil {
			return err
		}
		p, err := m.Pooled(ctx, all[at:at+length])
		if err != nil {
			return err
		}
		hidden, pooled = append(hidden, rows...), append(pooled, p...)
	}
	return errors.Join(c.compare("last_hidden_state", "f32.last_hidden_state", hidden, o.limit(limitCLIP)),
		c.compare("pooler_output", "f32.pooler_output", pooled, o.limit(limitCLIP)))
}

// qwenCase is an open Qwen case.
type qwenCase struct {
	*testCase
	device *engine.Device
	model  *qwen.Model
	reader load.NF4Reader
	opts   qwen.Options
	limit  float64
	exact  bool // f32
}

// runQwen encodes a text prompt and one with a picture, and continues the latter greedily.
func runQwen(ctx context.Context, d *engine.Device, c *testCase, o Options) error {
	config := weights.Qwen7B()
	var special struct {
		Image int `json:"image_token_id"`
	}
	if err := errors.Join(c.meta("text_config", &config.Text), c.meta("vision_config", &config.Vision), c.meta("special", &special)); err != nil {
		return err
	}
	config.ImageTokenID = special.Image
	r, err := c.readerFor(weights.Qwen)
	if err != nil {
		return err
	}
	opts := qwen.Options{Precision: o.Precision, LayersInMemory: o.BlocksInMemory}
	m, err := qwen.New(ctx, d, r, config, opts)
	if err != nil {
		return err
	}
	q := qwenCase{c, d, m, r, opts, o.limit(limitQwen), o.Precision == load.Float32}
	return errors.Join(q.text(ctx), q.picture(ctx), m.Close())
}

func (q qwenCase) text(ctx context.Context) error {
	ids, err := q.tensor("in.input_ids")
	if err != nil {
		return err
	}
	maskTensor, err := q.tensor("in.attention_mask")
	if err != nil {
		return err
	}
	var mask []bool
	last := 0
	for k, v := range maskTensor.Int32s() {
		if mask = append(mask, v != 0); v != 0 {
			last = k
		}
	}
	unmasked, err := q.hidden(ctx, qwen.Prompt{IDs: ids.Int32s()}, nil, "")
	if err != nil {
		return err
	}
	if err := q.compare("last_hidden_state_unmasked", "f32.last_hidden_state_unmasked", unmasked, q.limit); err != nil {
		return err
	}
	masked, err := q.hidden(ctx, qwen.Prompt{IDs: ids.Int32s(), Mask: mask}, []int{last}, "logits_last_valid")
	if err != nil {
		return err
	}
	// Rows of padding are nobody's: the reference computes them in its own way.
	want, err := q.tensor("f32.last_hidden_state_masked")
	if err != nil {
		return err
	}
	reference, width := want.Float32s(), len(masked)/len(mask)
	valid := (last + 1) * width
	q.add("last_hidden_state_masked", "relative error", RelativeError(masked[:valid], reference[:valid]), q.limit)
	return q.quantized(ctx, ids.Int32s(), unmasked)
}

// hidden encodes a prompt, and compares the logits of some rows with the reference of that name.
func (q qwenCase) hidden(ctx context.Context, p qwen.Prompt, rows []int, logits string) ([]float32, error) {
	states, err := q.model.Encode(ctx, []qwen.Prompt{p})
	if err != nil {
		return nil, err
	}
	defer q.device.Free(states[0])
	if rows != nil {
		got, err := q.model.Logits(ctx, states[0], rows)
		if err != nil {
			return nil, err
		}
		if err := q.compare(logits, "f32."+logits, got, q.limit); err != nil {
			return nil, err
		}
	}
	return q.device.DownloadF32(ctx, states[0])
}

func (q qwenCase) picture(ctx context.Context) error {
	if !q.has("in.pixel_values") {
		return nil // a case without vision tower
	}
	pixels, err := q.tensor("in.pixel_values")
	if err != nil {
		return err
	}
	grid, err := q.tensor("in.image_grid_thw")
	if err != nil {
		return err
	}
	ids, err := q.tensor("in.image_prompt_ids")
	if err != nil {
		return err
	}
	size := grid.Int32s()
	image := qwen.Image{Patches: pixels.Float32s(), Rows: int(size[1]), Cols: int(size[2])}
	embeds, err := q.model.ImageEmbeds(ctx, image)
	if err != nil {
		return err
	}
	got, err := q.device.DownloadF32(ctx, embeds)
	q.device.Free(embeds)
	if err != nil {
		return err
	}
	if err := q.compare("image_embeds", "f32.image_embeds", got, q.limit); err != nil {
		return err
	}
	prompt := qwen.Prompt{IDs: ids.Int32s(), Images: []qwen.Image{image}}
	hidden, err := q.hidden(ctx, prompt, []int{len(prompt.IDs) - 1}, "image_prompt_logits_last")
	if err != nil {
		return err
	}
	if err := q.compare("image_prompt_hidden", "f32.image_prompt_hidden", hidden, q.limit); err != nil {
		return err
	}
	if !q.exact {
		return nil // rounding decides between ids that are nearly equally likely
	}
	return q.continuation(ctx, prompt)
}

// continuation generates greedily and counts the ids that differ.
func (q qwenCase) continuation(ctx context.Context, prompt qwen.Prompt) error {
	want, err := q.tensor("f32.generated_ids")
	if err != nil {
		return err
	}
	ids := want.Int32s()
	got, err := q.model.Generate(ctx, prompt, qwen.GenerateOptions{Max: len(ids)})
	if err != nil {
		return err
	}
	differ := max(0, len(ids)-len(got))
	for k := range min(len(ids), len(got)) {
		if got[k] != ids[k] {
			differ++
		}
	}
	q.add("generated_ids", "differing", float64(differ), 0)
	return nil
}
