package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// ditCase is what the transformer and the sampler cases share.
type ditCase struct {
	config dit.Config
	scale  [3]float32
}

func (c *testCase) ditConfig() (ditCase, error) {
	var out ditCase
	if err := c.meta("config", &out.config.DiTConfig); err != nil {
		return out, err
	}
	if err := c.meta("scale_factor", &out.scale); err != nil {
		return out, err
	}
	if _, ok := c.file.Metadata()["attention"]; ok {
		var nabla struct {
			P          float32
			WT, WH, WW int
		}
		if err := c.meta("attention", &nabla); err != nil {
			return out, err
		}
		if nabla.P != 0 {
			out.config.Nabla = &dit.Nabla{P: nabla.P, Window: [3]int{nabla.WT, nabla.WH, nabla.WW}}
		}
	}
	return out, nil
}

func (o Options) ditOptions() dit.Options {
	return dit.Options{Precision: o.Precision, Linear: o.Linear, Attention: o.Attention, Visual: dit.SwapOptions{Slots: o.BlocksInMemory}}
}

// prompt uploads a text condition of the case: prefix "" or "null_".
func (c *testCase) prompt(ctx context.Context, d *engine.Device, a *engine.Arena, prefix string) (dit.Prompt, error) {
	var p dit.Prompt
	text, err := c.tensor("in." + prefix + "text_embeds")
	if err != nil {
		return p, err
	}
	mask, err := c.tensor("in." + prefix + "attention_mask")
	if err != nil {
		return p, err
	}
	pooled, err := c.tensor("in." + prefix + "pooled_embed")
	if err != nil {
		return p, err
	}
	rows := text.Shape[len(text.Shape)-2]
	p.Pooled = pooled.Float32s()
	p.Text = a.Alloc("text", engine.F32, rows, text.Shape[len(text.Shape)-1])
	p.Mask = a.Alloc("mask", engine.U32, rows)
	if err := a.Err(); err != nil {
		return p, err
	}
	if err := d.UploadF32(ctx, p.Text, text.Float32s()); err != nil {
		return p, err
	}
	words := make([]uint32, rows)
	for k, b := range mask.Data {
		words[k] = uint32(b)
	}
	return p, d.UploadU32(ctx, p.Mask, words)
}

// withDiT opens a case's transformer, hands it to run and closes it.
func withDiT(ctx context.Context, d *engine.Device, c *testCase, o Options, run func(m *dit.Model, dc ditCase) error) error {
	dc, err := c.ditConfig()
	if err != nil {
		return err
	}
	r, err := c.reader()
	if err != nil {
		return err
	}
	m, err := dit.New(ctx, d, r, dc.config, o.ditOptions())
	if err != nil {
		return err
	}
	return errors.Join(run(m, dc), m.Close())
}

// runDiT runs one forward pass and compares every tensor that the case recorded.
func runDiT(ctx context.Context, d *engine.Device, c *testCase, o Options) error {
	return withDiT(ctx, d, c, o, func(m *dit.Model, dc ditCase) error { return runDiTPass(ctx, d, c, o, m, dc) })
}

func runDiTPass(ctx context.Context, d *engine.Device, c *testCase, o Options, m *dit.Model, dc ditCase) error {
	a := d.NewArena("golden case")
	defer a.Release()
	prompt, err := c.prompt(ctx, d, a, "")
	if err != nil {
		return err
	}
	x, err := c.upload(ctx, d, "in.x")
	if err != nil {
		return err
	}
	defer d.Free(x)
	time, err := c.tensor("in.time")
	if err != nil {
		return err
	}
	var limits map[string]float64
	if o.Precision == load.Mixed {
		if err := c.meta("bf16_reference_rel_error", &limits); err != nil {
			return err
		}
	}
	pass, err := m.NewPass(ctx, dit.PassOptions{
		Size:    dit.Size{Frames: x.Dim(0), Height: x.Dim(1), Width: x.Dim(2), RopeScale: dc.scale},
		Prompts: []dit.Prompt{prompt}, Times: time.Float32s()[:1],
		Trace: func(_ int, name string, t engine.Tensor) error { return c.traced(ctx, d, o, limits, name, t) },
	})
	if err != nil {
		return err
	}
	defer pass.Close()
	_, err = pass.Evaluate(ctx, dit.Input{Latents: x, Time: time.Float32s()[0]}, nil)
	return err
}

// traced compares an intermediate tensor where the case recorded it.
func (c *testCase) traced(ctx context.Context, d *engine.Device, o Options, limits map[string]float64, name string, t engine.Tensor) error {
	reference := "f32." + name
	if !c.has(reference) {
		return nil
	}
	if t.DType == engine.U32 {
		return c.traceMask(ctx, d, o, name, reference, t)
	}
	got, err := d.DownloadF32(ctx, t)
	if err != nil {
		return err
	}
	limit := limitF32
	if o.Precision == load.Mixed {
		// The time embedding is fp32 in the reference too, so its error there is fp32 rounding and no yardstick for
		// another implementation of sines: the f32 limit holds for it in both precisions.
		if limit = limits[name]; name == "time_embed" {
			limit = limitF32
		}
		if limit == 0 {
			return fmt.Errorf("the case has no bf16 error for %s", name)
		}
		if o.Linear == load.LinearInt8 && (name == "velocity" || strings.HasPrefix(name, "visual_block.")) {
			limit = max(limit, limitInt8)
		}
	}
	return c.compare(name, reference, got, limit)
}

// traceMask counts the entries of a block mask that differ. Masks of a bf16 and an fp32 evaluation differ in borderline
// entries, so only f32 is judged.
func (c *testCase) traceMask(ctx context.Context, d *engine.Device, o Options, name, reference string, t engine.Tensor) error {
	want, err := c.tensor(reference)
	if err != nil {
		return err
	}
	got, err := d.DownloadU32(ctx, t)
	if err != nil {
		return err
	}
	if len(got) != want.Elements() || want.DType != weights.U8 && want.DType != weights.BOOL {
		return fmt.Errorf("%s has %d entries, the reference %d of type %s", name, len(got), want.Elements(), want.DType)
	}
	differ := 0
	for k, w := range want.Data {
		if (got[k] != 0) != (w != 0) {
			differ++
		}
	}
	if o.Precision == load.Float32 {
		c.add(name, "differing share", float64(differ)/float64(len(got)), limitNabla)
	}
	return nil
}
