package vae

import (
	"context"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Limits are what bounds a tile besides the memory there is.
type Limits struct {
	MaxAllocation   int64 // bytes of one allocation
	MaxStorageRange int64 // bytes of one binding
	Half            bool  // products are computed in fp16, which takes a little scratch memory
	// Matrices tells that cooperative matrices multiply convolutions, for which upsampling is folded into weights, and
	// the attention.
	Matrices bool
	Cut      memory.Cut // how the allocator cuts memory; the zero value is a default one without a budget
}

// LimitsOf returns a device's limits at a precision.
func LimitsOf(c engine.Caps, p load.Precision) Limits {
	l := Limits{MaxAllocation: c.MaxAllocation, MaxStorageRange: c.MaxStorageRange, Half: c.Tier >= engine.TierFP16 && p == load.Mixed}
	// Their weights, packed and folded, are bound whole: devices that bind less than Vulkan promises do without.
	l.Matrices = l.Half && c.MaxStorageRange >= leastStorageRange && ops.ConvByMatrices(c, matrixChannels)
	return l
}

// leastStorageRange is the least maxStorageBufferRange that Vulkan allows a device, in bytes.
const leastStorageRange = 128 << 20

// matrixChannels divides the channels of what matrices multiply: those of all layers but the first and the last.
const matrixChannels = 16

// fold returns the upsampling to fold into the weights of a convolution; zero for none.
func (l Limits) fold(c weights.VAEConfig, name string) [3]int {
	for b := range c.BlockOutChannels {
		channels := c.BlockOutChannels[len(c.BlockOutChannels)-1-b]
		if l.Matrices && channels%matrixChannels == 0 && strings.HasPrefix(name, fmt.Sprintf("decoder.up_blocks.%d.upsamplers.", b)) {
			return [3]int{timeFactor(b), 2, 2}
		}
	}
	return [3]int{}
}

// Model is what decides how much memory an autoencoder needs.
type Model struct {
	Config    weights.VAEConfig
	Precision load.Precision
	Stored    weights.DType // of the tensors in the checkpoint
	Limits    Limits
}

// Size is that of a video in pixels; Frames is 4k + 1, Height and Width are multiples of 8.
type Size struct{ Frames, Height, Width int }

func (s Size) check() error {
	if s.Frames < 1 || (s.Frames-1)%temporal != 0 || s.Height < spatial || s.Height%spatial != 0 || s.Width < spatial || s.Width%spatial != 0 {
		return fmt.Errorf("vae: %d frames of %d×%d pixels: frames must be 4k + 1, height and width multiples of 8", s.Frames, s.Height, s.Width)
	}
	return nil
}

// latents is the size in latent frames and places.
func (s Size) latents() [3]int {
	return [3]int{pixelUnit.latents(s.Frames), s.Height / spatial, s.Width / spatial}
}

// EncodeNeed returns the device memory at the peak of Encode with the encoder loaded, to the byte, without the pixels,
// which are the caller's.
func (m Model) EncodeNeed(s Size, t Tiling) (*load.Need, error) {
	need := &load.Need{Cut: m.Limits.Cut}
	if err := s.check(); err != nil {
		return nil, err
	}
	z := s.latents()
	in := engine.Tensor{DType: engine.F32, Shape: []int{s.Frames, s.Height, s.Width, m.Config.InChannels}}
	posterior := engine.Tensor{DType: engine.F32, Shape: []int{z[0], z[1], z[2], 2 * m.Config.LatentChannels}}
	need.Add("encode", "autoencoder: posterior", 1, posterior.Bytes())
	return need, m.count(need, encodeJob(in, posterior, EncodeOptions{Tiling: t}))
}

// DecodeNeed returns the device memory at the peak of Decode with the decoder loaded, to the byte, without the latents,
// which are the caller's. float is DecodeOptions.Float.
func (m Model) DecodeNeed(s Size, t Tiling, float bool) (*load.Need, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s.Frames = t.planFrames(s.Frames)
	return m.decodeNeed(s, t, float)
}

// planFrames returns how many of so many frames must be planned: tiles in time follow each other, each needs what the one
// before it did, and only the end can differ.
func (t Tiling) planFrames(frames int) int {
	if least := t.Frames + 2*t.FrameStride; t.Frames > 0 && frames > least {
		return least + (frames-least)%t.FrameStride
	}
	return frames
}

func (m Model) decodeNeed(s Size, t Tiling, float bool) (*load.Need, error) {
	need := &load.Need{Cut: m.Limits.Cut}
	z := s.latents()
	in := engine.Tensor{DType: engine.F32, Shape: []int{z[0], z[1], z[2], m.Config.LatentChannels}}
	return need, m.count(need, decodeJob(in, DecodeOptions{Tiling: t, Float: float}, nil))
}

// count adds a job's weights and activations.
func (m Model) count(need *load.Need, j job) error {
	if err := checkConfig(m.Config); err != nil {
		return err
	}
	var r load.Reader = load.Synthetic(m.Stored)
	if m.Precision == load.Mixed {
		r = halfWeights{r}
	}
	g, err := j.part.group(m.Config, r, m.Precision, m.Limits)
	if err != nil {
		return err
	}
	n, err := plan(j, g.Bind(memory.Region{}), m.Config, m.Precision, m.Limits)
	if err != nil {
		return err
	}
	need.AddResident(j.part.label(), g)
	for _, p := range []*pool{n.pool, n.kept} {
		for _, size := range p.high {
			need.Add(j.part.verb(), j.part.slabLabel(), 1, size)
		}
	}
	return nil
}

// FitTiling returns the first of the reference's tilings for frames of this size, from the one that it chooses when
// memory is plenty to ever smaller tiles, whose decoding takes at most budget bytes on the device, weights included. An
// error says what the smallest tiles take.
//
// It is not the reference's choice (ChooseTiling), which has another implementation in mind: this one takes a third of
// the memory in Mixed and two thirds in Float32, so that the same card decodes in larger tiles.
func (m Model) FitTiling(s Size, budget int64) (Tiling, error) {
	if err := s.check(); err != nil {
		return Tiling{}, err
	}
	m.Limits.Cut.Budget = budget
	const plenty = 1 << 50
	t := ChooseTiling(s.Height, s.Width, plenty)
	for n := 1.0; ; n++ {
		need, err := m.DecodeNeed(s, t, false)
		if err == nil && need.Bytes() <= budget {
			return t, nil
		}
		next := split(s.Height, s.Width, n)
		for next.area() >= t.area() && n < float64(s.Height*s.Width) {
			n++
			next = split(s.Height, s.Width, n)
		}
		if next.area() >= t.area() {
			if err == nil {
				err = fmt.Errorf("%w: tiles of %d×%d pixels take %s", memory.ErrBudget, t.Height, t.Width, memory.Size(need.Bytes()))
			}
			return t, fmt.Errorf("vae: decoding %d×%d pixels does not fit %s of device memory: %w", s.Height, s.Width, memory.Size(budget), err)
		}
		t = next
	}
}

// SmallestTiling is the last that FitTiling tries.
func SmallestTiling(s Size) Tiling { return split(s.Height, s.Width, float64(s.Height*s.Width)) }

func (t Tiling) area() int { return t.Height * t.Width }

// plan runs a job without a stream and returns its pools, which have sizes then.
func plan(j job, params load.Params, c weights.VAEConfig, p load.Precision, l Limits) (*net, error) {
	n := &net{pool: newPool(l.MaxAllocation), kept: newPool(l.MaxAllocation), params: params, act: activation(p), groups: c.NormNumGroups,
		half: l.Half, matrices: l.Matrices, maxBinding: l.MaxStorageRange}
	return n, j.start(context.Background(), n, c)
}

// do plans a job, takes its memory, runs it and waits for it. It returns the type that activations had in the end: every
// job begins with the narrow one, so that what was done before does not change results.
func (v *VAE) do(ctx context.Context, j job, params load.Params) (engine.DType, error) {
	n, err := plan(j, params, v.config, v.precision, v.limits)
	if err != nil {
		return n.act, err
	}
	defer n.release(v.dev)
	if err := n.bind(v.dev, j.part.slabLabel()); err != nil {
		return n.act, fmt.Errorf("vae: %w", err)
	}
	if n.back, err = v.dev.NewFetch(min(n.hostBytes, maxReadback), j.part.label()+": results"); err != nil {
		return n.act, fmt.Errorf("vae: %w", err)
	}
	defer n.back.Free()
	n.stream = v.dev.Compute()
	if err := j.start(ctx, n, v.config); err != nil {
		return n.act, err
	}
	return n.act, n.stream.Finish(ctx)
}

// maxReadback is the most pinned memory for results, bytes: what is more than that is brought to the host in pieces.
const maxReadback = 64 << 20

// bind takes the memory that was planned.
func (n *net) bind(d *engine.Device, label string) error {
	if err := n.pool.bind(d, label); err != nil {
		return err
	}
	return n.kept.bind(d, label)
}

func (n *net) release(d *engine.Device) {
	n.pool.release(d)
	n.kept.release(d)
}

// start runs the job on a net.
func (j job) start(ctx context.Context, n *net, c weights.VAEConfig) error {
	j.net, j.planned = n, map[[3]int]bool{}
	if j.part == encoderPart {
		j.layers = n.encoder(c)
	} else {
		j.layers = n.decoder(c)
	}
	return j.run(ctx)
}
