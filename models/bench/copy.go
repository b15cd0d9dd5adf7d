package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// CopyOptions say how the bus is measured.
type CopyOptions struct {
	Sizes    []int64           // bytes of a copy
	Kinds    []engine.HostKind // nil: all that the device has
	Least    time.Duration     // a measurement takes at least so long
	Progress func(done, total int)
}

// CopyReport is what the bus carried.
type CopyReport struct {
	Device string    `json:"device"`
	Driver string    `json:"driver"`
	Shared bool      `json:"shared_queue"` // copies and kernels take turns on one queue: nothing is measured while computing
	Runs   []CopyRun `json:"runs"`
}

// CopyRun is one kind of host memory, direction and size of copy. Rates are bytes a second.
type CopyRun struct {
	Memory engine.HostKind `json:"memory"`
	Up     bool            `json:"up"` // to the device
	Size   int64           `json:"bytes"`
	Idle   float64         `json:"idle_bytes_per_second"`
	// While the compute queue multiplies matrices: the rate, and how much longer the products took.
	Busy  float64 `json:"busy_bytes_per_second,omitempty"`
	Slows float64 `json:"compute_slower_by,omitempty"`
}

// Share is the rate while computing as a part of the idle rate, 0 where it was not measured.
func (r CopyRun) Share() float64 { return r.Busy / r.Idle }

// Direction returns "up" or "down".
func (r CopyRun) Direction() string {
	if r.Up {
		return "up"
	}
	return "down"
}

