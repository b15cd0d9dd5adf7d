package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// trial is a kernel with the sizes at which it is examined. The first is small and compared as a whole; the others grow
// and are compared at samples, because that is where the tiles and cuts of real work are.
type trial struct {
	kernel string
	unit   string // of the rate: "TFLOP/s" for 10¹² operations a second, "GB/s" for 10⁹ bytes
	sizes  []size
	run    func(b *bench, z size) (work func(s *engine.Stream), check func() verdict)
}

// size is what a trial works on; what the numbers mean is the trial's.
type size struct {
	text  string
	dims  [4]int
	work  float64 // in 10¹² operations or 10⁹ bytes, by the trial's unit
	bytes int64   // of device memory
	whole bool    // compare all results
}

// wrongNumbers is the problem of a kernel that misses its limit.
const wrongNumbers = "wrong numbers"

// verdict is how far a kernel was off at one size.
type verdict struct{ err, limit float64 }

// Times in seconds that a kernel is measured for, and that the next larger size may take: less, and caches and clocks
// have not settled.
const (
	fullTime  = 0.25
	quickTime = 0.04
)

// examine runs a trial at growing sizes until one takes long enough to be measured well.
func (b *bench) examine(t trial, quick bool) Kernel {
	k := Kernel{Kernel: t.kernel, Unit: t.unit, Pass: true}
	budget := fullTime
	if quick {
		budget = quickTime
	}
	worst := 0.0
	for n, z := range t.sizes {
		if n > 0 && !b.fits(z.bytes) || b.ctx.Err() != nil && n > 0 {
			break
		}
		work, check := t.run(b, z)
		seconds := b.median(budget, work)
		if b.err == nil {
			k.Shader = b.dev.Main(work)
		}
		v := check()
		b.reset()
		if b.err != nil {
			k.Problem, k.Pass = b.err.Error(), false
			return k
		}
		k.Checks = append(k.Checks, z.text)
		if share := v.err / v.limit; n == 0 || !(share <= worst) {
			worst, k.Error, k.Limit = share, finite(v.err), v.limit
		}
		k.Shape, k.Seconds, k.Rate = z.text, seconds, z.work/max(seconds, 1e-9)
		if n+1 < len(t.sizes) && seconds*t.sizes[n+1].work/z.work > budget {
			break
		}
	}
	if !(worst <= 1) { // so that NaN fails
		k.Pass, k.Problem = false, wrongNumbers
	}
	return k
}

// examineAll runs trials on a device and puts what they found into a result. The kernels of all of them are compiled on all
// cores from the start, while the first are examined already. A lost device ends them, and so does the end of the time.
func (o Options) examineAll(ctx context.Context, f *Findings, r *Result, tier engine.Tier, trials func(engine.Caps) []trial) {
	r.Status = OK
	clock := left{time.Now(), o.Measure}
	o.onDevice(ctx, f, r, func(e *engine.Options) { e.Tier, e.Timings = tier, true }, func(d *engine.Device) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // what is still to be compiled when this ends need not be
		list := trials(d.Caps())
		ahead := make([]*engine.Compiling, len(list))
		for n, t := range list {
			ahead[n] = newBench(ctx, d, o).rehearse(t.rehearsal)
		}
		for n, t := range list {
			if clock.over(r.Compiling) {
				r.skip(list[n:], "the time to measure is used up")
				break
			}
			b := newBench(ctx, d, o)
			b.await(ahead[n])
			var k Kernel
			if b.err == nil {
				k = b.examine(t, o.Quick)
				k.Compiling = b.compiling
			}
			r.Compiling += b.compiling
			if ranOut(ctx, b.err) {
				r.skip(list[n:], "all of the time is used up")
				break
			}
			if b.err != nil {
				r.Kernels = append(r.Kernels, k)
				return fmt.Errorf("%s: %w", t.kernel, b.err)
			}
			r.Kernels = append(r.Kernels, k)
			part := *r
			part.Facts = slices.Clone(r.Facts)
			part.judgeKernels()
			o.tell(f, part)
		}
		return nil
	})
	r.judgeKernels()
}

// rehearsal records a trial's work at all its sizes.
func (t trial) rehearsal(b *bench) func(s *engine.Stream) {
	return func(s *engine.Stream) {
		for _, z := range t.sizes {
			work, _ := t.run(b, z)
			work(s)
		}
	}
}

// skip notes that trials were not carried out, and why.
func (r *Result) skip(trials []trial, why string) {
	for _, t := range trials {
		r.Skipped = append(r.Skipped, t.kernel)
	}
	r.fact("not examined", "%s: %s", strings.Join(r.Skipped, ", "), why)
}

