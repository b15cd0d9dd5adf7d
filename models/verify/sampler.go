package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// runSampler runs a whole denoising loop and compares the latents after every step, the times, the normalisation of the
// first frames and the passes that MagCache skipped.
func runSampler(ctx context.Context, d *engine.Device, c *testCase, o Options) error {
	return withDiT(ctx, d, c, o, func(m *dit.Model, dc ditCase) error { return samplerRun(ctx, d, c, o, m, dc) })
}

func samplerRun(ctx context.Context, d *engine.Device, c *testCase, o Options, m *dit.Model, dc ditCase) error {
	var options kandinsky5.DenoiseOptions
	var magRatios []float64
	var evaluated [][2]int
	if err := errors.Join(c.meta("steps", &options.Steps), c.meta("guidance", &options.Guidance), c.meta("scheduler_scale", &options.SchedulerScale),
		c.meta("mag_ratios", &magRatios), c.meta("blocks_evaluated_cond_uncond_per_step", &evaluated)); err != nil {
		return err
	}
	a := d.NewArena("golden case")
	defer a.Release()
	prompts := make([]dit.Prompt, 1, 2)
	var err error
	if prompts[0], err = c.prompt(ctx, d, a, ""); err != nil {
		return err
	}
	if kandinsky5.Guided(options.Guidance) {
		negative, err := c.prompt(ctx, d, a, "null_")
		if err != nil {
			return err
		}
		prompts = append(prompts, negative)
	}
	latents, err := c.upload(ctx, d, "in.noise")
	if err != nil {
		return err
	}
	defer d.Free(latents)
	if options.FirstFrame, err = c.upload(ctx, d, "in.first_frame"); err != nil {
		return err
	}
	defer d.Free(options.FirstFrame)
	if len(magRatios) > 0 {
		if options.MagCache, err = kandinsky5.NewMagCache(magRatios, options.Steps, kandinsky5.Guided(options.Guidance)); err != nil {
			return err
		}
	}
	pass, err := m.NewPass(ctx, dit.PassOptions{
		Size:    dit.Size{Frames: latents.Dim(0), Height: latents.Dim(1), Width: latents.Dim(2), RopeScale: dc.scale},
		Prompts: prompts, Times: options.Times(),
	})
	if err != nil {
		return err
	}
	defer pass.Close()
	var trajectory []float32
	options.OnStep = func(s kandinsky5.Step) error {
		got, err := d.DownloadF32(ctx, s.Latents)
		trajectory = append(trajectory, got...)
		return err
	}
	if err := kandinsky5.Denoise(ctx, d, pass, m, latents, options); err != nil {
		return err
	}
	limit := limitF32
	if o.Precision == load.Mixed {
		limit = limitSamplerMixed
		if o.Linear == load.LinearInt8 {
			limit = limitSamplerInt8
		}
	}
	if err := c.compare("trajectory", "f32.trajectory", trajectory, limit); err != nil {
		return err
	}
	if err := c.compare("timesteps", "f32.timesteps", kandinsky5.Timesteps(options.Steps, options.SchedulerScale), 1e-6); err != nil {
		return err
	}
	if options.MagCache != nil {
		c.compareSkips(options.MagCache.Skipped(), evaluated)
	}
	return c.normalisation(ctx, d)
}

// compareSkips counts the passes whose skipping differs from the reference.
func (c *testCase) compareSkips(skipped []bool, evaluated [][2]int) {
	differ := 0
	for k, skip := range skipped {
		if skip == (evaluated[k/2][k%2] == 1) {
			differ++
		}
	}
	if len(skipped) != 2*len(evaluated) {
		differ += 1
	}
	c.add("skipped passes", "differing", float64(differ), 0)
}

// normalisation checks the first-frame normalisation on its own.
func (c *testCase) normalisation(ctx context.Context, d *engine.Device) error {
	x, err := c.upload(ctx, d, "f32.normalize_in")
	if err != nil {
		return err
	}
	defer d.Free(x)
	kandinsky5.NormalizeFirstFrames(d.Compute(), x)
	got, err := d.DownloadF32(ctx, x)
	if err != nil {
		return fmt.Errorf("first-frame normalisation: %w", err)
	}
	return c.compare("first-frame normalisation", "f32.normalize_out", got, limitF32)
}