// Copies measures the transfer queue: each kind of host memory, up and down, each size, idle and beside matrix products.
func Copies(ctx context.Context, d *engine.Device, o CopyOptions) (_ *CopyReport, err error) {
	info := d.Summary.Physical.Info
	r := &CopyReport{Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Shared: d.SharedQueue()}
	b := &bus{device: d, least: o.Least}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx, largest(o.Sizes), !r.Shared); err != nil {
		return nil, err
	}
	kinds := o.Kinds
	if kinds == nil {
		kinds = d.HostKinds()
	}
	done, total := 0, 2*len(kinds)*len(o.Sizes)
	for _, kind := range kinds {
		host, err := d.NewHostBuffer(kind, largest(o.Sizes))
		if err != nil {
			return nil, err
		}
		for _, up := range []bool{true, false} {
			for _, size := range o.Sizes {
				run, err := b.measure(ctx, host, up, size)
				if err != nil {
					return nil, errors.Join(fmt.Errorf("%s memory, %d bytes: %w", kind, size, err), b.copies.Drain(), host.Free())
				}
				r.Runs = append(r.Runs, run)
				if done++; o.Progress != nil {
					o.Progress(done, total)
				}
			}
		}
		if err := host.Free(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func largest(sizes []int64) int64 {
	var most int64
	for _, s := range sizes {
		most = max(most, s)
	}
	return most
}

// bus measures copies.
type bus struct {
	device *engine.Device
	least  time.Duration
	copies *engine.Stream
	arena  *engine.Arena
	target engine.Tensor // U8, device memory that is copied to and from
	work   func(s *engine.Stream)
	alone  time.Duration // of the work, 0 where it is not measured
	times  int           // the work is repeated in a measurement
}

// loadSize is the edge of the square matrices that the compute queue multiplies meanwhile.
const loadSize = 4096

func (b *bus) open(ctx context.Context, size int64, beside bool) error {
	d := b.device
	var err error
	if b.copies, err = d.NewCopyStream("bench copies"); err != nil {
		return err
	}
	b.arena = d.NewArena("bench copies")
	b.target = b.arena.Alloc("target", engine.U8, int(size))
	if !beside {
		return b.arena.Err()
	}
	half := d.Caps().Tier >= engine.TierFP16
	edge := loadSize
	if d.Summary.Physical.Info.Kind == "cpu" {
		edge = 128
	}
	args := ops.MatmulArgs{Half: half, X: b.arena.Alloc("x", engine.BF16, edge, edge), W: b.arena.Alloc("w", engine.BF16, edge, edge), Y: b.arena.Alloc("y", engine.BF16, edge, edge)}
	if err := b.arena.Err(); err != nil {
		return err
	}
	for k, t := range []engine.Tensor{args.X, args.W} {
		if err := fillRandom(ctx, d, t, uint64(k)); err != nil {
			return err
		}
	}
	b.work = func(s *engine.Stream) { ops.Matmul(s, args) }
	if b.alone, err = (timer{d, b.least}).time(ctx, b.work); err != nil {
		return err
	}
	b.times = int(min(maxRepeats, b.least/max(b.alone, time.Microsecond)+1))
	return nil
}

func (b *bus) close() error {
	if b.copies == nil {
		return nil
	}
	err := b.copies.Drain()
	err = errors.Join(err, b.copies.Close())
	if b.arena != nil {
		b.arena.Release()
	}
	return err
}

func (b *bus) measure(ctx context.Context, host *engine.HostBuffer, up bool, size int64) (CopyRun, error) {
	run := CopyRun{Memory: host.Kind, Up: up, Size: size}
	if _, _, err := b.run(ctx, host, up, size, 1, 0); err != nil { // the first copy may find cold page tables
		return run, err
	}
	moved := size * int64(together(size)) // in a submit
	spans, _, err := b.run(ctx, host, up, size, 1, 0)
	if err != nil {
		return run, err
	}
	one := max(spans[0].End-spans[0].Start, 1000)
	count := int(math.Min(maxRepeats, float64(b.least)/one+1))
	if spans, _, err = b.run(ctx, host, up, size, count, 0); err != nil {
		return run, err
	}
	run.Idle = rate(spans, moved, math.Inf(-1), math.Inf(1))
	if b.work == nil {
		return run, nil
	}
	// Copies for half as long again as the products take alone, so that there are copies all the time.
	alone, err := (timer{b.device, 0}).run(ctx, b.times, b.work)
	if err != nil {
		return run, err
	}
	spans, compute, err := b.run(ctx, host, up, size, int(1.5*float64(alone)*run.Idle/1e9/float64(moved))+2, b.times)
	if err != nil {
		return run, err
	}
	run.Slows = (compute[1]-compute[0])/float64(alone) - 1
	run.Busy = rate(spans, moved, compute[0], compute[1])
	return run, nil
}

// rate returns bytes a second over the copies that lie within a stretch of time.
func rate(spans []engine.Span, size int64, from, to float64) float64 {
	first, last, n := math.Inf(1), math.Inf(-1), 0
	for _, s := range spans {
		if s.Start >= from && s.End <= to {
			first, last, n = min(first, s.Start), max(last, s.End), n+1
		}
	}
	if n == 0 || last <= first {
		return 0
	}
	return float64(n) * float64(size) / (last - first) * 1e9
}

// together is how many copies of a size go into one submit: small ones would show what a submit costs.
func together(size int64) int { return int(max(1, 16<<20/size)) }

// run submits copies and, at the same time, the work so many times. It returns the copies' spans, one a submit, and
// begin and end of the work, on the device's clock.
func (b *bus) run(ctx context.Context, host *engine.HostBuffer, up bool, size int64, count, work int) (spans []engine.Span, compute [2]float64, err error) {
	s := b.device.Compute()
	if err := s.Finish(ctx); err != nil {
		return nil, compute, err
	}
	s.TakeSpans()
	b.copies.TakeSpans()
	device := engine.MemoryRange(b.target.View(0, int(size)))
	dst, src := device, host.Range(size)
	if !up {
		dst, src = src, dst
	}
	group := together(size)
	for range count {
		b.copies.Mark(markBegin)
		for range group {
			b.copies.CopyRange(dst, src)
		}
		b.copies.Mark(markEnd)
		if _, err := b.copies.Flush(); err != nil {
			return nil, compute, err
		}
	}
	s.Mark(markBegin)
	for range work {
		b.work(s)
	}
	s.Mark(markEnd)
	if err := errors.Join(s.Finish(ctx), b.copies.Finish(ctx)); err != nil {
		return nil, compute, err
	}
	begin, end, ok := between(s.TakeSpans())
	marks := b.copies.TakeSpans()
	if !ok || len(marks) < 2*count {
		return nil, compute, engine.ErrNoTimestamps
	}
	for k := 0; k+1 < len(marks); k += 2 {
		spans = append(spans, engine.Span{Label: "copy", Start: marks[k].Start, End: marks[k+1].End})
	}
	return spans, [2]float64{begin, end}, nil
}
