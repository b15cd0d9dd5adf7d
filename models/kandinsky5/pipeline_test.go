package kandinsky5

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// smallCheckpoint writes a random-weight model in the Diffusers layout and opens it as an image-to-video model.
func smallCheckpoint(t testing.TB) *Checkpoint {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "small-i2v")
	if err := weights.Synth(t.Context(), dir, weights.SmallSynth()); err != nil {
		t.Fatal(err)
	}
	c, err := OpenDiffusers(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Config.Pipeline = configs.I2V
	return c
}

// smallPicture is a gradient with a square.
func smallPicture() *Image {
	im := &Image{Height: 48, Width: 64, Pix: make([]uint8, 3*48*64)}
	for y := range 48 {
		for x := range 64 {
			p := im.Pix[3*(y*64+x):]
			p[0], p[1], p[2] = uint8(4*x), uint8(5*y), 80
			if x > 20 && x < 40 && y > 10 && y < 30 {
				p[0], p[1], p[2] = 230, 30, 40
			}
		}
	}
	return im
}

func smallRequest() Request {
	return Request{Prompt: "a red square turns", Image: smallPicture(), Width: 64, Height: 48, Seconds: 1, Steps: 3, Guidance: 4, Seed: 7}
}

func generate(t *testing.T, d *engine.Device, c *Checkpoint, o Options, r Request) *Result {
	t.Helper()
	p, err := New(t.Context(), d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	result, err := p.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestAPromptAndAPictureBecomeAVideo(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.Open(t)
	result := generate(t, d, c, Options{BlocksInMemory: 2}, smallRequest())
	clip := result.Clip
	if clip.Frames != 25 || clip.Width != 64 || clip.Height != 48 {
		t.Fatalf("clip is %d frames of %d×%d", clip.Frames, clip.Width, clip.Height)
	}
	var mean, square float64
	for _, v := range clip.Pix {
		mean += float64(v)
		square += float64(v) * float64(v)
	}
	n := float64(len(clip.Pix))
	if dev := math.Sqrt(square/n - mean/n*mean/n); dev < 1 {
		t.Errorf("all pixels are the same (mean %.1f, deviation %.2f)", mean/n, dev)
	}
	if dir := os.Getenv("VKANDINSKY_KEEP"); dir != "" {
		for _, s := range result.Stats.Stages {
			t.Logf("%s took %v, peak %d", s.Stage, s.Took, s.PeakDevice)
		}
	}
}

func TestSwappingAndOffloadingChangeNoBit(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.Open(t)
	want := generate(t, d, c, Options{}, smallRequest()).Clip.Pix
	for name, o := range map[string]Options{
		"one block, pinned":         {BlocksInMemory: 1},
		"two blocks, mapped":        {BlocksInMemory: 2, HostTier: swap.Mapped},
		"fifo, text blocks swapped": {BlocksInMemory: 3, SwapPolicy: swap.FIFO, TextBlocksInMemory: 1},
		"offload, qwen streamed":    {BlocksInMemory: 2, Offload: true, QwenLayersInMemory: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := generate(t, d, c, o, smallRequest()).Clip.Pix; !bytes.Equal(got, want) {
				t.Errorf("frames differ from those with all blocks resident")
			}
		})
	}
	t.Run("a second run in one pipeline", func(t *testing.T) {
		p, err := New(t.Context(), d, c, Options{BlocksInMemory: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 2 {
			r, err := p.Generate(t.Context(), smallRequest())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.Clip.Pix, want) {
				t.Error("frames differ")
			}
		}
	})
}

func TestCancellingGivesEverythingBack(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.Open(t)
	for _, stage := range []Stage{StageText, StageImage, StageLoad, StageDenoise, StageDecode} {
		t.Run(string(stage), func(t *testing.T) {
			p, err := New(t.Context(), d, c, Options{BlocksInMemory: 2, HostTier: swap.Mapped})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := smallRequest()
			r.Progress = func(p Progress) {
				if p.Stage == stage {
					cancel()
				}
			}
			if _, err := p.Generate(ctx, r); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want cancelled", err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestImpossibleRequestsAreRefusedBeforeWork(t *testing.T) {
	c := smallCheckpoint(t)
	for name, change := range map[string]func(*Request){
		"empty prompt": func(r *Request) { r.Prompt = " " }, "no picture": func(r *Request) { r.Image = nil },
		"odd size": func(r *Request) { r.Width = 63 }, "half a size": func(r *Request) { r.Width = 0 },
		"negative steps": func(r *Request) { r.Steps = -1 }, "guidance is not a number": func(r *Request) { r.Guidance = math.NaN() },
		"a minute": func(r *Request) { r.Seconds = 61 }, "magcache without ratios": func(r *Request) { r.MagCache = true },
		"scale below zero": func(r *Request) { r.SchedulerScale = -3 },
	} {
		t.Run(name, func(t *testing.T) {
			r := smallRequest()
			change(&r)
			if _, err := Resolve(c.Config, r); !errors.Is(err, ErrRequest) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPrecisionsAgree(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.Open(t)
	exact := generate(t, d, c, Options{Precision: load.Float32}, smallRequest()).Clip.Pix
	mixed := generate(t, d, c, Options{}, smallRequest()).Clip.Pix
	var sum float64
	for k := range exact {
		sum += math.Abs(float64(exact[k]) - float64(mixed[k]))
	}
	if mean := sum / float64(len(exact)); !(mean < 4) {
		t.Errorf("mixed and f32 differ by %.2f levels on average", mean)
	}
}
