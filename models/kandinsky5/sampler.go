package kandinsky5

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/dit"
)

// Timesteps returns the n+1 times of n steps, from 1 (noise) to 0, shifted towards noise by scale: s = 1 − i/n,
// t = scale·s / (1 + (scale − 1)·s), in float32 (kandinsky-5, kandinsky/generation_utils.py, generate).
func Timesteps(n int, scale float64) []float32 {
	out := make([]float32, n+1)
	sigma := float32(scale)
	for i := range out {
		s := float32(1 - float64(i)/float64(n))
		out[i] = sigma * s / (1 + (sigma-1)*s)
	}
	return out
}

// Guided says whether a guidance weight needs a second, unconditional pass per step.
func Guided(weight float64) bool { return math.Abs(weight-1) > 1e-6 }

// DenoiseOptions say how to integrate.
type DenoiseOptions struct {
	Steps          int
	SchedulerScale float64
	Guidance       float64
	// FirstFrame is the clean first frame of image-to-video, [1, H, W, C]; none for text-to-video.
	FirstFrame engine.Tensor
	MagCache   *MagCache // nil: every pass is made
	// Recorded, if not nil, is called when step i, from 0, has been recorded and before it is waited for: what it records on
	// the compute stream, such as a copy of the latents to the host, is done when OnStep is called.
	Recorded func(i int)
	// OnStep is called after each step; an error stops the run.
	// Start is how many of the steps were made before: the latents are those that step Start begins with.
	Start int
	// Replay has the latents of earlier steps that MagCache's residuals are made from again, in the order of the steps.
	Replay []Replay
	// OnStep is called after each step; an error stops the run. ErrEnough ends it early and well: the latents become the
	// clean clip that the step's velocity leads to.
	OnStep func(Step) error
}

// Replay is an earlier step that a residual is still needed of.
type Replay struct {
	Step    int
	Latents engine.Tensor // F32 [T, H, W, C], as the step began with them
}

// ErrEnough is what DenoiseOptions.OnStep returns to make no more steps.
var ErrEnough = errors.New("enough steps")

// Times returns the times that the steps begin at, as the transformer knows them: those that its pass is made for.
func (o DenoiseOptions) Times() []float32 {
	times := Timesteps(o.Steps, o.SchedulerScale)[:o.Steps]
	for i := range times {
		times[i] *= 1000
	}
	return times
}

// Step describes a finished step.
type Step struct {
	Index, Count int           // from 0
	Took         time.Duration // of this step
	Skipped      int           // passes that MagCache skipped
	Latents      engine.Tensor // F32 [T, H, W, C], on the device
}

// Denoise integrates the rectified flow from noise to a clean clip, in place and in fp32 (kandinsky-5,
// kandinsky/generation_utils.py): before every step image-to-video puts the clean first frame back, and once more at
// the end, where the first frames are normalised too. The pass was made for the options' Times and has one prompt, or two
// with guidance, the negative one second; where all steps were made before, there may be none.
func Denoise(ctx context.Context, d *engine.Device, pass *dit.Pass, m *dit.Model, latents engine.Tensor, o DenoiseOptions) error {
	residuals, release, err := magResiduals(d, m, latents, o)
	if err != nil {
		return err
	}
	defer release()
	s := d.Compute()
	if err := replay(ctx, s, pass, o, residuals); err != nil {
		return err
	}
	for i := o.Start; i < o.Steps; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		skips, skipped := decide(o.MagCache, residuals)
		euler, err := step(ctx, s, pass, latents, i, o, skips)
		if err == nil {
			ops.EulerStep(s, euler)
			if o.Recorded != nil {
				o.Recorded(i)
			}
			err = oneline.Join(s.Finish(ctx), m.Err())
		}
		if err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, o.Steps, err)
		}
		if o.OnStep == nil {
			continue
		}
		err = o.OnStep(Step{Index: i, Count: o.Steps, Took: time.Since(start), Skipped: skipped, Latents: latents})
		if errors.Is(err, ErrEnough) {
			euler.Delta = -Timesteps(o.Steps, o.SchedulerScale)[i+1]
			ops.EulerStep(s, euler)
			break
		}
		if err != nil {
			return err
		}
	}
	if !o.FirstFrame.IsZero() {
		putFirstFrame(s, latents, o.FirstFrame)
		NormalizeFirstFrames(s, latents)
	}
	return s.Finish(ctx)
}

