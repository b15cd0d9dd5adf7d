package doctor

import (
	"context"
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/memory"
)

// bench is what the examinations of kernels share: a device, tensors, seeded numbers. Its error is sticky.
type bench struct {
	ctx   context.Context
	dev   *engine.Device
	arena *engine.Arena
	rng   *rand.Rand
	spoil func(kernel string, values []float32)
	err   error

	// rehearsing: tensors have no memory of their own and hold nothing, for calls that are only noted (rehearse).
	rehearsing engine.Tensor
	compiling  time.Duration // what compiling kernels has taken so far
}

func newBench(ctx context.Context, d *engine.Device, o Options) *bench {
	return &bench{ctx: ctx, dev: d, arena: d.NewArena("doctor"), rng: rand.New(rand.NewPCG(20, 25)), spoil: o.spoil}
}

// rehearse begins to compile the kernels that work on such tensors as prepare makes needs, ahead of it.
func (b *bench) rehearse(prepare func(b *bench) (work func(s *engine.Stream))) *engine.Compiling {
	r := &bench{ctx: b.ctx, dev: b.dev, rng: b.rng, err: b.err, rehearsing: b.dev.Unused()}
	return b.dev.Compile(b.ctx, func(s *engine.Stream) {
		if work := prepare(r); r.err == nil {
			work(s)
		}
	})
}

// await waits for kernels that are being compiled, and counts the time.
func (b *bench) await(c *engine.Compiling) {
	if b.err != nil {
		return
	}
	start := time.Now()
	b.err = c.Wait(b.ctx)
	b.compiling += time.Since(start)
}

// isRehearsal says that tensors hold nothing.
func (b *bench) isRehearsal() bool { return !b.rehearsing.IsZero() }

// data is a tensor and what it holds: a block of numbers, repeated from the start.
type data struct {
	engine.Tensor
	block []float64
}

// blockElems is the length of a block. It is a prime, so that rows and columns of a tensor are not repeated with it.
const blockElems = 1<<20 - 3

// at returns element i.
func (d data) at(i int64) float64 { return d.block[i%int64(len(d.block))] }

// part returns elements [from, from+n).
func (d data) part(from int64, n int) []float64 {
	out := make([]float64, n)
	for k := range out {
		out[k] = d.at(from + int64(k))
	}
	return out
}

// noise makes a tensor of normal numbers, rounded to what its type holds.
func (b *bench) noise(dt engine.DType, deviation float64, shape ...int) data {
	d := data{Tensor: b.tensor(dt, shape...)}
	if b.err != nil || b.isRehearsal() {
		return d
	}
	values := make([]float32, min(d.Elems(), blockElems))
	d.block = make([]float64, len(values))
	for i := range values {
		values[i] = rounded(dt, float32(b.rng.NormFloat64()*deviation))
		d.block[i] = float64(values[i])
	}
	if b.err = b.dev.UploadF32(b.ctx, d.View(0, len(values)), values); b.err == nil {
		b.repeat(d)
	}
	return d
}

// bytes makes a tensor of signed bytes, all as likely as each other.
func (b *bench) bytes(shape ...int) data {
	d := data{Tensor: b.tensor(engine.I8, shape...)}
	if b.err != nil || b.isRehearsal() {
		return d
	}
	raw := make([]byte, min(d.Elems(), blockElems))
	d.block = make([]float64, len(raw))
	for i := range raw {
		v := b.rng.IntN(255) - 127
		raw[i], d.block[i] = byte(int8(v)), float64(v)
	}
	if b.err = b.dev.Upload(b.ctx, d.View(0, len(raw)), raw); b.err == nil {
		b.repeat(d)
	}
	return d
}

// repeat fills a tensor whose first block is there.
func (b *bench) repeat(d data) {
	n := int64(len(d.block))
	for at := n; at < d.Elems(); at += n { // whole blocks, so that each is one copy of many
		part := min(n, d.Elems()-at)
		b.dev.Compute().Copy(d.View(at, int(part)), d.View(0, int(part)))
	}
}

func rounded(dt engine.DType, v float32) float32 {
	switch dt {
	case engine.BF16:
		return numeric.RoundBF16(v)
	case engine.F16:
		return numeric.RoundF16(v)
	}
	return v
}

