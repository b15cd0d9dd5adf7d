package kandinsky5

import (
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Rates are the speeds that a prediction is made for.
type Rates struct {
	Compute float64 `json:"flops"`                // floating-point operations a second while blocks are computed
	Bus     float64 `json:"bus_bytes_per_second"` // from pinned memory to the device
	Shared  bool    `json:"shared_queue"`         // copies and kernels take turns
}

// Else returns the rates with those of others where they are zero.
func (r Rates) Else(others Rates) Rates {
	out := others
	if r.Compute > 0 {
		out.Compute = r.Compute
	}
	if r.Bus > 0 {
		out.Bus = r.Bus
	}
	return out
}

// Prediction says how long a plan takes at some rates. Only denoising is predicted, by far the longest stage of a clip.
type Prediction struct {
	Rates   Rates         `json:"rates"`
	Step    time.Duration `json:"step_ns"`
	Waiting time.Duration `json:"waiting_ns"` // of a step, for copies of blocks
	Denoise time.Duration `json:"denoise_ns"` // all steps that are to be made
}

// Predict works out the time from the matrix products of a step and from its copies, block by block. Attention that NABLA
// leaves out is counted, so rates that were measured with it hold for it only. Passes that MagCache skips are counted.
func (m *MemoryPlan) Predict(r Rates) Prediction {
	blocks := max(m.Swap.Blocks, 1)
	block := time.Duration(m.StepWork / float64(blocks) / r.Compute * 1e9)
	p := Prediction{Rates: r, Waiting: m.Swap.Waiting(block, time.Duration(float64(m.BlockBytes)/r.Bus*1e9), r.Shared)}
	p.Step = time.Duration(blocks)*block + p.Waiting
	p.Denoise = time.Duration(m.StepsToMake()) * p.Step
	return p
}

// StepsToMake is how many steps the run makes: without those before a state that it goes on from, and up to StopAfter.
func (m *MemoryPlan) StepsToMake() int {
	end, begin := m.Settings.Steps, 0
	if m.StopAfter > 0 {
		end = min(end, m.StopAfter)
	}
	if s := m.Settings.resume; s != nil {
		begin = s.Step
	}
	return max(0, end-begin)
}

// stepWork is the matrix products of a step, of all branches.
func stepWork(c *configs.Config, s Settings, textRows int) float64 {
	return float64(len(s.texts())) * WorkOf(&c.Model.DiT, s.Geometry.Tokens, textRows).Total()
}

// RateKey names the kind of work that a measured rate of computing holds for.
func RateKey(c *configs.Config, o Options, tier engine.Tier) string {
	key := o.Precision.String() + " " + tier.String()
	if o.Linear != load.LinearFull {
		key += " " + o.Linear.String()
	}
	if o.Attention != load.AttentionOwn {
		key += " " + o.Attention.String()
	}
	switch o.HostWeights {
	case load.Int8Weights:
		key += " unpacking"
	case load.CodedWeights:
		key += " decoding"
	}
	if DiTConfig(c).Nabla != nil {
		key += " nabla"
	}
	return key
}

// MeasuredRate returns the operations a second of the blocks of a run, 0 where it was not timed.
func (m *MemoryPlan) MeasuredRate(timing *swap.Timing) float64 {
	if timing == nil || timing.Compute <= 0 || m.Swap.Blocks == 0 {
		return 0
	}
	passes := float64(timing.Blocks) / float64(m.Swap.Blocks)
	return passes * m.StepWork / timing.Compute.Seconds()
}
