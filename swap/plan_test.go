package swap

import (
	"strings"
	"testing"
)

func TestEveryPlanServesEveryAccessInOrder(t *testing.T) {
	for n := 1; n <= 9; n++ {
		for k := 1; k <= n+1; k++ {
			for p := 0; p <= k; p++ {
				for _, policy := range []Policy{Resident, FIFO} {
					plan, err := NewPlan(Options{Blocks: n, Slots: k, Stream: p, Policy: policy})
					if err != nil {
						t.Fatalf("n=%d k=%d p=%d %s: %v", n, k, p, policy, err)
					}
					simulate(t, plan)
				}
			}
		}
	}
}

// simulate walks three passes and checks that each access finds its block in a slot that nobody else holds.
func simulate(t *testing.T, plan Plan) {
	t.Helper()
	slots := make([]int, plan.Slots)
	for k := range slots {
		slots[k] = -1
	}
	for b, home := range plan.Home {
		if home >= 0 {
			if slots[home] != -1 {
				t.Fatalf("%+v: two residents in slot %d", plan, home)
			}
			slots[home] = b
		}
	}
	next := 0
	for q := range 3 * plan.Blocks {
		b := q % plan.Blocks
		if plan.Home[b] >= 0 {
			if slots[plan.Home[b]] != b {
				t.Fatalf("%+v: resident %d was overwritten", plan, b)
			}
			continue
		}
		l := plan.Load(next)
		if l.Block != b || l.Slot < plan.Slots-plan.Stream || l.Slot >= plan.Slots {
			t.Fatalf("%+v: access %d of block %d gets %+v", plan, q, b, l)
		}
		if l.After >= 0 && plan.Load(l.After).Slot != l.Slot {
			t.Fatalf("%+v: load %+v waits for a load of another slot", plan, l)
		}
		slots[l.Slot] = b
		next++
	}
	if len(plan.Streamed)+plan.Slots-plan.Stream != plan.Blocks {
		t.Fatalf("%+v: residents and streamed blocks are not all", plan)
	}
}

func TestImpossiblePlansNameTheNumber(t *testing.T) {
	for want, o := range map[string]Options{
		"0 blocks in memory":      {Blocks: 4},
		"-1 blocks in memory":     {Blocks: 4, Slots: -1},
		"3 streaming slots":       {Blocks: 4, Slots: 2, Stream: 3},
		"unknown swap policy":     {Blocks: 4, Slots: 2, Policy: "lru"},
		"a model of 0 blocks":     {Slots: 2},
		"-1 streaming slots of 2": {Blocks: 4, Slots: 2, Stream: -1},
	} {
		if _, err := NewPlan(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", o, err, want)
		}
	}
}

func TestResidentsAreSpreadEvenly(t *testing.T) {
	plan, err := NewPlan(Options{Blocks: 60, Slots: 32, Stream: 2})
	if err != nil {
		t.Fatal(err)
	}
	run := 0
	for _, home := range plan.Home {
		if home >= 0 {
			run = 0
		} else if run++; run > 1 {
			t.Fatalf("two streamed blocks in a row: %v", plan.Home)
		}
	}
}

func TestCountersSinceAnEarlierReading(t *testing.T) {
	c := Counters{10, 20, 30, 40, 50, 60, 70, 80, 90}
	if got, want := c.Since(Counters{1, 2, 3, 4, 5, 6, 7, 8, 9}), (Counters{9, 18, 27, 36, 45, 54, 63, 80, 81}); got != want { // how many are pinned is no sum
		t.Errorf("got %+v, want %+v", got, want)
	}
}
