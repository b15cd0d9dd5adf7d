package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Options say what to measure.
type Options struct {
	Config    *configs.Config
	Geometry  configs.Geometry
	Weights   load.Reader // load.Synthetic, or a checkpoint's
	Precision load.Precision
	Linear    load.Linear
	Swap      dit.SwapOptions // of the visual blocks
	Guided    bool            // two branches per pass
	Passes    int             // at least 1
	// Files are read once before anything else, to compare the start with that; none: it is not compared.
	Files []string
	// Progress, if set, is told when the weights are loaded (0) and after each pass.
	Progress func(done, total int)
}

// Report is what was measured. Times are in nanoseconds, sizes in bytes.
type Report struct {
	Device     string        `json:"device"`
	Driver     string        `json:"driver"`
	Kernels    string        `json:"kernels"`
	Config     string        `json:"config"`
	Precision  string        `json:"precision"`
	Linear     string        `json:"linear"`
	Size       configs.Size  `json:"size"`
	Seconds    int           `json:"seconds"`
	Tokens     int           `json:"tokens"`
	TextTokens int           `json:"text_tokens"`
	Branches   int           `json:"branches"`
	Plan       swap.Plan     `json:"plan"`
	PlanText   string        `json:"plan_text"`
	HostTier   swap.HostTier `json:"host_tier"`
	// HostWeights is the type in which blocks wait and cross the bus.
	HostWeights load.HostWeights `json:"host_weights"`
	BlockBytes  int64            `json:"block_bytes"` // that cross the bus, the mean
	SlotBytes   int64            `json:"slot_bytes"`  // set aside for each
	LoadTime    time.Duration    `json:"load_ns"`
	TextTime    time.Duration    `json:"text_ns"` // reading the text blocks and taking the prompts through them
	// ReadOnce is what reading the checkpoint's files once took before all that, StartRatio LoadTime and TextTime by it.
	ReadOnce      time.Duration `json:"read_once_ns,omitempty"`
	StartRatio    float64       `json:"start_by_read_once,omitempty"`
	Work          Work          `json:"work_of_a_branch"`
	SparseCounted bool          `json:"attention_counted_as_full"` // the model attends sparsely: the rate is of full attention's work

	Passes []Pass `json:"passes"`

	PeakDevice   int64         `json:"peak_device_bytes"`
	PeakPinned   int64         `json:"peak_pinned_bytes"`
	BytesPerPass int64         `json:"bytes_per_pass"` // over the bus
	CopyRate     float64       `json:"copy_bytes_per_second"`
	Swap         swap.Counters `json:"swap"`
	// Rounding is how far weights are from what they were, with Options.Linear.
	Rounding *load.RoundingReport `json:"rounding,omitempty"`
	Timing   swap.Timing          `json:"timing"`  // of the passes but for the first, where there are more
	Verdict  swap.Verdict         `json:"verdict"` // of the same
	// Disorder counts uses and copies in an order that cannot be: see swap.Intervals.
	Disorder int        `json:"impossible_orders"`
	Trace    swap.Trace `json:"-"`
}

// Pass is one forward pass.
type Pass struct {
	Time       time.Duration `json:"ns"`
	DeviceTime time.Duration `json:"device_ns"` // from the first kernel's start to the last one's end; 0 without timings
	RecordTime time.Duration `json:"record_ns"` // host time spent recording and submitting
	TFLOPS     float64       `json:"tflops"`    // operations of all branches in the pass's time, in 10¹² a second
	Dispatches int64         `json:"dispatches"`
	Barriers   int64         `json:"barriers"`
	Submits    int64         `json:"submits"`
	Kernels    []Kernel      `json:"kernels"` // most time first
}

