package memory

// Footprint returns the bytes of the chunks that an empty allocator with default options takes for regions of these
// sizes, allocated in this order and none given back. Planners use it to say to the byte what a stage needs.
func Footprint(sizes ...int64) int64 {
	var total int64
	var shared []*Space
	for _, size := range sizes {
		size = alignUp(size, 16)
		if size >= defaultChunk/4 {
			total += size
			continue
		}
		placed := false
		for k := 0; k < len(shared) && !placed; k++ {
			_, placed = shared[k].Alloc(size, defaultAlign)
		}
		if !placed {
			s := NewSpace(defaultChunk)
			s.Alloc(size, defaultAlign)
			shared = append(shared, s)
			total += defaultChunk
		}
	}
	return total
}
