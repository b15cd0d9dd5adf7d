package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/memory"
)

// What of free memory the growth of pinned memory may take at most: overrunning it loses the device on some drivers and
// makes the system end programs.
const (
	shareOfRAM    = 0.5
	shareOfHeap   = 0.75
	pinnedTime    = 12 * time.Second
	quickPinned   = 2 << 30
	quickTimeLeft = time.Second
	// What the check of the last piece needs beside the pieces.
	checkRoom = 1 << 20
)

// examinePinned lets pinned memory grow, piece by piece, until the driver refuses or the share that is safe is reached.
func examinePinned(ctx context.Context, o Options, f *Findings) {
	r := Result{Status: OK}
	limit, why, known := o.safePinned()
	if !known {
		r.Status, r.Summary = NotAvailable, "the system does not tell its free memory, so nothing was tried"
		f.Results = append(f.Results, r)
		return
	}
	var total int64
	var refused error
	o.onDevice(ctx, f, &r, func(e *engine.Options) { e.HostBudget = limit }, func(d *engine.Device) error {
		if heap := heapShare(d); heap > 0 && heap < limit {
			limit, why = heap, fmt.Sprintf("%.0f %% of what the heap has free", 100*shareOfHeap)
		}
		p := &pinned{ctx: ctx, dev: d, limit: limit - checkRoom, piece: min(1<<30, max(limit/8, 1<<20), d.Caps().MaxAllocation) &^ 0xffff, until: time.Now().Add(pinnedTime)}
		if o.Quick {
			p.until = time.Now().Add(quickTimeLeft)
		}
		var err error
		refused, err = p.grow()
		r.Pinned, total = p.points, p.total
		return err
	})
	if r.Status == OK {
		describePinned(&r, total, limit, why, refused)
	}
	f.Results = append(f.Results, r)
}

// safePinned is how much may be pinned, and what says so.
func (o Options) safePinned() (limit int64, why string, known bool) {
	free, known := hostmem.Available()
	limit, why = int64(float64(free)*shareOfRAM), fmt.Sprintf("%.0f %% of the memory available", 100*shareOfRAM)
	if o.Engine.HostBudget > 0 && o.Engine.HostBudget < limit {
		limit, why = o.Engine.HostBudget, "--ram-budget"
	}
	if o.Quick && limit > quickPinned {
		limit, why = quickPinned, "a quick examination"
	}
	return limit, why, known
}

// heapShare is the part of the heap of pinned memory that may be taken.
func heapShare(d *engine.Device) int64 {
	p := d.Summary.Physical
	heap := p.Types[d.Mem.Type(memory.Upload)].Heap
	free := p.Heaps[heap].Size * 8 / 10
	if budget, usage, ok := p.Budget(); ok && budget[heap] > 0 {
		free = max(0, budget[heap]-usage[heap])
	}
	return int64(float64(free) * shareOfHeap)
}

// pinned is growing pinned memory.
type pinned struct {
	ctx          context.Context
	dev          *engine.Device
	limit, piece int64
	until        time.Time
	regions      []memory.Region
	total        int64
	points       []PinnedPoint
}

// grow allocates and touches pieces; it gives all of them back. refused is the driver's no.
func (p *pinned) grow() (refused, err error) {
	defer func() {
		for k := len(p.regions) - 1; k >= 0; k-- {
			p.dev.FreeRegion(p.regions[k])
		}
	}()
	for p.total+p.piece <= p.limit && time.Now().Before(p.until) && p.ctx.Err() == nil {
		// Others take memory too while this grows.
		if free, ok := hostmem.Available(); ok && float64(free) < float64(p.piece)/shareOfRAM {
			break
		}
		start := time.Now()
		region, err := p.dev.AllocRegion(memory.Upload, p.piece, "pinned memory")
		if errors.Is(err, memory.ErrBudget) {
			break
		}
		if err != nil {
			return err, p.check()
		}
		p.regions = append(p.regions, region)
		host := region.Bytes()
		for at := 0; at < len(host); at += 4096 {
			host[at] = byte(len(p.regions))
		}
		p.total += p.piece
		p.points = append(p.points, PinnedPoint{Total: p.total, Seconds: time.Since(start).Seconds()})
	}
	return nil, p.check()
}

// check brings the start of the last piece to the device and back: memory that is given must be usable.
func (p *pinned) check() error {
	if len(p.regions) == 0 || p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	const n = 64 << 10
	t, err := p.dev.Alloc("check of pinned memory", engine.U8, n)
	if err != nil {
		return err
	}
	defer p.dev.Free(t)
	last := p.regions[len(p.regions)-1]
	want := last.Bytes()[:n]
	for k := range want {
		want[k] = byte(k * 7)
	}
	s := p.dev.Compute()
	s.Copy(t, engine.Tensor{Mem: last, DType: engine.U8, Shape: []int{n}})
	got, err := p.dev.Download(p.ctx, t)
	if err != nil {
		return err
	}
	for k := range want {
		if got[k] != byte(k*7) {
			return fmt.Errorf("byte %d of the last of %s of pinned memory came to the device as %d", k, memory.Size(p.total), got[k])
		}
	}
	return nil
}

func describePinned(r *Result, total, limit int64, why string, refused error) {
	switch {
	case refused != nil && total == 0:
		r.Status, r.Summary = Failed, fmt.Sprintf("no memory can be pinned: %v", refused)
	case refused != nil:
		r.Status, r.Summary = Warning, fmt.Sprintf("%s can be pinned, then the driver refuses", memory.Size(total))
		r.fact("refused", "%v", refused)
		r.advise("Blocks beyond that stay in the checkpoint file: --host-tier mapped, or more blocks on the device. A limit on locked memory (ulimit -l, a container's) can be the reason.")
	case total == 0:
		r.Status, r.Summary = NotAvailable, fmt.Sprintf("nothing was tried: %s is all that is safe (%s)", memory.Size(limit), why)
	default:
		r.Summary = fmt.Sprintf("at least %s; not more was tried (%s)", memory.Size(total), why)
	}
	if total == 0 {
		return
	}
	var seconds float64
	for _, p := range r.Pinned {
		seconds += p.Seconds
	}
	r.fact("speed", "%s a second to allocate and to touch", memory.Size(int64(float64(total)/max(seconds, 1e-9))))
	r.fact("the 20B model with 2 of 60 blocks on the device", "pins 34.23 GiB")
}
