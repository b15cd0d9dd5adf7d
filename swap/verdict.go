package swap

import (
	"fmt"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/units"
)

// Run is what Judge needs to know of some passes.
type Run struct {
	Plan   Plan
	Tier   HostTier
	Shared bool // compute and copies take turns on one queue
	Passes int
	Time   time.Duration // of the passes together
	// Room is how many more blocks the device memory would hold; negative means that it is not known.
	Room      int
	Intervals Intervals // of these passes; none where the device has no timestamps
}

// Verdict says where the time of some passes went and what more resident blocks would change.
type Verdict struct {
	Bound  Bound         `json:"bound"`
	Waited time.Duration `json:"waited_ns"` // compute waited for weights
	Share  float64       `json:"waited_share"`
	// MoreBlocks on the device, StreamSlots of all being streamed through, would save Saves of the passes' time; 0 where none
	// would help or fit.
	MoreBlocks  int           `json:"more_blocks,omitempty"`
	StreamSlots int           `json:"stream_slots,omitempty"`
	Saves       time.Duration `json:"saves_ns,omitempty"`
	Text        string        `json:"text"` // all this in a clause that follows "was"
}

// Bound names what limits the speed.
type Bound string

// Bounds.
const (
	ComputeBound Bound = "compute"    // the GPU computes nearly all the time
	BusBound     Bound = "bus"        // blocks cross the bus more slowly than they are used
	ReadBound    Bound = "reading"    // the host reads blocks more slowly than they are used
	HostBound    Bound = "submission" // the GPU waits for work
	NotMeasured  Bound = "unknown"    // the device has no timestamps
)

// negligible is the share of the time that is not worth a block of memory, or a word.
const negligible = 0.005

// Judge works out a verdict from the intervals that were measured. What more resident blocks would save follows from
// replaying the measured computing and copying times with another plan.
func Judge(r Run) Verdict {
	t := r.Intervals.Timing()
	v := Verdict{Bound: ComputeBound, Waited: t.Stall, Share: share(t.Stall, r.Time)}
	if r.Shared { // copies hold the compute queue up while they run, and count as neither stall nor gap
		v.Waited, v.Share = t.Copying, share(t.Copying, r.Time)
		t.Gap = max(0, t.Gap-t.Copying)
	}
	total := units.Seconds(r.Time)
	switch {
	case t.Blocks == 0:
		v.Bound, v.Text = NotMeasured, "not measured: the device has no timestamps on its compute queue"
	case share(t.Gap, r.Time) > 0.1 && t.Gap > v.Waited:
		v.Bound = HostBound
		v.Text = fmt.Sprintf("held up by the host: the GPU had nothing to do for %s of %s between blocks", units.Percent(share(t.Gap, r.Time)), total)
	case len(r.Plan.Streamed) == 0:
		v.Text = "compute bound: all blocks are on the device, so nothing waited for weights"
	case v.Share < negligible:
		v.Text = fmt.Sprintf("compute bound, waited %s of %s for weights; more resident blocks would save next to nothing", units.Percent(v.Share), total)
	case r.Shared:
		v.Bound = BusBound
		v.Text = fmt.Sprintf("held up by copies, which take turns with compute on this device's one queue: %s of %s", units.Percent(v.Share), total)
		v.advise(r, t)
	case t.TransferIdle > t.Stall/2 && (r.Tier == Mapped || r.Tier == Mixed):
		v.Bound = ReadBound
		v.Text = fmt.Sprintf("bound by reading blocks from the checkpoint file, waited %s of %s for weights", units.Percent(v.Share), total)
		v.advise(r, t)
	default:
		v.Bound = BusBound
		v.Text = fmt.Sprintf("bus bound, waited %s of %s for weights", units.Percent(v.Share), total)
		v.advise(r, t)
	}
	return v
}

// advise finds how many more blocks are worth their memory, and says so. More slots to stream through are tried too: with two
// of them the bus must often wait for a slot although a resident block is being used.
func (v *Verdict) advise(r Run, t Timing) {
	c := measuredCosts(r, t, v.Bound)
	now := c.waiting(r.Plan)
	saves := func(more, stream int) time.Duration {
		p, err := r.Plan.with(more, stream)
		if err != nil || now <= 0 {
			return 0
		}
		// What was measured has its irregularities, so the replay says only which part of it would go.
		return time.Duration(float64(v.Waited) * float64(now-c.waiting(p)) / float64(now))
	}
	all := len(r.Plan.Streamed)
	fit := all
	if r.Room >= 0 {
		fit = min(all, r.Room)
	}
	for more := 1; more <= fit; more++ {
		for stream := r.Plan.Stream; stream <= r.Plan.Stream+moreSlots; stream++ {
			if gain := saves(more, stream); share(gain-v.Saves, r.Time) > negligible/4 {
				v.MoreBlocks, v.StreamSlots, v.Saves = more, stream, gain
			}
		}
	}
	switch {
	case v.MoreBlocks > 0:
		v.Text += "; " + v.offer(r)
	case fit == 0 && share(saves(all, r.Plan.Stream), r.Time) > negligible:
		v.Text += fmt.Sprintf("; resident blocks would save up to %s, but the device memory has no room for one more", units.Seconds(saves(all, r.Plan.Stream)))
	default:
		v.Text += "; more resident blocks would not help"
	}
}

// moreSlots is how many more slots to stream through are tried.
const moreSlots = 2

func (v *Verdict) offer(r Run) string {
	blocks, slots := "blocks", ""
	if v.MoreBlocks == 1 {
		blocks = "block"
	}
	if r.Plan.Policy == FIFO || v.MoreBlocks+r.Plan.Slots >= r.Plan.Blocks { // then it is not for the user to choose
		v.StreamSlots = 0
	}
	if v.StreamSlots > 0 && v.StreamSlots != r.Plan.Stream {
		slots = fmt.Sprintf(" (and --stream-slots %d)", v.StreamSlots)
	}
	return fmt.Sprintf("%d more resident %s%s would save %s", v.MoreBlocks, blocks, slots, units.Seconds(v.Saves))
}

func share(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
