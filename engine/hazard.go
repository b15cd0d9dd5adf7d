package engine

import "github.com/vkandinsky/vkandinsky/engine/vk"

// access is a range of a buffer that a command reads or writes.
type access struct {
	buffer       *vk.Buffer
	offset, size int64
	write        bool
	stage        uint32 // vk.StageCompute or vk.StageTransfer
}

func (a access) overlaps(b access) bool {
	return a.buffer == b.buffer && a.offset < b.offset+b.size && b.offset < a.offset+a.size
}

// hazards remembers what commands since the last barrier touched. It outlives command buffers: two submits to one
// queue need a barrier between them as much as two commands of one submit.
type hazards struct{ pending []access }

// conflict says whether a new command with these accesses must wait for an earlier one: read after write, write after
// write, write after read.
func (h *hazards) conflict(next []access) bool {
	for _, n := range next {
		for _, p := range h.pending {
			if (n.write || p.write) && n.overlaps(p) {
				return true
			}
		}
	}
	return false
}

// add remembers a command's accesses. A range already remembered in the same way is not repeated.
func (h *hazards) add(next []access) {
	for _, n := range next {
		seen := false
		for _, p := range h.pending {
			if p == n {
				seen = true
				break
			}
		}
		if !seen {
			h.pending = append(h.pending, n)
		}
	}
}

// clear forgets all: a full barrier was recorded.
func (h *hazards) clear() { h.pending = h.pending[:0] }
