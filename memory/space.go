package memory

import (
	"fmt"
	"slices"
)

// Space hands out ranges of [0, Size) bytes by best fit and merges what comes back. It is plain arithmetic: it owns no
// memory. Not safe for concurrent use.
type Space struct {
	Size int64
	free []span          // sorted by offset, never adjacent, never empty
	used map[int64]int64 // offset to length
}

type span struct{ offset, size int64 }

// NewSpace returns a space in which all is free.
func NewSpace(size int64) *Space {
	s := &Space{Size: size, used: map[int64]int64{}}
	if size > 0 {
		s.free = []span{{0, size}}
	}
	return s
}

// Alloc takes size bytes at a multiple of align (a power of two) from the smallest free range that holds them; false
// when none does. O(free ranges).
func (s *Space) Alloc(size, align int64) (offset int64, ok bool) {
	if size <= 0 || align <= 0 || align&(align-1) != 0 {
		panic(fmt.Sprintf("memory: alloc of %d bytes aligned to %d", size, align))
	}
	best := -1
	for k, f := range s.free {
		pad := alignUp(f.offset, align) - f.offset
		if f.size-pad >= size && (best < 0 || f.size < s.free[best].size) {
			best = k
		}
	}
	if best < 0 {
		return 0, false
	}
	f := s.free[best]
	offset = alignUp(f.offset, align)
	var rest []span
	if offset > f.offset {
		rest = append(rest, span{f.offset, offset - f.offset})
	}
	if end := f.offset + f.size; offset+size < end {
		rest = append(rest, span{offset + size, end - offset - size})
	}
	s.free = slices.Replace(s.free, best, best+1, rest...)
	s.used[offset] = size
	return offset, true
}

// Free gives a range back. It panics when the offset was not handed out (a double free).
func (s *Space) Free(offset int64) {
	size, ok := s.used[offset]
	if !ok {
		panic(fmt.Sprintf("memory: free of offset %d, which is not in use", offset))
	}
	delete(s.used, offset)
	k, _ := slices.BinarySearchFunc(s.free, offset, func(f span, o int64) int { return int(min(max(f.offset-o, -1), 1)) })
	s.free = slices.Insert(s.free, k, span{offset, size})
	if k+1 < len(s.free) && s.free[k].offset+s.free[k].size == s.free[k+1].offset {
		s.free[k].size += s.free[k+1].size
		s.free = slices.Delete(s.free, k+1, k+2)
	}
	if k > 0 && s.free[k-1].offset+s.free[k-1].size == s.free[k].offset {
		s.free[k-1].size += s.free[k].size
		s.free = slices.Delete(s.free, k, k+1)
	}
}

// Empty says whether nothing is handed out.
func (s *Space) Empty() bool { return len(s.used) == 0 }

// Used returns the bytes handed out.
func (s *Space) Used() int64 {
	var n int64
	for _, size := range s.used {
		n += size
	}
	return n
}

func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }
