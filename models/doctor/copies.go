package doctor

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/pcie"
	"github.com/vkandinsky/vkandinsky/memory"
)

// A block of the 20B model is 584 MiB, of the 2B models 150 MiB; copies of this size reach the rate of either.
const (
	copyBytes      = 256 << 20
	quickCopyBytes = 64 << 20
	smallCopyBytes = 16 << 20 // for drivers that copy with the CPU
	copyCount      = 4
)

// examineCopies measures copies up and down, alone and while the compute queue works.
func examineCopies(ctx context.Context, o Options, f *Findings) {
	r := Result{Status: OK}
	cpu := false
	o.onDevice(ctx, f, &r, func(e *engine.Options) { e.Timings = true }, func(d *engine.Device) error {
		cpu = d.Summary.Physical.Info.Kind == "cpu"
		c, err := newCopier(ctx, d, o)
		if err != nil {
			return err
		}
		c.tell = func() {
			part := r
			part.Facts, part.Copies = slices.Clone(r.Facts), slices.Clone(r.Copies)
			describeCopies(&part, cpu)
			o.tell(f, part)
		}
		err = c.measure(&r)
		c.close()
		if ranOut(ctx, err) {
			r.Skipped = []string{"copies beside computing"}
			r.fact("beside computing", "not measured: no time was left")
			return nil
		}
		return err
	})
	if r.Status != Failed && len(r.Copies) > 0 {
		describeCopies(&r, cpu)
	}
	f.Results = append(f.Results, r)
}

// copier holds what copies and the computing beside them need.
type copier struct {
	*bench
	stream   *engine.Stream
	up, down memory.Region // host memory
	device   engine.Tensor
	size     int64
	compute  func(s *engine.Stream) // a linear layer
	layer    float64                // seconds that it takes alone
	tell     func()                 // that more is known
}

func newCopier(ctx context.Context, d *engine.Device, o Options) (*copier, error) {
	c := &copier{bench: newBench(ctx, d, o), size: copyBytes}
	if o.Quick {
		c.size = quickCopyBytes
	}
	if d.Summary.Physical.Info.Kind == "cpu" {
		c.size = smallCopyBytes
	}
	if budget, _ := d.Mem.Budget(memory.Device); budget > 0 {
		c.size = min(c.size, budget/8)
	}
	if budget, _ := d.Mem.Budget(memory.Upload); budget > 0 {
		c.size = min(c.size, budget/4)
	}
	c.size = min(c.size, d.Caps().MaxAllocation) &^ 0xffff
	c.device = c.tensor(engine.U8, int(c.size))
	err := c.err
	if err == nil {
		c.stream, err = d.NewCopyStream("doctor copies")
	}
	if err == nil {
		c.up, err = d.AllocRegion(memory.Upload, c.size, "copies up")
	}
	if err == nil {
		c.down, err = d.AllocRegion(memory.Readback, c.size, "copies down")
	}
	if err != nil {
		c.close()
		return nil, err
	}
	for _, host := range [][]byte{c.up.Bytes(), c.down.Bytes()} {
		for at := 0; at < len(host); at += 4096 { // so that every page is there
			host[at] = byte(at >> 12)
		}
	}
	return c, nil
}

func (c *copier) close() {
	if c.stream != nil {
		_ = c.stream.Close() // what went wrong was told by the copies
	}
	c.dev.FreeRegion(c.up)
	c.dev.FreeRegion(c.down)
	c.arena.Release()
}

