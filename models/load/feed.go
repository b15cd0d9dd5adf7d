package load

import (
	"context"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Feed brings groups that lie alike to the device, one after the other, into memory that they share. While one is copied and used,
// the next is being read.
type Feed struct {
	*feeder
	mem memory.Region
}

// NewFeed begins to read n groups; group returns the i-th. label names the owner of their memory. Work that uses a group is recorded
// on the device's compute stream. An error is a *memory.BudgetError or the driver's.
func NewFeed(ctx context.Context, d *engine.Device, r Reader, n int, group func(i int) Group, label string) (*Feed, error) {
	mem, err := d.AllocRegion(memory.Device, group(0).Bytes, label)
	if err != nil {
		return nil, err
	}
	f, err := newFeeder(ctx, d, r, n, group, label)
	if err != nil {
		d.FreeRegion(mem)
		return nil, err
	}
	return &Feed{feeder: f, mem: mem}, nil
}

// Next records the copies of the next group, behind all work that used the one before, and returns its tensors. They are good for
// what is recorded until the next call, which submits it. Errors name the tensor.
func (f *Feed) Next(ctx context.Context) (Params, error) {
	p := f.group(f.next).Bind(f.mem)
	return p, f.copy(ctx, p.mem)
}

// Close ends reading and gives the memory back once the device has passed what was recorded.
func (f *Feed) Close() {
	f.close()
	f.device.FreeRegion(f.mem)
}

// feeder reads groups piece by piece into staging buffers, on a goroutine of its own, and copies the pieces. There are two
// buffers, unless they would be larger together than one for whole pieces: a tensor is never cut.
type feeder struct {
	device  *engine.Device
	reader  Reader
	group   func(i int) Group
	runs    []run // of every group
	staging []memory.Region
	next    int // group to be copied

	idle   chan stagingBuffer
	filled chan stagingBuffer
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// stagingBuffer is one of the buffers, by number.
type stagingBuffer struct {
	number int
	after  uint64 // of the compute stream's timeline: when it may be written again
	err    error  // why it was not filled
}

func newFeeder(ctx context.Context, d *engine.Device, r Reader, n int, group func(i int) Group, label string) (*feeder, error) {
	f := &feeder{device: d, reader: r, group: group, cancel: func() {}}
	if d.Rehearsing() {
		return f, nil
	}
	g := group(0)
	piece := int64(pieceBytes)
	for budget, left := d.Mem.Budget(memory.Upload); budget > 0 && piece > leastPieceBytes && g.staging(piece) > left-leastPieceBytes; {
		piece /= 2
	}
	buffers, size := 1, g.staging(piece)
	if half := g.staging(size / 2); 2*half <= size {
		piece, buffers, size = size/2, 2, half
	}
	f.runs = g.runs(piece)
	f.idle, f.filled = make(chan stagingBuffer, buffers), make(chan stagingBuffer, buffers)
	for k := range buffers {
		region, err := d.AllocRegion(memory.Upload, size, label+": staging")
		if err != nil {
			f.close()
			return nil, err
		}
		f.staging = append(f.staging, region)
		f.idle <- stagingBuffer{number: k}
	}
	ctx, f.cancel = context.WithCancel(ctx)
	f.done.Go(func() { f.readAll(ctx, n) })
	return f, nil
}

// readAll reads all pieces of all groups, as buffers become free.
func (f *feeder) readAll(ctx context.Context, n int) {
	for i := range n {
		prefix := f.group(i).Prefix
		for _, run := range f.runs {
			var b stagingBuffer
			select {
			case b = <-f.idle:
			case <-ctx.Done():
				return // whoever waits has the same context
			}
			if b.err = f.device.Compute().AwaitValue(ctx, b.after); b.err == nil {
				b.err = run.read(ctx, f.reader, prefix, f.staging[b.number].Bytes())
			}
			f.filled <- b
			if b.err != nil {
				return
			}
		}
	}
}

// read reads the tensors of a piece into a buffer.
func (r run) read(ctx context.Context, reader Reader, prefix string, to []byte) error {
	for _, e := range r.entries {
		if err := e.read(ctx, reader, prefix+e.Name, to[e.Offset-r.offset:][:e.Bytes()]); err != nil {
			return err
		}
	}
	return nil
}

// copy submits the copies of the next group to memory.
func (f *feeder) copy(ctx context.Context, to memory.Region) error {
	f.next++
	s := f.device.Compute()
	for _, run := range f.runs {
		var b stagingBuffer
		select {
		case b = <-f.filled:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b.err != nil {
			return b.err
		}
		from := f.staging[b.number]
		s.CopyRange(vk.Range{Buffer: to.Buffer, Offset: to.Offset + run.offset, Size: run.size}, vk.Range{Buffer: from.Buffer, Offset: from.Offset, Size: run.size})
		var err error
		if b.after, err = s.Flush(); err != nil {
			return err
		}
		f.idle <- b
	}
	return nil
}

// close ends reading; the staging buffers go once the device has passed what was recorded.
func (f *feeder) close() {
	f.cancel()
	f.done.Wait()
	for _, region := range f.staging {
		f.device.FreeRegion(region)
	}
	f.staging = nil
}
