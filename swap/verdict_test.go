package swap

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

const ms = time.Millisecond

// played makes the marks of passes under a plan on a device where blocks compute and load for so long, by replaying them: the
// yardstick that Judge is held against. gap is the host's time between two blocks.
func played(p Plan, passes int, compute, load, gap time.Duration) (run Run) {
	uses, copies := playedSpans(p, passes, compute, load, gap)
	return Run{Plan: p, Passes: passes, Time: nanoseconds(uses[len(uses)-1].End), Room: -1, Intervals: IntervalsOf(uses, copies)}
}

func playedSpans(p Plan, passes int, compute, load, gap time.Duration) (uses, copies []engine.Span) {
	var now, bus time.Duration
	var ready []time.Duration
	start := func(n int, free time.Duration) {
		begin := max(bus, free)
		bus = begin + load
		copies = append(copies, framed("copy", p.Load(n).Block, float64(begin), float64(bus))...)
		ready = append(ready, bus)
	}
	if len(p.Streamed) > 0 {
		for n := range p.Stream {
			start(n, 0)
		}
	}
	next := 0
	for range passes {
		for b, home := range p.Home {
			if home < 0 {
				now = max(now, ready[next])
			}
			now += gap
			uses = append(uses, framed("block", b, float64(now), float64(now+compute))...)
			now += compute
			if home < 0 {
				start(next+p.Stream, now)
				next++
			}
		}
	}
	return uses, copies
}

func mustPlan(t *testing.T, o Options) Plan {
	t.Helper()
	p, err := NewPlan(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name               string
		plan               Options
		compute, load, gap time.Duration
		change             func(*Run)
		bound              Bound
		blocks             int // more of them
		text               string
	}{
		{name: "all resident", plan: Options{Blocks: 60, Slots: 60}, compute: 100 * ms, bound: ComputeBound, text: "compute bound: all blocks are on the device"},
		{name: "copies hide", plan: Options{Blocks: 60, Slots: 2}, compute: 100 * ms, load: 12 * ms, bound: ComputeBound,
			text: "compute bound, waited 0 % of 12.01 s for weights; more resident blocks would save next to nothing"},
		{name: "the bus is slow", plan: Options{Blocks: 60, Slots: 2}, compute: 10 * ms, load: 12 * ms, bound: BusBound, blocks: 11,
			text: "bus bound, waited 16 % of 1.45 s for weights; 11 more resident blocks (and --stream-slots 3) would save 238.0 ms"},
		{name: "the bus is very slow", plan: Options{Blocks: 60, Slots: 2}, compute: 1 * ms, load: 12 * ms, bound: BusBound, blocks: 55,
			text: "more resident blocks would save"},
		{name: "no room for another block", plan: Options{Blocks: 60, Slots: 2}, compute: 10 * ms, load: 12 * ms, bound: BusBound,
			change: func(r *Run) { r.Room = 0 }, text: "but the device memory has no room for one more"},
		{name: "room for one block", plan: Options{Blocks: 60, Slots: 2}, compute: 10 * ms, load: 12 * ms, bound: BusBound, blocks: 1,
			change: func(r *Run) { r.Room = 1 }, text: "; 1 more resident block would save 11.9 ms"},
		{name: "one slot shows every copy", plan: Options{Blocks: 8, Slots: 1}, compute: 10 * ms, load: 5 * ms, bound: BusBound, blocks: 1, text: "waited 31 % of 240.0 ms for weights; 1 more resident block (and --stream-slots 2) would save 75.0 ms"},
		{name: "first in, first out", plan: Options{Blocks: 6, Slots: 3, Policy: FIFO}, compute: 5 * ms, load: 10 * ms, bound: BusBound, blocks: 3, text: "3 more resident blocks"},
		{name: "the file is slow", plan: Options{Blocks: 60, Slots: 2}, compute: 10 * ms, load: 12 * ms, bound: ReadBound, blocks: 11,
			change: func(r *Run) { r.Tier = Mapped; halveCopies(r) }, text: "bound by reading blocks from the checkpoint file"},
		{name: "the host is slow", plan: Options{Blocks: 60, Slots: 2}, compute: 10 * ms, load: 1 * ms, gap: 5 * ms, bound: HostBound, text: "held up by the host"},
		{name: "one queue", plan: Options{Blocks: 10, Slots: 2}, compute: 10 * ms, load: 2 * ms, bound: BusBound, blocks: 8,
			change: func(r *Run) { r.Shared = true }, text: "take turns with compute on this device's one queue"},
		{name: "no timestamps", plan: Options{Blocks: 10, Slots: 2}, compute: 10 * ms, load: 2 * ms, bound: NotMeasured,
			change: func(r *Run) { r.Intervals = Intervals{} }, text: "no timestamps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := played(mustPlan(t, c.plan), 2, c.compute, c.load, c.gap)
			if c.change != nil {
				c.change(&run)
			}
			v := Judge(run)
			if v.Bound != c.bound || v.MoreBlocks != c.blocks || !strings.Contains(v.Text, c.text) {
				t.Errorf("got %+v, want bound %s, %d more blocks, %q", v, c.bound, c.blocks, c.text)
			}
			if (v.MoreBlocks > 0) != (v.Saves > 0) || v.Saves > v.Waited {
				t.Errorf("%d more blocks save %v of %v", v.MoreBlocks, v.Saves, v.Waited)
			}
		})
	}
}