// Run loads the transformer and measures passes. Nothing stays allocated.
func Run(ctx context.Context, d *engine.Device, o Options) (_ *Report, err error) {
	if o.Passes < 1 {
		return nil, fmt.Errorf("%d passes: at least 1 is needed", o.Passes)
	}
	r := newReport(d, o)
	if r.ReadOnce, err = readOnce(ctx, o.Files); err != nil {
		return nil, err
	}
	d.Mem.ResetPeak()
	start := time.Now()
	m, err := dit.New(ctx, d, o.Weights, kandinsky5.DiTConfig(o.Config), dit.Options{Precision: o.Precision, Linear: o.Linear, Visual: o.Swap})
	if err != nil {
		return nil, err
	}
	r.LoadTime = time.Since(start)
	o.progress(0)
	if r.clock, err = d.Clock(ctx); err == nil {
		r.timed = true
	} else if !errors.Is(err, engine.ErrNoTimestamps) {
		return nil, errors.Join(err, m.Close())
	}
	if o.Linear == load.LinearInt8 {
		rounding := m.Rounding()
		r.Rounding = &rounding
	}
	err = r.passes(ctx, d, m, o)
	r.Swap, r.Plan = m.Counters()
	r.SlotBytes = m.BlockBytes()
	if err := errors.Join(err, m.Close()); err != nil {
		return nil, err
	}
	r.finish(d, m.TakeCopies())
	return r.Report, nil
}

