package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
)

// maxBackground bounds the pipelines that are made at once in the background: a driver's compiler takes some hundred MiB.
const maxBackground = 8

// Rehearse begins to make the pipelines that work will need, in the order in which it needs them, and returns at once. work gets
// a device on which it does all that it would do on the real one, with the same limits and device budget, but nothing happens: memory
// has no bytes, uploads and copies move nothing, downloads bring zeros, and calls are only noted. What reads much asks Rehearsing and
// spares it. So what will be needed follows from the work itself.
//
// Pipelines are made on threads that yield to others (on systems without such threads on half of the cores), at most eight at once.
// An error of work, a panic too, and of pipelines is told by Wait; who needs a pipeline that could not be made tries again and gets
// its error. The caller stops what is returned before it closes the device.
func (d *Device) Rehearse(ctx context.Context, work func(ctx context.Context, rehearsal *Device) error) *Compiling {
	c := d.newCompiling(ctx, backgroundThreads(runtime.GOMAXPROCS(0)), true)
	r, err := d.newRehearsal(c.add)
	if err != nil || d.opts.CompileLate {
		c.end(err)
		return c
	}
	go func() { c.end(r.rehearse(c.ctx, work)) }()
	return c
}

// Rehearsing tells whether nothing happens on the device: calls are noted, tensors hold zeros, and pinned memory has no bytes.
func (d *Device) Rehearsing() bool { return d.note != nil }

func (d *Device) rehearse(ctx context.Context, work func(ctx context.Context, rehearsal *Device) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("rehearsing: %v", p)
		}
	}()
	if err := work(ctx, d); err != nil {
		return err
	}
	d.reap()
	d.Mem.Free(d.dummy.Mem)
	return oneline.Join(d.compute.Err(), d.Mem.Close())
}

// newRehearsal is a device that looks like this one, whose streams give their calls to note.
func (d *Device) newRehearsal(note func(Call)) (*Device, error) {
	r := &Device{Summary: d.Summary, caps: d.caps, opts: d.opts, log: slog.New(slog.DiscardHandler), pipelines: d.pipelines, tuning: d.tuning, shared: d.shared, note: note}
	r.opts.Limits.Poison = false
	cut := d.Mem.Cut()
	var err error
	r.Mem, err = memory.New(noMemory{}, d.Summary.Physical.Types, memory.Options{DeviceBudget: cut.Budget, ChunkSize: cut.Chunk, MaxAllocation: cut.MaxAllocation, Align: cut.Align})
	if err != nil {
		return nil, err
	}
	r.compute, r.transfer = r.noting("compute"), r.noting("transfer")
	r.dummy, err = r.Alloc(dummyLabel, U32, 64)
	return r, err
}

func (d *Device) noting(name string) *Stream { return &Stream{Name: name, device: d, note: d.note} }

// noMemory makes buffers that are numbers only.
type noMemory struct{}

func (noMemory) NewBuffer(_ memory.Kind, memoryType int, size int64, _ string) (*vk.Buffer, error) {
	return &vk.Buffer{Size: size, Type: memoryType}, nil
}
