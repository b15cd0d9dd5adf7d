package dit

import (
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Less of the activations at a time must not change a bit, wherever the cuts fall.
func TestGroupsOfHeadsGiveTheSameVelocity(t *testing.T) {
	full := Config{DiTConfig: weights.SmallSynth().DiT}
	full.NumVisualBlocks, full.NumTextBlocks, full.FFDim, full.AxesDims = 1, 1, 128, [3]int{8, 12, 12}
	sparse := full
	sparse.Nabla = &Nabla{P: 0.8, Window: [3]int{3, 3, 3}}
	scale := [3]float32{1, 2, 2}
	// The first has 5·5·13 = 325 tokens: the last piece of 5 would be computed in another way than many rows are.
	odd, square := Size{Frames: 5, Height: 10, Width: 26, RopeScale: scale}, Size{Frames: 4, Height: 32, Width: 32, RopeScale: scale}
	if full.Heads() < 4 || odd.Tokens()%64 > fewRows || odd.Tokens()%64 == 0 {
		t.Fatalf("%d heads, %d tokens", full.Heads(), odd.Tokens())
	}
	cut := engine.Options{Limits: engine.TestLimits{MaxAllocation: 480 << 10, MaxStorageRange: 256 << 10, MaxDispatchCost: 4e6}}
	devices := map[string]*engine.Device{"device": enginetest.Open(t), "device that allows little at once": enginetest.OpenWith(t, cut)}
	for _, c := range []struct {
		name   string
		device string
		config Config
		size   Size
		groups []int
	}{
		{"odd", "device", full, odd, []int{2, full.Heads()}},
		{"NABLA", "device", sparse, Size{Frames: 2, Height: 32, Width: 32, RopeScale: scale}, []int{full.Heads() / 2}},
		{"cut", "device that allows little at once", full, square, []int{full.Heads()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := devices[c.device]
			want := velocityOf(t, d, c.config, Options{}, c.size)
			for _, groups := range c.groups {
				if got := velocityOf(t, d, c.config, Options{HeadGroups: groups}, c.size); !slices.Equal(got, want) {
					t.Errorf("velocities of %d groups differ", groups)
				}
			}
		})
	}
	if _, err := New(t.Context(), devices["device"], load.Synthetic(weights.BF16), full, Options{HeadGroups: full.Heads() + 1}); err == nil {
		t.Error("heads are cut into groups that do not divide them")
	}
}

func TestRowsAreCutSoThatAllPiecesAreComputedAlike(t *testing.T) {
	for n := 1; n < 700; n++ {
		for _, atATime := range []int{128, 192, 256, n} {
			next := 0
			cutRows(n, atATime, func(from, to int) {
				if from != next || to <= from || to-from > max(atATime, 1) || to < n && to%64 != 0 || n > atATime && to-from <= fewRows {
					t.Fatalf("%d rows, %d at a time: [%d, %d) follows %d", n, atATime, from, to, next)
				}
				next = to
			})
			if next != n {
				t.Fatalf("%d rows, %d at a time: %d are covered", n, atATime, next)
			}
		}
	}
}

// Groups are there to take less.
func TestGroupsOfHeadsTakeLessMemory(t *testing.T) {
	c := Config{DiTConfig: weights.ProVideoDiT()}
	need := func(groups int) int64 {
		n, err := Plan(Request{Config: c, Reader: load.Synthetic(weights.BF16), Half: true, Size: Size{Frames: 31, Height: 64, Width: 96}, TextRows: 256, Branches: 2,
			Options: Options{HeadGroups: groups, Visual: SwapOptions{Slots: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		return n.Device().Bytes()
	}
	last := need(1)
	for _, groups := range []int{2, 4, 8} {
		now := need(groups)
		if now > last-(50<<20) {
			t.Errorf("%d groups take %d bytes, half as many %d", groups, now, last)
		}
		last = now
	}
	if whole := need(1); whole-last < 900<<20 {
		t.Errorf("8 groups take %d bytes, one %d", last, whole)
	}
}