func (c *copier) measure(r *Result) error {
	for _, direction := range []string{"up", "down"} {
		rate, _ := c.copies(direction, copyCount)
		if c.err != nil {
			return c.err
		}
		r.Copies = append(r.Copies, Copy{Direction: direction, Beside: "nothing", Bytes: c.size, Rate: rate})
	}
	info := c.dev.Summary.Physical.Info
	if link, ok := pcie.Of(info.VendorID, info.DeviceID); ok { // now, while it is awake
		describeLink(r, link)
	}
	if err := c.roundTrip(); err != nil {
		return err
	}
	c.tell()
	if c.dev.SharedQueue() {
		r.fact("beside computing", "not measured: copies and kernels take turns on one queue")
		return nil
	}
	c.await(c.rehearse(func(b *bench) func(*engine.Stream) { return c.layerOf(b) }))
	c.prepareLayer()
	r.Compiling = c.compiling
	for _, alone := range r.Copies[:2] {
		beside := c.besideComputing(alone)
		if c.err != nil {
			return c.err
		}
		r.Copies = append(r.Copies, beside)
	}
	return nil
}

// ranges are source and destination of a copy.
func (c *copier) ranges(direction string) (dst, src vk.Range) {
	device := vk.Range{Buffer: c.device.Mem.Buffer, Offset: c.device.Mem.Offset + c.device.Offset, Size: c.size}
	if direction == "up" {
		return device, vk.Range{Buffer: c.up.Buffer, Offset: c.up.Offset, Size: c.size}
	}
	return vk.Range{Buffer: c.down.Buffer, Offset: c.down.Offset, Size: c.size}, device
}

// record puts timed copies on the copy stream.
func (c *copier) record(direction string, count int) {
	dst, src := c.ranges(direction)
	for range count {
		c.stream.Time("copy", func() { c.stream.CopyRange(dst, src) })
	}
}

// copies runs copies alone, after one that warms up, and returns the rate of the fastest in bytes a second.
func (c *copier) copies(direction string, count int) (rate float64, spans []engine.Span) {
	for _, n := range []int{1, count} {
		c.record(direction, n)
		if c.err = c.stream.Finish(c.ctx); c.err != nil {
			return 0, nil
		}
		spans = c.stream.TakeSpans()
	}
	return c.rate(spans), spans
}

// rate is the median rate of copies.
func (c *copier) rate(spans []engine.Span) float64 {
	var rates []float64
	for _, s := range spans {
		if s.End > s.Start {
			rates = append(rates, float64(c.size)/(s.End-s.Start)*1e9)
		}
	}
	if len(rates) == 0 {
		return 0
	}
	sort.Float64s(rates)
	return rates[len(rates)/2]
}

// roundTrip compares what came down with what went up.
func (c *copier) roundTrip() error {
	up, down := c.up.Bytes(), c.down.Bytes()
	for at := 0; at < len(up); at += 4093 {
		if up[at] != down[at] {
			return fmt.Errorf("byte %d came back as %d, it went up as %d", at, down[at], up[at])
		}
	}
	return nil
}

// prepareLayer makes the linear layer that runs beside copies.
func (c *copier) prepareLayer() {
	c.compute = c.layerOf(c.bench)
	c.layer = c.median(fullTime, c.compute)
}

// layerOf is that layer with the tensors of a bench.
func (c *copier) layerOf(b *bench) func(s *engine.Stream) {
	rows, dim := 2048, 4096
	if c.dev.Summary.Physical.Info.Kind == "cpu" {
		rows, dim = 64, 256
	}
	x, w, y := b.noise(engine.BF16, 1, rows, dim), b.noise(engine.BF16, 1, dim, dim), b.tensor(engine.BF16, rows, dim)
	return func(s *engine.Stream) {
		ops.Matmul(s, ops.MatmulArgs{X: x.Tensor, W: w.Tensor, Y: y, Half: half(c.dev.Caps())})
	}
}

// besideComputing measures copies while the compute queue runs linear layers for longer than they take, and how much
// longer those take than others of the same run that no copy was beside.
func (c *copier) besideComputing(alone Copy) Copy {
	out := Copy{Direction: alone.Direction, Beside: "computing", Bytes: c.size}
	if c.err != nil || alone.Rate == 0 || c.layer == 0 {
		return out
	}
	copying := copyCount * float64(c.size) / alone.Rate
	layers := int(min(2.5*copying/c.layer, 400)) + 8
	s := c.dev.Compute()
	s.TakeSpans()
	for range layers {
		c.compute(s)
	}
	if _, c.err = s.Flush(); c.err != nil {
		return out
	}
	c.record(alone.Direction, copyCount)
	if c.err = c.stream.Finish(c.ctx); c.err == nil {
		c.err = s.Finish(c.ctx)
	}
	if c.err != nil {
		return out
	}
	out.Rate, out.Slowdown = c.overlap(s.TakeSpans(), c.stream.TakeSpans())
	return out
}