// tensor takes device memory that is given back with the arena.
func (b *bench) tensor(dt engine.DType, shape ...int) engine.Tensor {
	if b.err != nil {
		return engine.Tensor{}
	}
	if b.isRehearsal() {
		t := engine.Tensor{Mem: b.rehearsing.Mem, DType: dt, Shape: shape}
		t.Mem.Size = t.Bytes()
		return t
	}
	t := b.arena.Alloc("operand", dt, shape...)
	b.err = b.arena.Err()
	return t
}

// reader returns a function like read for one tensor, which brings all of it at once where all of it will be asked for.
func (b *bench) reader(kernel string, t engine.Tensor, whole bool) func(from int64, n int) []float64 {
	if !whole {
		return func(from int64, n int) []float64 { return b.read(kernel, t, from, n) }
	}
	all := b.read(kernel, t, 0, int(t.Elems()))
	return func(from int64, n int) []float64 {
		if b.err != nil {
			return nil
		}
		return all[from : from+int64(n)]
	}
}

// read returns elements [from, from+n) of an F32 tensor.
func (b *bench) read(kernel string, t engine.Tensor, from int64, n int) []float64 {
	if b.err != nil {
		return nil
	}
	values, err := b.dev.DownloadF32(b.ctx, t.View(from, n))
	if err != nil {
		b.err = err
		return nil
	}
	if b.spoil != nil {
		b.spoil(kernel, values)
	}
	out := make([]float64, n)
	for k, v := range values {
		out[k] = float64(v)
	}
	return out
}

// reset gives all tensors back.
func (b *bench) reset() {
	b.arena.Release()
	if err := b.dev.Settle(); b.err == nil {
		b.err = err
	}
}

// fits tells whether tensors of so many bytes together leave room on the device.
func (b *bench) fits(bytes int64) bool {
	_, left := b.dev.Mem.Budget(memory.Device)
	return bytes < left*4/10
}

// run records work, waits for it and returns its seconds on the device's clock, from the first dispatch to the last, or
// on the host's where the device has no timestamps.
func (b *bench) run(record func(s *engine.Stream)) float64 {
	if b.err != nil {
		return 0
	}
	s := b.dev.Compute()
	if b.err = s.Finish(b.ctx); b.err != nil { // what was before is not measured
		return 0
	}
	s.TakeSpans()
	start := time.Now()
	record(s)
	if b.err = s.Finish(b.ctx); b.err != nil {
		return 0
	}
	host := time.Since(start).Seconds()
	if span := extent(s.TakeSpans()); span > 0 {
		return span
	}
	return host
}

// extent is the seconds from the first start to the last end.
func extent(spans []engine.Span) float64 {
	if len(spans) == 0 {
		return 0
	}
	first, last := spans[0].Start, spans[0].End
	for _, s := range spans {
		first, last = min(first, s.Start), max(last, s.End)
	}
	return (last - first) / 1e9
}

// compilesLate is how much longer than on the device a first run takes when kernels were compiled for it.
const compilesLate = 50 * time.Millisecond

// median times work: once to warm up, then again until there are five times or no time is left, of which it returns the
// median.
func (b *bench) median(limit float64, record func(s *engine.Stream)) float64 {
	start := time.Now()
	first := b.run(record) // with compiling, where the driver does that with the first dispatch
	if warm := time.Since(start) - time.Duration(first*1e9); warm > compilesLate {
		b.compiling += warm
	}
	var times []float64
	for spent := 0.0; len(times) < 5 && (len(times) == 0 || spent < limit); {
		t := b.run(record)
		if b.err != nil {
			return first
		}
		times = append(times, t)
		spent += t
	}
	sort.Float64s(times)
	return times[len(times)/2]
}

// distance sums up how far numbers are from a reference.
type distance struct {
	diff, norm float64
	count      int
}

// add compares numbers.
func (d *distance) add(got, want []float64) {
	for k, w := range want {
		d.diff += (got[k] - w) * (got[k] - w) // NaN stays NaN, infinity becomes one of the two
		d.norm += w * w
	}
	d.count += len(want)
}

// relative is ‖got − want‖₂ / ‖want‖₂, NaN for nothing compared.
func (d *distance) relative() float64 {
	if d.count == 0 {
		return math.NaN()
	}
	return math.Sqrt(d.diff / d.norm)
}
