package vae

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
)

// pool hands out device memory in the order in which one stream uses it: what is put back can be taken again at once,
// because the stream orders the later use after the earlier one. Its decisions are arithmetic and the same every time, so
// a run on a pool without memory (newPool) tells how much one with memory (with) needs.
type pool struct {
	limit  int64 // of a slab, bytes
	spaces []*memory.Space
	high   []int64 // bytes of each slab that were ever in use
	slabs  []memory.Region
	live   int64 // bytes handed out
	most   int64 // the largest live was
	err    error
}

// buffer is a tensor in a pool.
type buffer struct {
	engine.Tensor
	slab int
	at   int64
}

// slabAlign is the alignment and granularity of buffers: the most that Vulkan may ask of a binding's offset.
const slabAlign = 256

// newPool returns a pool for planning, whose slabs are at most limit bytes each, as much as the device allocates at once.
func newPool(limit int64) *pool { return &pool{limit: limit &^ (slabAlign - 1)} }

// with returns a fresh pool in memory of the sizes that planning found.
func (p *pool) with(slabs []memory.Region) *pool {
	q := newPool(p.limit)
	q.slabs = slabs
	return q
}

// take hands out a tensor. Errors are sticky: the zero buffer and p.err.
func (p *pool) take(dt engine.DType, shape ...int) buffer {
	b := buffer{Tensor: engine.Tensor{DType: dt, Shape: shape}}
	size := (b.Bytes() + slabAlign - 1) &^ (slabAlign - 1)
	if p.err == nil && size > p.limit {
		p.err = fmt.Errorf("vae: %v needs %s in one piece, the device allows %s: use smaller tiles", b.Tensor, memory.Size(size), memory.Size(p.limit))
	}
	if p.err != nil {
		return b
	}
	ok := false
	for b.slab = 0; b.slab < len(p.spaces) && !ok; b.slab++ {
		b.at, ok = p.spaces[b.slab].Alloc(size, slabAlign)
	}
	b.slab--
	if !ok {
		b.slab = len(p.spaces)
		p.spaces = append(p.spaces, memory.NewSpace(p.limit))
		p.high = append(p.high, 0)
		b.at, _ = p.spaces[b.slab].Alloc(size, slabAlign)
	}
	p.high[b.slab] = max(p.high[b.slab], b.at+size)
	p.live += size
	p.most = max(p.most, p.live)
	if p.slabs != nil {
		if b.slab >= len(p.slabs) || p.high[b.slab] > p.slabs[b.slab].Size {
			panic(fmt.Sprintf("vae: %v passes the %d planned slabs: planning and work differ", b.Tensor, len(p.slabs)))
		}
		b.Mem, b.Offset = p.slabs[b.slab], b.at
	}
	return b
}

// put takes buffers back. Work that is recorded and uses them may still run.
func (p *pool) put(buffers ...buffer) {
	if p.err != nil {
		return
	}
	for _, b := range buffers {
		p.spaces[b.slab].Free(b.at)
		p.live -= (b.Bytes() + slabAlign - 1) &^ (slabAlign - 1)
	}
}

// bytes is the size of all slabs.
func (p *pool) bytes() int64 {
	var n int64
	for _, h := range p.high {
		n += h
	}
	return n
}
