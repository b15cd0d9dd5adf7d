package swap

import (
	"errors"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
)

func TestPinnedBlocksLieApartHoweverManyThereAre(t *testing.T) {
	blocks := make([]int, 58)
	for k := range blocks {
		blocks[k] = 60 + k
	}
	for n := range len(blocks) + 1 {
		picked := spread(blocks, n)
		slices.Sort(picked)
		if len(picked) != n || len(slices.Compact(slices.Clone(picked))) != n {
			t.Fatalf("%d of %d blocks: %v", n, len(blocks), picked)
		}
		// Between two that are read lie at most ⌈n/(m−n)⌉ pinned ones, and at least ⌊…⌋−1.
		run, longest := 0, 0
		for _, b := range blocks {
			if run++; slices.Contains(picked, b) {
				run = 0
			}
			longest = max(longest, run)
		}
		if rest := len(blocks) - n; n > 0 && longest > (rest+n-1)/n {
			t.Errorf("%d pinned of %d: %d blocks in a row are read", n, len(blocks), longest)
		}
	}
	if first := spread(blocks, 32)[:2]; first[1]-first[0] < 16 {
		t.Errorf("the first two that are pinned are %v", first)
	}
}

func TestMixedTierPinsWhatThereIsRoomForAndReadsTheRest(t *testing.T) {
	d := enginetest.Open(t)
	for _, c := range []struct{ streamed, pinned, room, want int }{{5, 0, 9, 0}, {5, 2, 9, 2}, {5, 4, 9, 4}, {5, 4, 3, 3}, {5, 4, 0, 0}, {5, 7, 9, 5}} {
		plan, err := NewPlan(Options{Blocks: 6, Slots: 2, Stream: 1})
		if err != nil {
			t.Fatal(err)
		}
		source, asked := &pattern{blocks: 6}, 0
		s, err := New(t.Context(), d, source, Config{Plan: plan, Tier: Mixed, Pinned: c.pinned, Room: func() int64 {
			if asked++; asked > c.room {
				return patternBytes - 1
			}
			return patternBytes
		}})
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		before := source.reads.Load()
		if err := walk(t, d, s, 6, 3); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		got := s.Counters()
		if err := s.Close(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		// Reads run ahead by the ring, so there are a few more than three passes use.
		through := int64(3 * (c.streamed - c.want))
		if reads := source.reads.Load() - before; got.PinnedBlocks != c.want || got.Reads < through || reads > through+int64(defaultRing)+1 {
			t.Errorf("%+v: %d blocks pinned, %d reads counted, %d made", c, got.PinnedBlocks, got.Reads, reads)
		}
	}
}

func TestMixedTierGoesOnWithFewerPinnedBlocksWhenTheDriverRefuses(t *testing.T) {
	faults := &engine.Faults{}
	d := enginetest.OpenWith(t, engine.Options{Faults: faults, Limits: engine.TestLimits{Chunk: 1 << 10}}) // each region an allocation
	plan, err := NewPlan(Options{Blocks: 8, Slots: 2, Stream: 1})
	if err != nil {
		t.Fatal(err)
	}
	for refused, want := range map[int64]int{1: 0, 2: 0, 3: 1, 5: 3} { // the last one that was pinned is given back
		// Before: two slots, a staging buffer for the resident block, two of the ring.
		faults.AllocateAt = faults.Allocations() + 5 + refused
		s, err := New(t.Context(), d, &pattern{blocks: 8}, Config{Plan: plan, Tier: Mixed, Pinned: 6})
		if err != nil {
			t.Fatalf("pinned block %d refused: %v", refused, err)
		}
		if got := s.Counters().PinnedBlocks; got != want {
			t.Errorf("pinned block %d refused: %d are pinned, want %d", refused, got, want)
		}
		if err := walk(t, d, s, 8, 2); err != nil {
			t.Errorf("pinned block %d refused: %v", refused, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// In the middle of a run, every read through the ring may be the one that fails.
func TestAReadThatFailsInTheMiddleOfARunEndsItWithItsError(t *testing.T) {
	for _, limits := range []engine.TestLimits{{}, {SingleQueue: true}} {
		d := enginetest.OpenWith(t, engine.Options{Limits: limits})
		for _, tier := range []HostTier{Mapped, Mixed} {
			plan, err := NewPlan(Options{Blocks: 6, Slots: 3, Stream: 2})
			if err != nil {
				t.Fatal(err)
			}
			first := int64(1) // reads of the start: the resident block, those pinned
			if tier == Mixed {
				first = 3
			}
			for n := first + 1; n < first+9; n++ {
				s, err := New(t.Context(), d, &pattern{blocks: 6, failAt: n}, Config{Plan: plan, Tier: tier, Pinned: 2})
				if err != nil {
					t.Fatalf("%s, read %d: %v", tier, n, err)
				}
				err = walk(t, d, s, 6, 3)
				if closed := s.Close(); !errors.Is(errors.Join(err, closed), errDisk) {
					t.Errorf("%s, read %d fails: got %v, and closing %v", tier, n, err, closed)
				}
			}
		}
		if left := d.Mem.Used(memory.Upload); left > 64<<20 {
			t.Errorf("%d bytes stay pinned", left)
		}
	}
}
