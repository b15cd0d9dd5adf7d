package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// VAEOptions say which decode to measure.
type VAEOptions struct {
	Config    weights.VAEConfig // weights.HunyuanVAE()
	Weights   load.Reader       // load.Synthetic(weights.F16), or a checkpoint's
	Precision load.Precision
	Size      vae.Size // of the video in pixels and frames
	// Tiling says what is decoded at once; the zero value means the reference's tiles in time and whole frames.
	Tiling vae.Tiling
	Rounds int // at least 1; the first compiles kernels
	// Progress, if set, is told after each tile of a round, counted from 0.
	Progress func(round, done, total int)
}

// VAEReport is what was measured of decodes. Times are in nanoseconds, sizes in bytes.
type VAEReport struct {
	Device    string        `json:"device"`
	Driver    string        `json:"driver"`
	Kernels   string        `json:"kernels"`
	Precision string        `json:"precision"`
	Size      vae.Size      `json:"size"`
	Tiling    vae.Tiling    `json:"tiling"`
	LoadTime  time.Duration `json:"load_ns"`
	Work      VAEWork       `json:"work"` // of a round
	// Pipelines were compiled: ahead, while the weights were read, and late, where they were needed.
	Pipelines engine.PipelineCounts `json:"pipelines"`

	Rounds []VAERound `json:"rounds"`

	PeakDevice int64 `json:"peak_device_bytes"`
}

// VAERound is one decode, from latents on the device to the bytes of all frames on the host.
type VAERound struct {
	Time       time.Duration `json:"ns"`
	DeviceTime time.Duration `json:"device_ns"` // from the first kernel's start to the last one's end; 0 without timings
	RecordTime time.Duration `json:"record_ns"` // host time spent recording and submitting
	TFLOPS     float64       `json:"tflops"`    // Work in the round's time, in 10¹² a second
	Dispatches int64         `json:"dispatches"`
	Submits    int64         `json:"submits"`
	Parts      []Kernel      `json:"parts"`   // kernels added up by what they do, most time first
	Kernels    []Kernel      `json:"kernels"` // by their sizes, most time first
}

// RunVAE loads the decoder and measures decodes of made-up latents. Nothing stays allocated.
func RunVAE(ctx context.Context, d *engine.Device, o VAEOptions) (*VAEReport, error) {
	if o.Rounds < 1 {
		return nil, fmt.Errorf("%d rounds: at least 1 is needed", o.Rounds)
	}
	if o.Tiling == (vae.Tiling{}) {
		o.Tiling = vae.Whole()
	}
	info := d.Summary.Physical.Info
	r := &VAEReport{Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Kernels: d.Caps().Tier.String(),
		Precision: o.Precision.String(), Size: o.Size, Tiling: o.Tiling, Work: WorkOfDecode(o.Config, o.Size, o.Tiling)}
	d.Mem.ResetPeak()
	v, err := vae.New(d, o.Weights, o.Config, o.Precision)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	before := d.Pipelines()
	start := time.Now()
	ahead := d.Rehearse(ctx, o.rehearse)
	defer ahead.Stop()
	if err := v.LoadDecoder(ctx); err != nil {
		return nil, err
	}
	r.LoadTime = time.Since(start)
	a := d.NewArena("bench latents")
	defer a.Release()
	latents := o.latents(a)
	if err := a.Err(); err != nil {
		return nil, err
	}
	if err := d.UploadF32(ctx, latents, normal(rand.New(rand.NewPCG(1, 2)), int(latents.Elems()))); err != nil {
		return nil, err
	}
	for n := range o.Rounds {
		if err := r.round(ctx, d, v, latents, o, n); err != nil {
			return nil, fmt.Errorf("round %d of %d: %w", n+1, o.Rounds, err)
		}
	}
	r.PeakDevice, r.Pipelines = d.Mem.Peak(memory.Device), d.Pipelines().Since(before)
	return r, nil
}

func (r *VAEReport) round(ctx context.Context, d *engine.Device, v *vae.VAE, latents engine.Tensor, o VAEOptions, n int) error {
	s := d.Compute()
	s.TakeSpans()
	decode := vae.DecodeOptions{Tiling: o.Tiling}
	if o.Progress != nil {
		decode.Progress = func(done, total int) { o.Progress(n, done, total) }
	}
	frames := 0
	before := s.Counters()
	start := time.Now()
	err := v.Decode(ctx, latents, decode, func(f vae.Frames) error {
		frames += f.Count
		return nil
	})
	if err = errors.Join(err, s.Finish(ctx)); err != nil {
		return err
	}
	took := time.Since(start)
	if frames != o.Size.Frames {
		return fmt.Errorf("%d frames were decoded, not %d", frames, o.Size.Frames)
	}
	after := s.Counters()
	kernels, device := byKernel(s.TakeSpans())
	r.Rounds = append(r.Rounds, VAERound{
		Time: took, DeviceTime: device, RecordTime: after.RecordTime - before.RecordTime, TFLOPS: r.Work.Total() / took.Seconds() / 1e12,
		Dispatches: after.Dispatches - before.Dispatches, Submits: after.Submits - before.Submits,
		Parts: byPart(kernels), Kernels: kernels,
	})
	return nil
}
