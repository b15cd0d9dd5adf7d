package kandinsky5

import (
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Choice is what a plan settled, whether asked for or chosen.
type Choice struct {
	Auto            bool          `json:"auto"` // the number of blocks was chosen
	BlocksInMemory  int           `json:"blocks_in_memory"`
	StreamSlots     int           `json:"stream_slots"` // of these; 0: nothing is streamed
	HostTier        swap.HostTier `json:"host_tier"`
	TextLayers      int           `json:"text_layers"` // of the text encoder on the device while prompts are encoded
	ExpandLayers    int           `json:"expand_layers,omitempty"`
	TextLayersOf    int           `json:"text_layers_of"`
	Tile            [2]int        `json:"tile"`             // height and width that are decoded at once, in pixels
	WholeTile       [2]int        `json:"whole_tile"`       // what would be with memory to spare
	KeepTransformer bool          `json:"keep_transformer"` // the transformer stays on the device while the clip is decoded
}

// Apply returns the options with what the plan chose of them filled in.
func (c Choice) Apply(o Options) Options {
	o.BlocksInMemory, o.StreamSlots, o.HostTier, o.Auto = c.BlocksInMemory, c.StreamSlots, c.HostTier, false
	return o
}

// leastBlocks is how many blocks a choice has at least before other memory is given up: with one, no block can be copied
// while another is used.
const leastBlocks = 2

// ditPlan is a way to hold the transformer.
type ditPlan struct {
	needs *dit.Needs
	tier  swap.HostTier
	fits  bool
}

// transformer decides how the transformer is held. More blocks on the device are never slower: each saves a copy, so as
// many are taken as fit.
func (p *planner) transformer() (ditPlan, error) {
	total := p.config.Model.DiT.NumVisualBlocks
	if !p.opts.Auto || p.opts.BlocksInMemory > 0 {
		return p.hold(p.opts.BlocksInMemory)
	}
	p.out.Choice.Auto = true
	if p.smallest {
		return p.hold(1)
	}
	best, err := p.mostBlocks(total)
	return best, err
}

// mostBlocks finds the largest number of blocks that fit; if not one does, it returns the plan for one.
func (p *planner) mostBlocks(total int) (ditPlan, error) {
	best, err := p.hold(total)
	if err != nil || best.fits {
		return best, err
	}
	if best, err = p.hold(1); err != nil || !best.fits {
		return best, err
	}
	// low fits and high does not.
	for low, high := 1, total; high-low > 1; {
		middle := (low + high) / 2
		d, err := p.hold(middle)
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

// hold plans for so many blocks on the device, 0 for all, where the others wait in pinned memory if that holds them.
func (p *planner) hold(blocks int) (d ditPlan, err error) {
	d.tier = p.opts.HostTier
	if d.tier == "" {
		d.tier = swap.Pinned
	}
	r := p.ditRequest(blocks)
	r.Options.Visual.Tier = d.tier
	d.needs, err = dit.Plan(r)
	if err == nil && p.opts.HostTier == "" && p.limits.Host > 0 && d.needs.PinnedLoad+leastStaging > p.limits.Host {
		d.tier, r.Options.Visual.Tier = swap.Mapped, swap.Mapped
		d.needs, err = dit.Plan(r)
	}
	if err != nil {
		return d, err
	}
	d.fits = p.limits.Device == 0 || d.needs.Device().After(p.held).Bytes() <= p.limits.Device
	return d, nil
}