// readOnce reads files from beginning to end, as cat does: the yardstick for a start, and what brings them into the page
// cache. It returns 0 for none.
func readOnce(ctx context.Context, files []string) (time.Duration, error) {
	if len(files) == 0 {
		return 0, nil
	}
	start := time.Now()
	buffer := make([]byte, 1<<20)
	for _, path := range files {
		if err := readFile(ctx, path, buffer); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

func readFile(ctx context.Context, path string, buffer []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.Read(buffer); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (o Options) progress(done int) {
	if o.Progress != nil {
		o.Progress(done, o.Passes)
	}
}

// times are those of the passes.
func (o Options) times() []float32 {
	out := make([]float32, o.Passes)
	for n := range out {
		out[n] = 1000 * (1 - float32(n)/float32(o.Passes))
	}
	return out
}

func (o Options) branches() int {
	if o.Guided {
		return 2
	}
	return 1
}

// measured is a report with what is needed until it is finished.
type measured struct {
	*Report
	clock  engine.Clock
	timed  bool
	second float64 // when the second pass began, on the device's clock; 0 where there is none
}

func newReport(d *engine.Device, o Options) *measured {
	info := d.Summary.Physical.Info
	text := o.Config.Model.Qwen.MaxLength
	tier := o.Swap.Tier
	if tier == "" {
		tier = swap.Pinned
	}
	host := o.Swap.Host
	if host == "" {
		host = load.FullWeights
	}
	return &measured{Report: &Report{
		Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Kernels: d.Caps().Tier.String(), Config: o.Config.Name,
		Precision: o.Precision.String(), Linear: o.Linear.String(), Size: o.Geometry.Size, Seconds: o.Geometry.Seconds, Tokens: o.Geometry.Tokens,
		TextTokens: text, Branches: o.branches(), HostTier: tier, HostWeights: host, Work: WorkOf(&o.Config.Model.DiT, o.Geometry.Tokens, text),
		SparseCounted: o.Config.Model.Attention.Nabla,
	}}
}

// passes makes a pass ready and runs it.
func (r *measured) passes(ctx context.Context, d *engine.Device, m *dit.Model, o Options) error {
	a := d.NewArena("bench inputs")
	defer a.Release()
	rng := rand.New(rand.NewPCG(1, 2))
	var prompts []dit.Prompt
	for range o.branches() {
		p, err := randomPrompt(ctx, d, a, o.Config, rng)
		if err != nil {
			return err
		}
		prompts = append(prompts, p)
	}
	g := o.Geometry
	latents := a.Alloc("latents", engine.F32, g.LatentFrames, g.LatentHeight, g.LatentWidth, o.Config.Model.DiT.InVisualDim)
	if err := a.Err(); err != nil {
		return err
	}
	if err := d.UploadF32(ctx, latents, normal(rng, int(latents.Elems()))); err != nil {
		return err
	}
	size := dit.Size{Frames: g.LatentFrames, Height: g.LatentHeight, Width: g.LatentWidth, RopeScale: kandinsky5.RopeScale(o.Config)}
	start := time.Now()
	pass, err := m.NewPass(ctx, dit.PassOptions{Size: size, Prompts: prompts, Times: o.times()})
	if err != nil {
		return err
	}
	r.TextTime = time.Since(start)
	if r.ReadOnce > 0 {
		r.StartRatio = float64(r.LoadTime+r.TextTime) / float64(r.ReadOnce)
	}
	d.Compute().TakeSpans()
	if r.timed {
		begin := r.clock.At(start)
		r.Trace.Host = append(r.Trace.Host, engine.Span{Label: "text blocks", Start: begin, End: begin + float64(r.TextTime)})
	}
	for n := range o.Passes {
		if err := r.pass(ctx, d, pass, dit.Input{Latents: latents, MaskFrames: 1, Time: o.times()[n]}); err != nil {
			return errors.Join(fmt.Errorf("pass %d of %d: %w", n+1, o.Passes, err), pass.Close())
		}
		o.progress(n + 1)
	}
	return pass.Close()
}

func (r *measured) pass(ctx context.Context, d *engine.Device, pass *dit.Pass, in dit.Input) error {
	s := d.Compute()
	before := s.Counters()
	start := time.Now()
	if _, err := pass.Evaluate(ctx, in, nil); err != nil {
		return err
	}
	if err := s.Finish(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	after := s.Counters()
	spans := s.TakeSpans()
	r.keep(start, took, spans)
	kernels, device := byKernel(spans)
	r.Passes = append(r.Passes, Pass{
		Time: took, DeviceTime: device, RecordTime: after.RecordTime - before.RecordTime,
		TFLOPS:     float64(r.Branches) * r.Work.Total() / took.Seconds() / 1e12,
		Dispatches: after.Dispatches - before.Dispatches, Barriers: after.Barriers - before.Barriers, Submits: after.Submits - before.Submits,
		Kernels: kernels,
	})
	return nil
}

// keep adds a pass to the trace.
func (r *measured) keep(start time.Time, took time.Duration, spans []engine.Span) {
	if !r.timed {
		return
	}
	begin := r.clock.At(start)
	if len(r.Passes) == 1 {
		r.second = begin
	}
	label := fmt.Sprintf("pass %d", len(r.Passes)+1)
	r.Trace.Host = append(r.Trace.Host, engine.Span{Label: label, Start: begin, End: begin + float64(took)})
	r.Trace.Compute = append(r.Trace.Compute, spans...)
}

// finish works out what needs the whole run.
func (r *measured) finish(d *engine.Device, transfer []engine.Span) {
	r.PeakDevice = d.Mem.Peak(memory.Device)
	r.PeakPinned = d.Mem.Peak(memory.Upload) + d.Mem.Peak(memory.Readback)
	r.PlanText = r.Plan.String()
	r.BlockBytes = r.blockBytes()
	r.BytesPerPass = int64(r.Plan.LoadsPerPass()) * r.BlockBytes
	r.Trace.Transfer = transfer
	all := swap.IntervalsOf(r.Trace.Compute, transfer)
	r.Disorder = all.Disorder(r.Plan, time.Millisecond)
	x := all.Since(r.second)
	r.Timing = x.Timing()
	r.Verdict = r.verdictOf(d, x)
	if r.Timing.Copying > 0 {
		r.CopyRate = float64(int64(r.Timing.Copies)*r.BlockBytes) / r.Timing.Copying.Seconds()
	}
}

// blockBytes is the mean size of the blocks that crossed the bus, residents and loads alike.
func (r *measured) blockBytes() int64 {
	residents := int64(r.Plan.Blocks - len(r.Plan.Streamed))
	if n := residents + r.Swap.Loads; n > 0 {
		return r.Swap.Bytes / n
	}
	return 0
}

// randomPrompt makes an encoded prompt of the full length.
func randomPrompt(ctx context.Context, d *engine.Device, a *engine.Arena, c *configs.Config, rng *rand.Rand) (dit.Prompt, error) {
	p := dit.Prompt{
		Text:   a.Alloc("text", engine.F32, c.Model.Qwen.MaxLength, c.Model.DiT.InTextDim),
		Pooled: normal(rng, c.Model.DiT.InTextDim2),
	}
	if err := a.Err(); err != nil {
		return p, err
	}
	return p, d.UploadF32(ctx, p.Text, normal(rng, int(p.Text.Elems())))
}

func normal(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for k := range out {
		out[k] = float32(rng.NormFloat64())
	}
	return out
}
