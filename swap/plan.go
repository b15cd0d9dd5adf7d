package swap

import "fmt"

// Policy says which blocks stay on the device.
type Policy string

// Policies. Access is a cyclic scan, on which least-recently-used and first-in-first-out never hit: Resident keeps as
// many blocks as there are slots to spare and streams the rest; FIFO takes every slot in turn and is there to compare.
const (
	Resident Policy = "resident"
	FIFO     Policy = "fifo"
)

// Options ask for a plan.
type Options struct {
	Blocks int    // n, blocks of a pass
	Slots  int    // k, blocks on the device at once; larger than n means n
	Stream int    // p, slots that blocks stream through (Resident only); 0: 2, or 1 where Slots is 1
	Policy Policy // "" means Resident
}

// Plan says where every block lies and in which order blocks are loaded. It is plain data.
type Plan struct {
	Policy   Policy `json:"policy"`
	Blocks   int    `json:"blocks"`
	Slots    int    `json:"slots"`
	Stream   int    `json:"stream"`   // streaming slots
	Home     []int  `json:"-"`        // slot of a resident block, −1 for a streamed one
	Streamed []int  `json:"streamed"` // streamed blocks in order
}

// NewPlan makes the plan. Errors name the impossible number.
//
// The k − p residents are spread evenly among the streamed blocks, so that every copy has the compute of about as many
// resident blocks to hide behind.
func NewPlan(o Options) (Plan, error) {
	if o.Policy == "" {
		o.Policy = Resident
	}
	if o.Policy != Resident && o.Policy != FIFO {
		return Plan{}, fmt.Errorf("unknown swap policy %q: use %s or %s", o.Policy, Resident, FIFO)
	}
	if o.Blocks < 1 {
		return Plan{}, fmt.Errorf("a model of %d blocks cannot be swapped", o.Blocks)
	}
	if o.Slots < 1 {
		return Plan{}, fmt.Errorf("%d blocks in memory: at least 1 is needed", o.Slots)
	}
	k := min(o.Slots, o.Blocks)
	p := o.Stream
	switch {
	case k == o.Blocks:
		p = 0
	case o.Policy == FIFO:
		p = k
	case p == 0:
		p = min(2, k)
	case p < 0 || p > k:
		return Plan{}, fmt.Errorf("%d streaming slots of %d blocks in memory: use 1 to %d", p, k, k)
	}
	plan := Plan{Policy: o.Policy, Blocks: o.Blocks, Slots: k, Stream: p, Home: make([]int, o.Blocks)}
	resident := k - p
	for b := range plan.Home {
		// Block b is resident when the number of residents due among the first b+1 blocks grows at b.
		before, after := b*resident/o.Blocks, (b+1)*resident/o.Blocks
		if after > before {
			plan.Home[b] = before
		} else {
			plan.Home[b] = -1
			plan.Streamed = append(plan.Streamed, b)
		}
	}
	return plan, nil
}

// Load is the copy that brings a streamed block for one access.
type Load struct {
	Number int // counted through all passes, from 0
	Block  int
	Slot   int
	// After is the load whose block lay in the slot before and must have been used, −1 for none.
	After int
}

// Load returns the n-th load.
func (p Plan) Load(n int) Load {
	l := Load{Number: n, Block: p.Streamed[n%len(p.Streamed)], Slot: p.Slots - p.Stream + n%p.Stream, After: n - p.Stream}
	if l.After < 0 {
		l.After = -1
	}
	return l
}

// with returns the same plan with more blocks on the device and another number of slots to stream through.
func (p Plan) with(more, stream int) (Plan, error) {
	o := Options{Blocks: p.Blocks, Slots: p.Slots + more, Policy: p.Policy}
	if p.Policy != FIFO {
		o.Stream = stream
	}
	return NewPlan(o)
}

// LoadsPerPass returns how many blocks cross the bus in a pass.
func (p Plan) LoadsPerPass() int { return len(p.Streamed) }

// String describes the plan in a line.
func (p Plan) String() string {
	if len(p.Streamed) == 0 {
		return fmt.Sprintf("all %d blocks resident", p.Blocks)
	}
	return fmt.Sprintf("%d of %d blocks resident, %d streamed through %d slots (%s)", p.Slots-p.Stream, p.Blocks, len(p.Streamed), p.Stream, p.Policy)
}
