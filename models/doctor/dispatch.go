package doctor

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// watchdog is after how many seconds Windows resets a driver whose work does not end; drivers of other systems have
// limits of this order.
const watchdog = 2.0

// safeToRun is how many seconds a dispatch may take by the estimate from smaller ones to be run at its full size.
const safeToRun = 0.75

// examineDispatches measures the longest dispatch that each costly operation would record on this device.
func examineDispatches(ctx context.Context, o Options, f *Findings) {
	r := Result{Status: OK}
	kind := ""
	clock := left{time.Now(), o.Measure}
	o.onDevice(ctx, f, &r, func(e *engine.Options) { e.Timings = true }, func(d *engine.Device) error {
		kind = d.Summary.Physical.Info.Kind
		all := loads(d.Caps())
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ahead := make([]*engine.Compiling, len(all))
		for n, l := range all {
			ahead[n] = newBench(ctx, d, o).rehearse(l.rehearsal)
		}
		for n, l := range all {
			b := newBench(ctx, d, o)
			b.await(ahead[n])
			found, err := Dispatch{}, b.err
			if err == nil && !clock.over(r.Compiling+b.compiling) {
				found, err = b.longest(l, o.Quick)
			}
			r.Compiling += b.compiling
			if ranOut(ctx, err) || err == nil && found.Kernel == "" {
				r.skipLoads(all[n:])
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.kernel, err)
			}
			r.Dispatch = append(r.Dispatch, found)
			part := r
			describeDispatches(&part, kind)
			o.tell(f, part)
		}
		return nil
	})
	if r.Status == OK {
		describeDispatches(&r, kind)
	}
	f.Results = append(f.Results, r)
}

// skipLoads notes that no time was left for some.
func (r *Result) skipLoads(loads []load) {
	for _, l := range loads {
		r.Skipped = append(r.Skipped, l.kernel)
	}
}

// rehearsal records a load's work at its least and its largest cost.
func (l load) rehearsal(b *bench) func(s *engine.Stream) {
	return func(s *engine.Stream) {
		most := l.mostCost(b.dev.Caps())
		for _, cost := range []float64{most / leastPart, most} {
			record, _ := l.prepare(b, cost)
			record(s)
		}
	}
}

// load is an operation whose cost can be chosen: prepare makes one of about so many floating-point operations ready, and
// says how many it has.
type load struct {
	kernel  string
	prepare func(b *bench, cost float64) (record func(s *engine.Stream), exact float64)
	most    float64 // operations of a dispatch; 0: engine.Caps.MaxDispatchCost
}

func (l load) mostCost(c engine.Caps) float64 {
	if l.most > 0 {
		return l.most
	}
	return c.MaxDispatchCost
}

func loads(c engine.Caps) []load {
	const dim = 2048
	heads, most := 1, 0.0
	if fragments(c) { // as runs compute attention
		heads, most = 8, ops.FragmentDispatchCost(c)
	}
	return []load{
		{kernel: linearLayer, prepare: func(b *bench, cost float64) (func(*engine.Stream), float64) {
			rows := max(int(cost/(2*dim*dim))&^63, 64) // more than matmul_gemv takes, and whole tiles
			x, w, y := b.noise(engine.BF16, 1, rows, dim), b.noise(engine.BF16, 1, dim, dim), b.tensor(engine.BF16, rows, dim)
			return func(s *engine.Stream) {
				ops.Matmul(s, ops.MatmulArgs{X: x.Tensor, W: w.Tensor, Y: y, Half: half(c)})
			}, 2 * float64(rows) * dim * dim
		}},
		{kernel: "attention", most: most, prepare: func(b *bench, cost float64) (func(*engine.Stream), float64) {
			tokens := max(int(math.Sqrt(cost/float64(4*128*heads)))&^63, 64)
			var in [3]engine.Tensor
			for k := range in {
				in[k] = b.noise(engine.BF16, 1, heads, tokens, 128).Tensor // packed anew each time, which is noise too
			}
			out, scratch := b.tensor(engine.BF16, tokens, heads, 128), b.tensor(engine.U32, ops.AttentionScratch(heads, heads))
			return func(s *engine.Stream) {
				ops.Attention(s, ops.AttentionArgs{Q: in[0], K: in[1], V: in[2], Out: out, Half: half(c), Scratch: scratch, Consume: fragments(c)})
			}, float64(4*128*heads) * float64(tokens) * float64(tokens)
		}},
		{kernel: "convolution", prepare: func(b *bench, cost float64) (func(*engine.Stream), float64) {
			const ch, width = 256, 128
			rows := max(int(cost/(2*27*ch*ch*width)), 1)
			x, w, y := b.noise(engine.F16, 1, 1, rows, width, ch), b.noise(engine.F16, 1, ch, 3, 3, 3, ch), b.tensor(engine.F16, 1, rows, width, ch)
			return func(s *engine.Stream) {
				ops.Conv3D(s, ops.Conv3DArgs{X: x.Tensor, W: w.Tensor, Y: y, Half: half(c)})
			}, 2 * 27 * ch * ch * width * float64(rows)
		}},
	}
}

