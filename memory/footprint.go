package memory

// Cut says how an allocator cuts memory into chunks: all that decides how much it takes for a list of regions. The zero
// value is that of an allocator with default options and no budget.
type Cut struct {
	Chunk         int64 // of chunks that small regions share; 0: 64 MiB
	Align         int64 // smallest alignment of a region; 0: 256
	MaxAllocation int64 // largest single allocation; 0: no limit
	Budget        int64 // bytes of all chunks; 0: no limit. A shared chunk that it does not hold is made as small as its region
}

// Cut returns how the allocator cuts device memory.
func (a *Allocator) Cut() Cut {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Cut{Chunk: a.opts.ChunkSize, Align: a.opts.Align, MaxAllocation: a.opts.MaxAllocation, Budget: a.opts.DeviceBudget}
}

// Left returns how the allocator would cut what is left of the device's budget.
func (a *Allocator) Left() Cut {
	c := a.Cut()
	if budget, left := a.Budget(Device); budget > 0 {
		c.Budget = max(left, 1)
	}
	return c
}

// ChunkBytes returns the size of chunks that small regions share.
func (c Cut) ChunkBytes() int64 {
	chunk := c.Chunk
	if chunk == 0 {
		chunk = defaultChunk
	}
	if c.MaxAllocation > 0 {
		chunk = min(chunk, c.MaxAllocation)
	}
	return chunk
}

func (c Cut) align() int64 {
	if c.Align == 0 {
		return defaultAlign
	}
	return c.Align
}

// Footprint returns the bytes of the chunks that an empty allocator takes for regions of these sizes, allocated in this
// order and none given back. Planners use it to say to the byte what a stage needs. Where it is more than the budget, the
// allocator would refuse.
func (c Cut) Footprint(sizes ...int64) int64 {
	var total int64
	var shared []*Space
	chunk, align := c.ChunkBytes(), c.align()
	for _, size := range sizes {
		size = alignUp(size, 16)
		if size >= chunk/4 {
			total += size
			continue
		}
		placed := false
		for k := 0; k < len(shared) && !placed; k++ {
			_, placed = shared[k].Alloc(size, align)
		}
		switch {
		case placed:
		case c.Budget > 0 && total+chunk > c.Budget:
			total += size
		default:
			s := NewSpace(chunk)
			s.Alloc(size, align)
			shared = append(shared, s)
			total += chunk
		}
	}
	return total
}

// Footprint is that of the zero Cut.
func Footprint(sizes ...int64) int64 { return Cut{}.Footprint(sizes...) }
