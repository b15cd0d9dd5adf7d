package bench

import (
	"context"
	"fmt"
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
		best := Ceiling{Unit: kind.String()}
		for _, frags := range ops.CeilingFragments(d.Caps(), kind) {
			rate, err := ceiling(ctx, d, ops.Ceiling{Kind: kind, Groups: groups, Rounds: 32, Frags: frags}, least)
			if err != nil {
				return nil, fmt.Errorf("ceiling of %v: %w", kind, err)
			}
			best.PerSecond = max(best.PerSecond, rate)
		}
		out = append(out, best)
	}
	return out, nil
}

func ceiling(ctx context.Context, d *engine.Device, c ops.Ceiling, least time.Duration) (float64, error) {
	caps := d.Caps()
	operands := c.Operands(caps)
	a := d.NewArena("ceiling")
	defer a.Release()
	out, in := a.Alloc("sums", engine.U32, c.Subgroups(caps)*c.Words(caps)), a.Alloc("operands", engine.U8, len(operands))
	if err := a.Err(); err != nil {
		return 0, err
	}
	if err := d.Upload(ctx, in, operands); err != nil {
		return 0, err
	}
	t := timer{d, least}
	work := func(s *engine.Stream) { c.Record(s, out, in) }
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
	for _, subgroup := range []int{0, c.Subgroups(caps) - 1} {
		words, err := d.DownloadU32(ctx, out.View(int64(subgroup)*int64(c.Words(caps)), c.Words(caps)))
		if err == nil {
			err = c.Check(caps, subgroup, words)
		}
		if err != nil {
			return 0, err
		}
	}
	return c.Operations(caps) / took.Seconds(), nil
}

// halfAndHalf is the ceiling of work whose products are half those of one unit, half those of another, after each other.
func halfAndHalf(a, b Ceiling) Ceiling {
	if a.Unit == b.Unit {
		return a
	}
	return Ceiling{Unit: a.Unit + " and " + b.Unit + ", half of the products each", PerSecond: 2 / (1/a.PerSecond + 1/b.PerSecond)}
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