// leastPart is what part of the largest cost is measured first.
const leastPart = 4096

// longest measures the most costly dispatch of a load, or works it out from a smaller one where it might take too long or
// too much memory. It starts small and grows eightfold.
func (b *bench) longest(l load, quick bool) (Dispatch, error) {
	most := l.mostCost(b.dev.Caps())
	step := Dispatch{Kernel: l.kernel}
	for cost := most / leastPart; ; cost = min(8*cost, most) {
		record, exact := l.prepare(b, cost)
		start := time.Now()
		first := b.run(record)
		if late := time.Since(start) - time.Duration(first*1e9); late > compilesLate {
			b.compiling += late
		}
		seconds, done := b.worstSpan(record)
		b.reset()
		if b.err != nil {
			return step, b.err
		}
		step.Cost, step.Seconds = min(exact, most), seconds
		if cost >= most {
			step.Measured = done
			return step, nil
		}
		next := seconds * min(8*cost, most) / exact
		if next > safeToRun || quick && next > quickTime || !b.fits(64<<20+int64(8*cost/2048)) {
			step.Cost, step.Seconds = most, seconds*most/exact
			return step, nil
		}
	}
}

// worstSpan runs work and returns the time of its longest dispatch; false where only the whole could be timed.
func (b *bench) worstSpan(record func(s *engine.Stream)) (seconds float64, single bool) {
	if b.err != nil {
		return 0, false
	}
	s := b.dev.Compute()
	s.TakeSpans()
	record(s)
	if b.err = s.Finish(b.ctx); b.err != nil {
		return 0, false
	}
	for _, span := range s.TakeSpans() {
		seconds, single = max(seconds, (span.End-span.Start)/1e9), true
	}
	if !single {
		seconds = b.run(record)
	}
	return seconds, single
}

func describeDispatches(r *Result, kind string) {
	var worst Dispatch
	for _, d := range r.Dispatch {
		if d.Seconds > worst.Seconds {
			worst = d
		}
	}
	if len(r.Skipped) > 0 {
		defer func() { r.Summary = joined(r.Summary, "no time was left for "+strings.Join(r.Skipped, ", ")) }()
	}
	how := "takes"
	if !worst.Measured {
		how = "would take"
	}
	if len(r.Dispatch) == 0 {
		r.Status, r.Summary = NotAvailable, "no time was left for it"
		return
	}
	r.Summary = fmt.Sprintf("the longest (%s, %.2g operations) %s %s", worst.Kernel, worst.Cost, how, seconds(worst.Seconds))
	if kind == "cpu" {
		r.Summary += "; a driver for the CPU has no watchdog"
		return
	}
	r.Summary += fmt.Sprintf(", a watchdog bites after %g s", watchdog)
	switch {
	case worst.Seconds > watchdog:
		r.Status = Failed
		r.advise("This device is too slow for the way work is cut: Windows would reset the driver. Raise TdrDelay, and please report the device.")
	case worst.Seconds > watchdog/2:
		r.Status = Warning
		r.advise("There is little left to the watchdog: close other programs that use the GPU, or raise Windows' TdrDelay.")
	}
}

// seconds prints a time with three digits.
func seconds(s float64) string {
	switch {
	case s >= 1:
		return fmt.Sprintf("%.2f s", s)
	case s >= 1e-3:
		return three(s*1e3) + " ms"
	}
	return three(s*1e6) + " µs"
}
