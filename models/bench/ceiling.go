package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// Ceiling is what a unit of the device gives at most, measured by a loop that computes in registers alone.
type Ceiling struct {
	Unit      string  `json:"unit"`
	PerSecond float64 `json:"operations_per_second"`
}

// ceilingGroups is how many workgroups run: several for every multiprocessor of the largest devices. Drivers that run on
// the CPU get fewer.
const (
	ceilingGroups      = 4096
	ceilingGroupsOnCPU = 64
)

// Ceilings measures the units that the device's kernels use, each for about least.
func Ceilings(ctx context.Context, d *engine.Device, least time.Duration) ([]Ceiling, error) {
	groups := ceilingGroups
	if d.Summary.Physical.Info.Kind == "cpu" {
		groups = ceilingGroupsOnCPU
	}
	var out []Ceiling
	for _, kind := range ops.Ceilings(d.Caps()) {
		rate, err := ceiling(ctx, d, ops.Ceiling{Kind: kind, Groups: groups, Rounds: 32}, least)
		if err != nil {
			return nil, fmt.Errorf("ceiling of %v: %w", kind, err)
		}
		out = append(out, Ceiling{kind.String(), rate})
	}
	return out, nil
}

func ceiling(ctx context.Context, d *engine.Device, c ops.Ceiling, least time.Duration) (float64, error) {
	caps := d.Caps()
	out, err := d.Alloc("sums of a ceiling", engine.F32, c.Invocations(caps))
	if err != nil {
		return 0, err
	}
	defer d.Free(out)
	t := timer{d, least}
	work := func(s *engine.Stream) { c.Record(s, out) }
	// Long dispatches keep what starts and ends one out of the rate.
	took, err := t.time(ctx, work)
	if err != nil {
		return 0, err
	}
	const dispatch = 20 * time.Millisecond
	if took < dispatch {
		c.Rounds = min(1<<18, int(float64(c.Rounds)*float64(dispatch)/float64(max(took, time.Microsecond))))
		if took, err = t.time(ctx, work); err != nil {
			return 0, err
		}
	}
	got, err := d.DownloadF32(ctx, out.View(0, 1))
	if err != nil {
		return 0, err
	}
	if want := c.Want(caps); !(math.Abs(float64(got[0]-want)) <= 1e-3*float64(want)) {
		return 0, fmt.Errorf("the sums are %g, want %g: the device computes wrongly", got[0], want)
	}
	return c.Operations(caps) / took.Seconds(), nil
}

// ceilingFor names the unit that multiplies operands of a precision, and its rate: matrices in the operands' type where the
// device's kernels have them, else fp32 multiply-adds.
func ceilingFor(list []Ceiling, p load.Precision, l load.Linear) Ceiling {
	best := Ceiling{}
	for _, c := range list {
		matrices, bytes := c.Unit != ops.CeilingFMA.String(), c.Unit == ops.CeilingI8.String()
		if matrices && (p == load.Float32 || bytes != (l == load.LinearInt8)) {
			continue
		}
		if best.Unit == "" || matrices && best.Unit == ops.CeilingFMA.String() {
			best = c
		}
	}
	return best
}