// overlap returns the rate of the copies that lie within the computing, and the time of a dispatch beside copies divided
// by that of one beside none; 0 for what there is none of.
func (c *copier) overlap(compute, copies []engine.Span) (rate, slowdown float64) {
	if len(compute) == 0 || len(copies) == 0 {
		return 0, 0
	}
	begin, end := compute[0].Start, compute[len(compute)-1].End
	var within []engine.Span
	for _, s := range copies {
		if s.Start >= begin && s.End <= end {
			within = append(within, s)
		}
	}
	first, last := copies[0].Start, copies[len(copies)-1].End
	var beside, alone []float64
	for n, s := range compute {
		switch {
		case n < 2: // clocks rise
		case s.Start >= first && s.End <= last:
			beside = append(beside, s.End-s.Start)
		case s.Start >= last:
			alone = append(alone, s.End-s.Start)
		}
	}
	if len(beside) > 0 && len(alone) > 0 {
		slowdown = mean(beside) / mean(alone)
	}
	return c.rate(within), slowdown
}

// describeLink compares the way up with what the card's link carries.
func describeLink(r *Result, link pcie.Link) {
	r.fact("link", "PCIe, %s of %g GT/s ×%d: %s GB/s each way at best, the way up reaches %.0f %%", link, link.MaxSpeed, link.MaxWidth,
		three(link.Rate()/1e9), 100*r.Copies[0].Rate/link.Rate())
	if link.Width < link.MaxWidth || link.Speed <= link.MaxSpeed/4 { // a board one generation behind the card is common
		r.Status = Warning
		r.advise("The card's link runs at %s and could run at %g GT/s ×%d: see which slot it is in and how that shares lanes.", link, link.MaxSpeed, link.MaxWidth)
	}
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// describeCopies sums the rates up and judges them, but for a driver for the CPU, which has no bus.
func describeCopies(r *Result, cpu bool) {
	find := func(direction, beside string) Copy {
		for _, c := range r.Copies {
			if c.Direction == direction && c.Beside == beside {
				return c
			}
		}
		return Copy{}
	}
	up, down := find("up", "nothing"), find("down", "nothing")
	r.Summary = fmt.Sprintf("up %s GB/s, down %s GB/s", three(up.Rate/1e9), three(down.Rate/1e9))
	busy := find("up", "computing")
	if busy.Rate > 0 {
		r.Summary += fmt.Sprintf("; up %s GB/s beside computing", three(busy.Rate/1e9))
		if busy.Slowdown > 0 {
			r.Summary += fmt.Sprintf(", which takes %.0f %% longer by it", 100*max(0, busy.Slowdown-1))
		}
	}
	if up.Rate == 0 {
		r.Summary = "the transfer queue has no timestamps: no rates"
		r.Status = NotAvailable
		return
	}
	const block = 584 << 20
	r.fact("a block of the 20B model", "%.1f ms for its %s", block/up.Rate*1e3, memory.Size(block))
	if busy.Rate > 0 && busy.Rate < up.Rate/2 {
		r.Status = Warning
		r.advise("Copies are less than half as fast while the device computes: keep more blocks on it (--blocks-in-memory).")
	}
	if busy.Slowdown > 1.25 {
		r.Status = Warning
		r.advise("Computing slows by %.0f %% while blocks are copied.", 100*(busy.Slowdown-1))
	}
	if up.Rate < 6e9 && !cpu {
		r.Status = Warning
		r.advise("The way up is slow: see that the card sits in a slot with all its lanes (a PCIe 4.0 ×16 slot gives about 25 GB/s, ×4 about 6).")
	}
}
