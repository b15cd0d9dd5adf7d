package verify

import (
	"context"
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/tiny"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// tinyClip is a clip that the reference made with the model inside the program.
type tinyClip struct {
	Name           string  `json:"name"`
	Prompt         string  `json:"prompt"`
	NegativePrompt string  `json:"negative_prompt"`
	Seed           uint64  `json:"seed"`
	Steps          int     `json:"steps"`
	Guidance       float64 `json:"guidance"`
	SchedulerScale float64 `json:"scheduler_scale"`
	Height         int     `json:"height"`
	Width          int     `json:"width"`
	Frames         int     `json:"frames"`
}

// runTiny makes whole clips with the model inside the program, from a picture and a prompt to frames, and compares them
// with the reference's. The noise is drawn here from the same seed and is compared first.
func runTiny(ctx context.Context, d *engine.Device, c *testCase, o Options) error {
	var clips []tinyClip
	if err := c.meta("cases", &clips); err != nil {
		return err
	}
	checkpoint, err := tiny.Checkpoint()
	if err != nil {
		return err
	}
	if n := checkpoint.Config.Model.DiT.NumVisualBlocks; o.BlocksInMemory > n {
		o.BlocksInMemory = n
	}
	p, err := kandinsky5.New(ctx, d, checkpoint, kandinsky5.Options{Precision: o.Precision, BlocksInMemory: o.BlocksInMemory})
	if err != nil {
		return err
	}
	for _, clip := range clips {
		if err := c.tinyClip(ctx, p, clip); err != nil {
			return oneline.Join(fmt.Errorf("%s: %w", clip.Name, err), p.Close())
		}
	}
	return p.Close()
}

func (c *testCase) tinyClip(ctx context.Context, p *kandinsky5.Pipeline, clip tinyClip) error {
	image, err := c.bytes(clip.Name+".image", clip.Height, clip.Width, 3)
	if err != nil {
		return err
	}
	want, err := c.bytes(clip.Name+".frames", clip.Frames, clip.Height, clip.Width, 3)
	if err != nil {
		return err
	}
	if err := c.tinyNoise(clip); err != nil {
		return err
	}
	result, err := p.Generate(ctx, kandinsky5.Request{
		Prompt: clip.Prompt, NegativePrompt: &clip.NegativePrompt, Image: &media.Image{Height: clip.Height, Width: clip.Width, Pix: image},
		Width: clip.Width, Height: clip.Height, Seconds: (clip.Frames - 1) / configs.FramesPerSecond, Steps: clip.Steps, Guidance: clip.Guidance,
		SchedulerScale: clip.SchedulerScale, Seed: clip.Seed,
	})
	if err != nil {
		return err
	}
	got := result.Clip.Pix
	if len(got) != len(want) {
		return fmt.Errorf("%d frames were made, the reference has %d", result.Clip.Frames, clip.Frames)
	}
	sum := 0.0
	for k := range want {
		sum += math.Abs(float64(got[k]) - float64(want[k]))
	}
	c.add(fmt.Sprintf("frames of %q", clip.Prompt), "mean difference", sum/float64(len(want)), limitFrames)
	return nil
}

// tinyNoise draws a clip's noise and compares it with the reference's.
func (c *testCase) tinyNoise(clip tinyClip) error {
	t, err := c.tensor(clip.Name + ".noise")
	if err != nil {
		return err
	}
	want := t.Float32s()
	got, err := kandinsky5.LatentNoise(clip.Seed, len(want))
	if err != nil {
		return err
	}
	differ := 0
	for k := range want {
		if got[k] != want[k] {
			differ++
		}
	}
	c.add(fmt.Sprintf("noise of seed %d", clip.Seed), "differing share", float64(differ)/float64(len(want)), limitRandn)
	return nil
}

// bytes returns a tensor of bytes of the shape.
func (c *testCase) bytes(name string, shape ...int) ([]uint8, error) {
	t, err := c.tensor(name)
	if err != nil {
		return nil, err
	}
	if fmt.Sprint(t.Shape) != fmt.Sprint(shape) || t.DType != weights.U8 {
		return nil, fmt.Errorf("%s is %s %v, want bytes %v", name, t.DType, t.Shape, shape)
	}
	return t.Data, nil
}