// step evaluates the velocity of a step and says how to integrate it.
func step(ctx context.Context, s *engine.Stream, pass *dit.Pass, latents engine.Tensor, i int, o DenoiseOptions, skips []dit.Skip) (ops.EulerArgs, error) {
	sigmas := Timesteps(o.Steps, o.SchedulerScale)
	input := dit.Input{Latents: latents, Time: o.Times()[i]}
	if !o.FirstFrame.IsZero() {
		input.MaskFrames = 1
		putFirstFrame(s, latents, o.FirstFrame)
	}
	v, err := pass.Evaluate(ctx, input, skips)
	if err != nil {
		return ops.EulerArgs{}, err
	}
	euler := ops.EulerArgs{Latents: latents, Cond: v[0], Guidance: float32(o.Guidance), Delta: sigmas[i+1] - sigmas[i]}
	if Guided(o.Guidance) {
		euler.Uncond = v[1]
	}
	return euler, nil
}

// replay brings MagCache and its residuals to where the step Start finds them.
func replay(ctx context.Context, s *engine.Stream, pass *dit.Pass, o DenoiseOptions, residuals []engine.Tensor) error {
	if o.MagCache == nil || o.Start == 0 {
		return nil
	}
	from := residualSteps(o.MagCache.Plan(), o.Start)
	o.MagCache.Advance(o.Start)
	for _, r := range residuals {
		s.Fill(r, 0) // one that is not made here is read, to no effect
	}
	for _, r := range o.Replay {
		skips := make([]dit.Skip, len(residuals))
		for k := range skips {
			if from[k] == r.Step {
				skips[k].Save = residuals[k]
			} else {
				skips[k].Use = residuals[k]
			}
		}
		if _, err := step(ctx, s, pass, r.Latents, r.Step, o, skips); err != nil {
			return fmt.Errorf("step %d of %d once more: %w", r.Step+1, o.Steps, err)
		}
	}
	return s.Finish(ctx)
}

// NormalizeFirstFrames pulls the statistics of the first four frames of latents [T, H, W, C] towards those of the
// next, in place; clips of four frames or fewer have nothing to follow and stay as they are.
func NormalizeFirstFrames(s *engine.Stream, latents engine.Tensor) {
	if norm, ok := ops.FirstFrameNorm(latents); ok {
		ops.FrameNorm(s, norm)
	}
}

func putFirstFrame(s *engine.Stream, latents, first engine.Tensor) {
	if !first.IsZero() {
		ops.Cast(s, latents.Rows(0, 1), first)
	}
}

// magResiduals allocates what MagCache adds again, one tensor per branch.
func magResiduals(d *engine.Device, m *dit.Model, latents engine.Tensor, o DenoiseOptions) ([]engine.Tensor, func(), error) {
	if o.MagCache == nil || o.Start >= o.Steps {
		return nil, func() {}, nil
	}
	branches := 1
	if Guided(o.Guidance) {
		branches = 2
	}
	tokens := latents.Dim(0) * latents.Dim(1) / 2 * latents.Dim(2) / 2
	a := d.NewArena("magcache")
	out := make([]engine.Tensor, branches)
	for k := range out {
		out[k] = a.Alloc("residual", m.ResidualType(), tokens, m.Config.ModelDim)
	}
	if err := a.Err(); err != nil {
		a.Release()
		return nil, nil, err
	}
	return out, a.Release, nil
}

// decide asks MagCache about every branch of a step.
func decide(cache *MagCache, residuals []engine.Tensor) (skips []dit.Skip, skipped int) {
	if cache == nil {
		return nil, 0
	}
	skips = make([]dit.Skip, len(residuals))
	for k, r := range residuals {
		if cache.Next() {
			skips[k].Use = r
			skipped++
		} else {
			skips[k].Save = r
		}
	}
	return skips, skipped
}
