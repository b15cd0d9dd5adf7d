package load

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Params is a group on the device.
type Params struct {
	group  Group
	mem    memory.Region
	packed unpacked      // nil unless mem holds a coded block
	room   memory.Region // of its decoded matrices
}

// Bind says where a group lies.
func (g Group) Bind(mem memory.Region) Params { return Params{group: g, mem: mem} }

// Get returns a tensor by its name without the group's prefix. A name that the group does not have is a programmer's
// error and panics; Maybe asks first.
func (p Params) Get(name string) engine.Tensor {
	t, ok := p.Maybe(name)
	if !ok {
		panic(fmt.Sprintf("load: no tensor %s%s in the group", p.group.Prefix, name))
	}
	return t
}

// Maybe returns a tensor, and false when the group has none of that name.
func (p Params) Maybe(name string) (engine.Tensor, bool) {
	k, ok := p.group.index[name]
	if !ok {
		return engine.Tensor{}, false
	}
	e := p.group.Entries[k]
	mem, offset := p.mem, e.Offset
	if p.packed != nil {
		inRoom := false
		if offset, inRoom = p.packed.at(k); inRoom {
			mem = p.room
		}
	}
	return engine.Tensor{Mem: mem, Offset: offset, DType: e.DType, Shape: e.Shape}, true
}

// Group returns the group.
func (p Params) Group() Group { return p.group }

// NF4 returns the layout of a tensor that is held in 4 bits, nil for others.
func (p Params) NF4(name string) *nf4.Layout {
	if k, ok := p.group.index[name]; ok {
		return p.group.Entries[k].NF4
	}
	return nil
}

// Scale returns the scales of a weight's rows where it is rounded to bytes, the zero Tensor where it is not.
func (p Params) Scale(name string) engine.Tensor {
	k, ok := p.group.index[name]
	if !ok || p.group.Entries[k].rounding == nil {
		return engine.Tensor{}
	}
	e := p.group.Entries[k]
	return engine.Tensor{Mem: p.mem, Offset: e.Offset + e.scaleOffset(), DType: engine.F32, Shape: e.Shape[:1]}
}

// Mem returns the memory that holds the group.
func (p Params) Mem() memory.Region { return p.mem }

// pieceBytes is the most that is staged at once; a group is read piece by piece, so that pinned memory stays small.
const pieceBytes = 256 << 20

// leastPieceBytes is what pieces shrink to where pinned memory is short, and what is left of it for others then.
const leastPieceBytes = 16 << 20

// Resident reads a group and keeps it on the device until its memory is freed (Free). label names the owner.
func Resident(ctx context.Context, d *engine.Device, r Reader, g Group, label string) (Params, error) {
	mem, err := d.AllocRegion(memory.Device, g.Bytes, label)
	if err != nil {
		return Params{}, err
	}
	p := g.Bind(mem)
	if err := p.upload(ctx, d, r, label); err != nil {
		d.FreeRegion(mem)
		return Params{}, err
	}
	return p, nil
}

// Refill reads the group anew, from a reader that gives the same types, into its memory. No work that uses it may be under way.
func (p Params) Refill(ctx context.Context, d *engine.Device, r Reader, label string) error {
	return p.upload(ctx, d, r, label)
}

// Free gives the group's memory back.
func (p Params) Free(d *engine.Device) { d.FreeRegion(p.mem) }

// upload reads runs of tensors into staging buffers and copies each run.
func (p Params) upload(ctx context.Context, d *engine.Device, r Reader, label string) error {
	f, err := newFeeder(ctx, d, r, 1, func(int) Group { return p.group }, label)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.copy(ctx, p.mem); err != nil {
		return err
	}
	return d.Compute().Finish(ctx)
}

// StagingBytes returns the pinned memory that Resident takes while it reads, where there is enough.
func (g Group) StagingBytes() int64 { return g.staging(pieceBytes) }

// staging is the largest piece, when pieces have about so many bytes.
func (g Group) staging(piece int64) int64 {
	var largest int64
	for _, run := range g.runs(piece) {
		largest = max(largest, run.size)
	}
	return largest
}

type run struct {
	offset, size int64
	entries      []Entry
}

// runs cuts a group into pieces of whole tensors of about limit bytes; a larger tensor is a piece of its own.
func (g Group) runs(limit int64) []run {
	var out []run
	for k, e := range g.Entries {
		end := g.Bytes
		if k+1 < len(g.Entries) {
			end = g.Entries[k+1].Offset
		}
		if n := len(out); n > 0 && end-out[n-1].offset <= limit {
			out[n-1].entries = append(out[n-1].entries, e)
			out[n-1].size = end - out[n-1].offset
			continue
		}
		out = append(out, run{offset: e.Offset, size: end - e.Offset, entries: []Entry{e}})
	}
	return out
}
