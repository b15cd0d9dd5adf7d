package memory

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// naive is a space as a row of units, each with the number of the allocation that holds it: slow and plainly right.
type naive struct {
	owner []int // 0 for free
	next  int
}

// fits says whether any aligned place holds size units.
func (n *naive) fits(size, align int64) bool {
	for at := int64(0); at+size <= int64(len(n.owner)); at += align {
		if n.isFree(at, size) {
			return true
		}
	}
	return false
}

func (n *naive) isFree(at, size int64) bool {
	for _, owner := range n.owner[at : at+size] {
		if owner != 0 {
			return false
		}
	}
	return true
}

func (n *naive) take(at, size int64) {
	n.next++
	for k := at; k < at+size; k++ {
		n.owner[k] = n.next
	}
}

func (n *naive) free(at, size int64) {
	for k := at; k < at+size; k++ {
		n.owner[k] = 0
	}
}

func (n *naive) used() (count int64) {
	for _, owner := range n.owner {
		if owner != 0 {
			count++
		}
	}
	return count
}

// spaceWalk carries out operations on a Space and on the naive model and stops at the first difference.
type spaceWalk struct {
	space *Space
	model *naive
	live  []span
}

func newSpaceWalk(size int64) *spaceWalk {
	return &spaceWalk{space: NewSpace(size), model: &naive{owner: make([]int, size)}}
}

func (w *spaceWalk) alloc(size, align int64) error {
	offset, ok := w.space.Alloc(size, align)
	if want := w.model.fits(size, align); ok != want {
		return fmt.Errorf("alloc of %d aligned to %d: got %v, there is room: %v", size, align, ok, want)
	}
	if !ok {
		return w.check()
	}
	if offset%align != 0 || offset < 0 || offset+size > w.space.Size {
		return fmt.Errorf("alloc of %d aligned to %d in %d is at %d", size, align, w.space.Size, offset)
	}
	if !w.model.isFree(offset, size) {
		return fmt.Errorf("alloc of %d at %d overlaps what is in use", size, offset)
	}
	w.model.take(offset, size)
	w.live = append(w.live, span{offset, size})
	return w.check()
}

func (w *spaceWalk) free(k int) error {
	s := w.live[k]
	w.live = append(w.live[:k], w.live[k+1:]...)
	w.space.Free(s.offset)
	w.model.free(s.offset, s.size)
	return w.check()
}

// check compares the account of both, and that free ranges are sorted, merged and never empty.
func (w *spaceWalk) check() error {
	if got, want := w.space.Used(), w.model.used(); got != want || w.space.Empty() != (want == 0) {
		return fmt.Errorf("used %d (empty: %v), want %d", got, w.space.Empty(), want)
	}
	end, total := int64(-1), w.space.Used()
	for _, f := range w.space.free {
		if f.size <= 0 || f.offset <= end || f.offset+f.size > w.space.Size {
			return fmt.Errorf("free ranges %v of %d: not sorted, merged and inside", w.space.free, w.space.Size)
		}
		end, total = f.offset+f.size, total+f.size
	}
	if total != w.space.Size {
		return fmt.Errorf("free and used are %d bytes of %d", total, w.space.Size)
	}
	return nil
}

func TestSpaceAgreesWithANaiveModel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newSpaceWalk(1 + r.Int64N(300))
		for step := range 400 {
			var err error
			if len(w.live) > 0 && r.IntN(5) < 2 {
				err = w.free(r.IntN(len(w.live)))
			} else {
				err = w.alloc(1+r.Int64N(40), int64(1)<<r.IntN(6))
			}
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
		for len(w.live) > 0 {
			if err := w.free(r.IntN(len(w.live))); err != nil {
				t.Fatalf("seed %d, at the end: %v", seed, err)
			}
		}
		if offset, ok := w.space.Alloc(w.space.Size, 1); !ok || offset != 0 {
			t.Fatalf("seed %d: an emptied space does not hand out all of itself", seed)
		}
	}
}

// FuzzSpace reads two bytes per operation: the first decides between giving back and taking, the second how much.
func FuzzSpace(f *testing.F) {
	f.Add(uint8(100), []byte{0, 10, 1, 20, 255, 0, 2, 5, 255, 1})
	f.Add(uint8(1), []byte{0, 0, 0, 0, 255, 0})
	f.Add(uint8(255), []byte{5, 31, 4, 30, 3, 29, 255, 1, 2, 60, 255, 0, 255, 0})
	f.Fuzz(func(t *testing.T, size uint8, program []byte) {
		w := newSpaceWalk(int64(size))
		for len(program) >= 2 && len(program) <= 400 {
			op, arg := program[0], program[1]
			program = program[2:]
			var err error
			if op >= 128 {
				if len(w.live) == 0 {
					continue
				}
				err = w.free(int(arg) % len(w.live))
			} else {
				err = w.alloc(1+int64(arg), int64(1)<<(op%8))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSpaceTakesTheSmallestRangeThatFits(t *testing.T) {
	s := NewSpace(100)
	var at [5]int64
	for k, size := range []int64{30, 10, 20, 10, 30} {
		at[k], _ = s.Alloc(size, 1)
	}
	s.Free(at[0])
	s.Free(at[2])
	if got, ok := s.Alloc(15, 1); !ok || got != at[2] {
		t.Errorf("15 bytes went to %d, the range of 20 at %d is the smallest that holds them", got, at[2])
	}
	if got, ok := s.Alloc(30, 1); !ok || got != at[0] {
		t.Errorf("30 bytes went to %d, want %d", got, at[0])
	}
}

func TestMisuseOfASpacePanics(t *testing.T) {
	for name, misuse := range map[string]func(s *Space){
		"free of what was never handed out": func(s *Space) { s.Free(3) },
		"free twice": func(s *Space) {
			at, _ := s.Alloc(4, 4)
			s.Free(at)
			s.Free(at)
		},
		"free inside a range":           func(s *Space) { s.Alloc(8, 1); s.Free(1) },
		"alloc of nothing":              func(s *Space) { s.Alloc(0, 1) },
		"alloc of less than nothing":    func(s *Space) { s.Alloc(-1, 1) },
		"alignment to no power of two":  func(s *Space) { s.Alloc(1, 3) },
		"alignment to nothing":          func(s *Space) { s.Alloc(1, 0) },
		"alloc and free in empty space": func(*Space) { NewSpace(0).Free(0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse(NewSpace(64))
		})
	}
}
