package swap

import (
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// freshBlocks goes through a pass and returns which blocks were fresh.
func freshBlocks(t *testing.T, d *engine.Device, s *Swapper, n int) (fresh []int) {
	t.Helper()
	for i := range n {
		b, err := s.Acquire(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if b.Ready.Stream != nil {
			d.Compute().Wait(b.Ready)
		}
		if b.Fresh {
			fresh = append(fresh, i)
		}
		if err := s.Release(i, d.Compute()); err != nil {
			t.Fatal(err)
		}
	}
	return fresh
}

// TestFreshBlocksAreThoseThatCameSince: whoever writes over a block in its slot must know when its bytes are new.
func TestFreshBlocksAreThoseThatCameSince(t *testing.T) {
	const n = 5
	d := enginetest.Open(t)
	plan, err := NewPlan(Options{Blocks: n, Slots: 3, Stream: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), d, &pattern{blocks: n}, Config{Plan: plan})
	if err != nil {
		t.Fatal(err)
	}
	if got := freshBlocks(t, d, s, n); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("in the first pass %v are fresh, want all", got)
	}
	if got := freshBlocks(t, d, s, n); !slices.Equal(got, plan.Streamed) {
		t.Errorf("in the second pass %v are fresh, want the streamed ones %v", got, plan.Streamed)
	}
	next := &shifted{pattern{blocks: n}, 1}
	if err := s.Refresh(t.Context(), next.change()); err != nil {
		t.Fatal(err)
	}
	var want []int
	for i, home := range plan.Home {
		if home < 0 || next.changed(i) {
			want = append(want, i)
		}
	}
	if got := freshBlocks(t, d, s, n); !slices.Equal(got, want) || len(want) == n {
		t.Errorf("after a refresh %v are fresh, want %v", got, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