// halveCopies makes the first half of each copy the host's reading.
func halveCopies(r *Run) {
	for k := range r.Intervals.Copies {
		c := &r.Intervals.Copies[k]
		c.Begin = (c.Begin + c.End) / 2
	}
}

// What Judge promises is what a run with that many more blocks gains.
func TestJudgePredictsTheRunWithMoreBlocks(t *testing.T) {
	for _, c := range []struct{ compute, load time.Duration }{{10 * ms, 12 * ms}, {10 * ms, 25 * ms}, {10 * ms, 11 * ms}, {1 * ms, 40 * ms}} {
		for _, room := range []int{1, 3, 9, 30} {
			t.Run(fmt.Sprintf("%v, %v, room for %d", c.compute, c.load, room), func(t *testing.T) {
				now := played(mustPlan(t, Options{Blocks: 40, Slots: 2}), 6, c.compute, c.load, 0)
				now.Room = room
				v := Judge(now)
				if v.MoreBlocks == 0 {
					t.Fatalf("no advice: %+v", v)
				}
				then := played(mustPlan(t, Options{Blocks: 40, Slots: 2 + v.MoreBlocks, Stream: v.StreamSlots}), 6, c.compute, c.load, 0)
				saved := now.Time - then.Time
				if off := (v.Saves - saved).Abs(); off > now.Time/50 {
					t.Errorf("%d more blocks save %v, promised were %v", v.MoreBlocks, saved, v.Saves)
				}
			})
		}
	}
}

func TestDisorderFindsClocksThatDiffer(t *testing.T) {
	p := mustPlan(t, Options{Blocks: 8, Slots: 3})
	run := played(p, 3, 10*ms, 7*ms, 0)
	if n := run.Intervals.Disorder(p, 0); n != 0 {
		t.Errorf("%d impossible orders in a run that was possible", n)
	}
	for k := range run.Intervals.Copies { // the transfer queue's clock is ahead
		run.Intervals.Copies[k].Begin += float64(9 * ms)
		run.Intervals.Copies[k].End += float64(9 * ms)
	}
	if n := run.Intervals.Disorder(p, ms); n == 0 {
		t.Error("copies that end 9 ms after their blocks' use began were not seen")
	}
	if n := run.Intervals.Disorder(p, time.Hour); n != 0 {
		t.Error("the tolerance has no effect")
	}
}

func TestSinceLeavesOutWhatIsOver(t *testing.T) {
	run := played(mustPlan(t, Options{Blocks: 4, Slots: 2}), 2, 10*ms, 5*ms, 0)
	half := run.Intervals.Uses[4].Begin
	later := run.Intervals.Since(half)
	if len(later.Uses) != 4 || len(later.Copies) == 0 || len(later.Copies) >= len(run.Intervals.Copies) {
		t.Errorf("%d uses and %d copies are left of %d and %d", len(later.Uses), len(later.Copies), len(run.Intervals.Uses), len(run.Intervals.Copies))
	}
	for _, c := range later.Copies {
		if c.End <= half {
			t.Errorf("copy %+v was over at %g", c, half)
		}
	}
}
