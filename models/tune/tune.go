// Package tune finds, by measuring, the fastest way to compute each operation of a model on a device, and keeps what it
// finds (engine.Tuning).
//
// It runs one forward pass of a transformer with one block of each kind and weights that are made up. Every operation
// that has several ways (tiles) is offered to it with its real operands at its real shape before it is recorded; it
// records it in each way, times it on the device's clock, and puts the fastest in force.
//
// What the package refuses to do: choose a way for a gain within the measurement's noise, and change what is computed.
// Linear layers and attention have several ways, all else has one. Those of linear layers give the same bits, those of
// attention differ by the rounding of sums in another order.
package tune

import (
	"context"
	"errors"
	"fmt"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Options say for which work to tune.
type Options struct {
	Config    *configs.Config
	Geometry  configs.Geometry
	Precision load.Precision
	Linear    load.Linear
	Quick     bool // fewer repetitions, and only operations in which much time goes
	// Progress, if set, is told each operation that is measured.
	Progress func(kernel, shape string)
}

// Report is what was measured.
type Report struct {
	Device  string   `json:"device"`
	Driver  string   `json:"driver"`
	Kernels string   `json:"kernels"`
	Config  string   `json:"config"`
	Tokens  int      `json:"tokens"`
	File    string   `json:"file"` // where choices are kept, "" nowhere
	Results []Result `json:"results"`
}

// Result is one operation on one shape.
type Result struct {
	Kernel  string    `json:"kernel"`
	Shape   string    `json:"shape"`
	Cost    float64   `json:"operations"`
	Ways    []Measure `json:"ways"`
	Default string    `json:"default"`
	Choice  string    `json:"choice"` // the default where none is clearly faster
	Speedup float64   `json:"speedup"`
}

// Measure is one way, timed.
type Measure struct {
	Way     string  `json:"way"`
	Seconds float64 `json:"seconds"`
	TFLOPS  float64 `json:"tflops"`
	Stopped bool    `json:"stopped,omitempty"` // after one run, being far slower than another
}

// Run measures on a device that was opened with Timings, and saves what it found.
func Run(ctx context.Context, d *engine.Device, o Options) (*Report, error) {
	info := d.Summary.Physical.Info
	e := &explorer{ctx: ctx, o: o, device: d, seen: map[string]bool{}, report: &Report{
		Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Kernels: d.Caps().Tier.String(), Config: o.Config.Name,
		Tokens: o.Geometry.Tokens, File: d.Tuning().File(), Results: []Result{},
	}}
	d.Tuning().Explore(e.explore)
	_, err := bench.Run(ctx, d, bench.Options{Config: oneBlock(o.Config), Geometry: o.Geometry, Weights: load.Synthetic(weights.BF16), Precision: o.Precision, Linear: o.Linear, Passes: 1})
	d.Tuning().Explore(nil)
	if err := errors.Join(e.err, err); err != nil {
		return nil, fmt.Errorf("tune: %w", err)
	}
	return e.report, d.SaveTuning()
}

// oneBlock is a configuration with one block of each kind: blocks of a kind are alike.
func oneBlock(c *configs.Config) *configs.Config {
	one := *c
	one.Model.DiT.NumVisualBlocks = min(1, one.Model.DiT.NumVisualBlocks)
	one.Model.DiT.NumTextBlocks = min(1, one.Model.DiT.NumTextBlocks)
	one.BlockSwap = configs.BlockSwap{}
	return &one
}
