package kandinsky5

import (
	"slices"
	"time"

	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Choice is what a plan settled, whether asked for or chosen.
type Choice struct {
	Auto            bool          `json:"auto"` // the number of blocks was chosen
	BlocksInMemory  int           `json:"blocks_in_memory"`
	StreamSlots     int           `json:"stream_slots"` // of these; 0: nothing is streamed
	HostTier        swap.HostTier `json:"host_tier"`
	PinnedBlocks    int           `json:"pinned_blocks"` // of those that wait; the others are read from the file for every step
	HeadGroups      int           `json:"head_groups"`   // of the visual attention, of which one is on the device at a time
	TextLayers      int           `json:"text_layers"`   // of the text encoder on the device while prompts are encoded
	ExpandLayers    int           `json:"expand_layers,omitempty"`
	TextLayersOf    int           `json:"text_layers_of"`
	Tile            [2]int        `json:"tile"`             // height and width that are decoded at once, in pixels
	WholeTile       [2]int        `json:"whole_tile"`       // what would be with memory to spare
	KeepTransformer bool          `json:"keep_transformer"` // the transformer stays on the device while the clip is decoded
}

// Apply returns the options with what the plan chose of them filled in.
func (c Choice) Apply(o Options) Options {
	o.BlocksInMemory, o.StreamSlots, o.HostTier, o.PinnedBlocks, o.HeadGroups, o.Auto = c.BlocksInMemory, c.StreamSlots, c.HostTier, c.PinnedBlocks, c.HeadGroups, false
	return o
}

// leastBlocks is how many blocks a choice has at least before other memory is given up: with one, no block can be copied
// while another is used.
const leastBlocks = 2

// ditPlan is a way to hold the transformer.
type ditPlan struct {
	needs  *dit.Needs
	tier   swap.HostTier
	groups int
	fits   bool
}

// mostGroups bounds the groups that a choice cuts heads into. More would save little: what they do not cut is the most by then.
const mostGroups = 16

// groups lists the numbers of groups of heads that may be chosen, the fewest first.
func (p *planner) groups() []int {
	if !p.opts.Auto || p.opts.HeadGroups > 0 {
		return []int{max(1, p.opts.HeadGroups)}
	}
	var list []int
	heads := DiTConfig(p.config).Heads()
	for n := 1; n <= min(heads, mostGroups); n++ {
		if heads%n == 0 {
			list = append(list, n)
		}
	}
	return list
}

// transformer decides how the transformer is held. More blocks on the device are never slower, as each saves a copy: so many
// are taken as fit. Activations are cut only where not even two blocks fit beside whole ones, and one block is the last
// resort, because with it no block can be copied while another is used.
func (p *planner) transformer() (best ditPlan, err error) {
	asked, groups := p.opts.BlocksInMemory, p.groups()
	choose := p.opts.Auto && asked == 0
	p.out.Choice.Auto = choose
	if p.smallest {
		if choose {
			asked = 1
		}
		return p.hold(asked, groups[len(groups)-1])
	}
	tries := []int{asked}
	if choose {
		tries = []int{min(leastBlocks, p.config.Model.DiT.NumVisualBlocks), 1}
	}
	for _, blocks := range tries {
		for _, n := range groups {
			best, err = p.hold(blocks, n)
			switch {
			case err != nil:
				return best, err
			case best.fits && choose:
				if best, err = p.mostBlocks(best); err != nil {
					return best, err
				}
				return p.bestSplit(best)
			case best.fits:
				return best, nil
			}
		}
	}
	return best, nil // the smallest there is
}

// mostBlocks finds the largest number of blocks that fits, from one that does.
func (p *planner) mostBlocks(best ditPlan) (ditPlan, error) {
	low, high := best.needs.Plan.Slots, p.config.Model.DiT.NumVisualBlocks+1 // low fits, high does not
	for high-low > 1 {
		middle := (low + high) / 2
		d, err := p.hold(middle, best.groups)
		if err != nil {
			return d, err
		}
		if d.fits {
			low, best = middle, d
		} else {
			high = middle
		}
	}
	return best, nil
}

// mostSlots bounds the slots that a choice streams blocks through.
const mostSlots = 4

// bestSplit gives more of the blocks in memory to streaming where that waits less at the rates that are known: a resident block
// saves a copy, a slot lets copies run further ahead.
func (p *planner) bestSplit(best ditPlan) (ditPlan, error) {
	r, swapped := p.limits.Rates, best.needs.Plan
	if r.Compute <= 0 || r.Bus <= 0 || len(swapped.Streamed) == 0 || p.opts.StreamSlots > 0 || swapped.Policy == swap.FIFO {
		return best, nil
	}
	waiting := func(d ditPlan) time.Duration {
		m := MemoryPlan{Settings: p.out.Settings, Swap: d.needs.Plan, BlockBytes: d.needs.BlockBytes, StepWork: stepWork(p.config, p.out.Settings, slices.Max(p.rows))}
		return m.Predict(r).Waiting
	}
	least := waiting(best)
	for slots := swapped.Stream + 1; slots <= min(mostSlots, swapped.Slots); slots++ {
		q := *p
		q.opts.StreamSlots = slots
		d, err := q.hold(swapped.Slots, best.groups)
		if err != nil {
			return best, err
		}
		// A percent less is not worth another shape.
		if w := waiting(d); d.fits && d.tier == best.tier && w < least-least/100 {
			best, least = d, w
		}
	}
	return best, nil
}

// hold plans for so many blocks on the device, 0 for all, where the others wait in pinned memory as far as that holds them.
func (p *planner) hold(blocks, groups int) (d ditPlan, err error) {
	r := p.ditRequest(blocks)
	r.Options.HeadGroups = groups
	r.Options.Visual.Tier = p.opts.HostTier
	if r.Options.Visual.Tier == "" {
		r.Options.Visual.Tier = swap.Pinned
	}
	d.needs, err = p.ditNeeds(r)
	chosen := r.Options.Visual
	switch {
	case err != nil:
		return d, err
	case p.opts.HostTier == "":
		err = p.hostTier(&r, d.needs)
	case p.opts.HostTier == swap.Mixed:
		p.pinSome(&r, d.needs)
	}
	if err != nil {
		return d, err
	}
	if v := r.Options.Visual; v.Tier != chosen.Tier || v.Pinned != chosen.Pinned {
		if d.needs, err = p.ditNeeds(r); err != nil {
			return d, err
		}
	}
	d.groups, d.tier = groups, r.Options.Visual.Tier
	d.fits = p.limits.Device == 0 || d.needs.Device().After(p.held).Bytes() <= p.limits.Device
	return d, nil
}