// judgeKernels sums up what was found of kernels.
func (r *Result) judgeKernels() {
	wrong := 0
	for _, k := range r.Kernels {
		if !k.Pass && k.Problem == wrongNumbers {
			wrong++
			r.fact(k.Kernel, "relative error %.2g, limit %.2g", float64(k.Error), k.Limit)
		}
	}
	if r.Compiling > 0 {
		r.fact("compiling", "%s; compiled kernels are kept in the cache folder", brief(r.Compiling))
	}
	switch {
	case wrong > 0:
		r.Status, r.Summary = Failed, fmt.Sprintf("%d of %d kernels compute wrong numbers", wrong, len(r.Kernels))
	case r.Status == OK && len(r.Kernels) == 0:
		r.Status, r.Summary = NotAvailable, "no kernel was examined"
	case r.Status == OK:
		r.Summary = fmt.Sprintf("%d kernels agree with float64: %s", len(r.Kernels), rates(r.Kernels))
	}
	if len(r.Skipped) > 0 {
		r.Summary = joined(r.Summary, "no time was left for "+strings.Join(r.Skipped, ", "))
	}
}

func rates(kernels []Kernel) (text string) {
	for n, k := range kernels {
		if n > 0 {
			text += ", "
		}
		text += k.Kernel + " " + speed(k)
	}
	return text
}

// speed prints a kernel's rate; slow devices' in a smaller unit.
func speed(k Kernel) string {
	if k.Unit == "TFLOP/s" && k.Rate < 0.5 {
		return three(k.Rate*1e3) + " GFLOP/s"
	}
	return three(k.Rate) + " " + k.Unit
}

// three prints a number with three digits.
func three(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// tierKernels examines the kernels that differ from tier to tier.
func tierKernels(ctx context.Context, o Options, tier engine.Tier, f *Findings) {
	r := Result{Tier: tier.String()}
	o.examineAll(ctx, f, &r, tier, tierTrials)
	if r.Status == Failed && !f.Lost && tier != engine.TierBase {
		r.advise("Run with --kernels of a lower tier that passes until the driver is repaired, and report it to the driver's makers.")
	}
	f.Results = append(f.Results, r)
}

// tierTrials are the trials of a tier: the upsampling convolution has a kernel of its own only where matrices multiply it.
func tierTrials(c engine.Caps) []trial {
	trials := []trial{matmulTrial(c), int8Trial(), attentionTrial(c), convTrial(c)}
	if half(c) && ops.ConvByMatrices(c, 64) {
		trials = append(trials, upsamplingTrial(c))
	}
	return trials
}

// everyTier stands for a tier where kernels are the same in all.
const everyTier = "every"

// commonKernels examines kernels that are the same in every tier.
func commonKernels(ctx context.Context, o Options, f *Findings) {
	r := Result{Tier: everyTier}
	o.examineAll(ctx, f, &r, engine.TierAuto, func(engine.Caps) []trial { return []trial{layerNormTrial(), groupNormTrial()} })
	f.Results = append(f.Results, r)
}

// half tells whether a tier multiplies in 16 bits.
func half(c engine.Caps) bool { return c.Tier >= engine.TierFP16 }

// Limits of the relative L2 error of a sum of k products, the operands being exact in what the device multiplies. The
// sum of the first j products of normal numbers has deviation √j, the whole one √k.
//
// base: each addition in fp32 rounds by at most 2⁻²⁴ of the partial sum, and independently: √(Σj)·2⁻²⁴ ≤ k/√2·2⁻²⁴ of
// deviation, so √(k/2)·2⁻²⁴ of the result, doubled for the rounding of products and for chance.
//
// fp16: products and sums of runs of 8 are rounded to 11 bits: an error of 0.2·2⁻¹⁰ of each (root mean square); 8
// products and as many sums, that grow as √j, make √(8 + 36)/√8 times as much of the run: 2⁻¹¹. Vulkan leaves open how
// fp16 rounds; where it truncates, errors are twice as large. 10 % are left for chance.
//
// Matrices round nothing where the operands are 16 bits, but may truncate sums: by 2⁻²⁴ of the sum on average for each of
// k additions, all towards zero.
func productLimit(c engine.Caps, k int) float64 {
	switch {
	case c.Tier >= engine.TierMatrix:
		return max(float64(k)*0x1p-24, baseLimit(k))
	case c.Tier >= engine.TierFP16:
		return 1.1 * 0x1p-10
	}
	return baseLimit(k)
}

func baseLimit(k int) float64 { return 0x1p-23 * sqrt(float64(k)/2) }
