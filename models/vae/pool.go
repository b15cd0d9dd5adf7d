package vae

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
)

// pool hands out device memory in the order in which one stream uses it: what is put back can be taken again at once,
// because the stream orders the later use after the earlier one. Its decisions are arithmetic and the same every time, so
// a run without memory (planning) tells how much the real one needs.
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

// bind takes device memory of the sizes that planning found and begins anew: what is taken from now on has memory. After
// an error the caller still releases.
func (p *pool) bind(d *engine.Device, label string) error {
	if p.live != 0 {
		panic(fmt.Sprintf("vae: %d bytes are still handed out after planning", p.live))
	}
	for k, size := range p.high {
		r, err := d.AllocRegion(memory.Device, size, label)
		if err != nil {
			return err
		}
		p.slabs = append(p.slabs, r)
		p.spaces[k] = memory.NewSpace(p.limit)
	}
	return nil
}

// release gives the memory back once the GPU has passed what was recorded.
func (p *pool) release(d *engine.Device) {
	for _, r := range p.slabs {
		d.FreeRegion(r)
	}
	p.slabs = nil
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
	p.live += size
	p.most = max(p.most, p.live)
	if p.slabs == nil {
		p.high[b.slab] = max(p.high[b.slab], b.at+size)
		return b
	}
	if b.slab >= len(p.slabs) || b.at+size > p.high[b.slab] {
		panic(fmt.Sprintf("vae: %v passes what was planned, %v: planning and work differ", b.Tensor, p.high))
	}
	b.Mem, b.Offset = p.slabs[b.slab], b.at
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
