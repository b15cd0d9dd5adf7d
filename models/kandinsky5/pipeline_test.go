package kandinsky5

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// TestPipeline has one device for all its parts: most of the time of a first run goes into compiling kernels.
func TestPipeline(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	t.Run("a prompt and a picture become a video", func(t *testing.T) { becomesAVideo(t, d, c) })
	t.Run("swapping and offloading change no bit", func(t *testing.T) { swappingChangesNothing(t, d, c) })
	t.Run("a second run in one pipeline gives the same", func(t *testing.T) { secondRunIsTheSame(t, d, c) })
	t.Run("cancelling gives everything back", func(t *testing.T) { cancellingGivesBack(t, d, c) })
	t.Run("precisions agree", func(t *testing.T) { precisionsAgree(t, d, c) })
}

func becomesAVideo(t *testing.T, d *engine.Device, c *Checkpoint) {
	result := generate(t, d, c, Options{BlocksInMemory: 2}, smallRequest())
	clip := result.Clip
	if clip.Frames != 25 || clip.Width != 32 || clip.Height != 32 || len(clip.Pix) != 25*32*32*3 {
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
	for _, s := range result.Stats.Stages {
		t.Logf("%s took %v, peak %d", s.Stage, s.Took, s.PeakDevice)
	}
	if s := result.Stats; len(s.Stages) != 5 || s.PeakDevice == 0 || s.Swap.Loads < 8 {
		t.Errorf("stats are %+v", s)
	}
}

func swappingChangesNothing(t *testing.T, d *engine.Device, c *Checkpoint) {
	want := generate(t, d, c, Options{}, guidedRequest()).Clip.Pix
	for name, o := range map[string]Options{
		"one block, pinned":      {BlocksInMemory: 1},
		"two blocks, mapped":     {BlocksInMemory: 2, HostTier: swap.Mapped},
		"two blocks, mixed":      {BlocksInMemory: 2, HostTier: swap.Mixed, PinnedBlocks: 1},
		"fifo":                   {BlocksInMemory: 3, SwapPolicy: swap.FIFO},
		"offload, qwen streamed": {BlocksInMemory: 2, Offload: true, QwenLayersInMemory: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := generate(t, d, c, o, guidedRequest()).Clip.Pix; !bytes.Equal(got, want) {
				t.Errorf("frames differ from those with all blocks resident")
			}
		})
	}
}

func secondRunIsTheSame(t *testing.T, d *engine.Device, c *Checkpoint) {
	p, err := New(t.Context(), d, c, Options{BlocksInMemory: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var first []byte
	for range 2 {
		r, err := p.Generate(t.Context(), guidedRequest())
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = r.Clip.Pix
		} else if !bytes.Equal(r.Clip.Pix, first) {
			t.Error("frames differ")
		}
	}
	other := guidedRequest()
	other.Seed++
	r, err := p.Generate(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(r.Clip.Pix, first) {
		t.Error("another seed gives the same frames")
	}
}

func cancellingGivesBack(t *testing.T, d *engine.Device, c *Checkpoint) {
	want := generate(t, d, c, Options{}, pictureRequest()).Clip.Pix
	for _, stage := range []Stage{StageText, StageImage, StageLoad, StageDenoise, StageDecode} {
		t.Run(string(stage), func(t *testing.T) {
			p, err := New(t.Context(), d, c, Options{BlocksInMemory: 2, HostTier: swap.Mapped})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := pictureRequest()
			r.Progress = func(p Progress) {
				if p.Stage == stage {
					cancel()
				}
			}
			if _, err := p.Generate(ctx, r); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want cancelled", err)
			}
			if stage == StageDenoise { // the pipeline is as good as new
				if again, err := p.Generate(t.Context(), pictureRequest()); err != nil || !bytes.Equal(again.Clip.Pix, want) {
					t.Errorf("the next run gives another picture, or %v", err)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func precisionsAgree(t *testing.T, d *engine.Device, c *Checkpoint) {
	exact := generate(t, d, c, Options{Precision: load.Float32}, guidedRequest()).Clip.Pix
	mixed := generate(t, d, c, Options{}, guidedRequest()).Clip.Pix
	var sum float64
	for k := range exact {
		sum += math.Abs(float64(exact[k]) - float64(mixed[k]))
	}
	if mean := sum / float64(len(exact)); !(mean < 4) {
		t.Errorf("mixed and f32 differ by %.2f levels on average", mean)
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
