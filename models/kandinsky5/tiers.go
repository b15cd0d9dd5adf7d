package kandinsky5

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// mixedBlocks returns how many blocks the mixed tier pins where so many bytes may be pinned: other is what is pinned besides
// the ring. 0: the ring alone does not leave room for one, and blocks wait in the checkpoint file.
func mixedBlocks(room, other, block int64, streamed int) int {
	_, ring := swap.Mixed.Pins(streamed, 0, 0)
	n := (room-other)/max(block, 1) - int64(ring)
	return int(max(0, min(n, int64(streamed-1))))
}

// hostTier chooses where blocks wait, from what r needs when all are pinned: there if they have room, else as many of them as
// have, else in the file. Rounded blocks cannot be read again, so they are pinned in any case. r gets the choice.
func (p *planner) hostTier(r *dit.Request, pinned *dit.Needs) error {
	room := p.limits.Host
	if p.opts.Linear == load.LinearInt8 || room <= 0 || pinned.PinnedLoad+leastStaging <= room {
		return nil
	}
	r.Options.Visual.Tier = swap.Mapped
	mapped, err := p.ditNeeds(*r) // a block may be larger there, with adapters beside it
	if err == nil {
		p.pinSome(r, mapped)
	}
	return err
}

// pinSome pins as many blocks of a request as there is room for, beside what uploads, downloads and hashing take.
func (p *planner) pinSome(r *dit.Request, needs *dit.Needs) {
	streamed := len(needs.Plan.Streamed)
	other := max(0, needs.PinnedLoad-needs.Pinned) + leastStaging
	if p.hashes {
		other += p.latents().Bytes()
	}
	n := streamed
	if p.limits.Host > 0 {
		n = mixedBlocks(p.limits.Host, other, needs.BlockBytes, streamed)
	}
	if p.opts.PinnedBlocks > 0 {
		n = min(n, p.opts.PinnedBlocks)
	}
	if n > 0 || r.Options.Visual.Tier == swap.Mixed {
		r.Options.Visual.Tier, r.Options.Visual.Pinned = swap.Mixed, n
	}
}

// heldNeeds is what a transformer held like that needs, whatever it works on.
func (g *run) heldNeeds(o dit.Options) (*dit.Needs, error) {
	return dit.Plan(dit.Request{Config: g.ckpt.ditConfig(), Reader: g.transformerReader(), Options: o, Size: dit.Size{Frames: 1, Height: 16, Width: 16}, TextRows: 1, Branches: 1})
}

// pinSome pins as many blocks as there is room for without a plan, and leaves all in the checkpoint file if that is none.
func (g *run) pinSome(o *dit.Options) error {
	o.Visual.Tier = swap.Mapped
	needs, err := g.heldNeeds(*o)
	if err != nil {
		return err
	}
	o.Visual.Pinned = mixedBlocks(g.hostRoom(), needs.PinnedLoad-needs.Pinned+leastStaging, needs.BlockBytes, len(needs.Plan.Streamed))
	if o.Visual.Pinned > 0 {
		o.Visual.Tier = swap.Mixed
	}
	return nil
}

// waiting are the pinned memory's items for blocks that wait.
func waiting(d ditPlan) []PlanItem {
	needs := d.needs
	blocks := int64(needs.PinnedBlocks) * needs.BlockBytes
	return []PlanItem{{InPinned, "waiting blocks", "denoise", blocks}, {InPinned, "staging ring for blocks", "denoise", needs.Pinned - blocks}}
}

// pinnedRoom is asked while blocks are being pinned, how many bytes may still be.
func (g *run) pinnedRoom() int64 { return g.hostRoom() - leastStaging }

// hostRoom is how many bytes of pinned memory blocks may take: the driver's budget and what the machine has free, less
// an eighth for everybody else.
func (g *run) hostRoom() int64 { return hostRoom(g.device, g.opts) }

// anyRoom is what hostRoom returns where nothing is known to limit it.
const anyRoom = 1 << 62

func hostRoom(d *engine.Device, o Options) int64 {
	room := int64(anyRoom)
	if left, known := d.PinnedLeft(); known {
		room = left
	}
	if o.HostMemory > 0 {
		return min(room, o.HostMemory)
	}
	if free, ok := hostmem.Available(); ok {
		room = min(room, free-free/8)
	}
	return room
}

// limits are those of the device as if this pipeline had nothing there yet: a transformer that was kept gives way, or stays
// where it is.
func (p *Pipeline) limits() PlanLimits {
	l := LimitsOf(p.device, p.opts)
	if p.dit != nil && l.Host > 0 {
		l.Host += p.dit.PinnedBytes()
		if budget, _ := p.device.Mem.Budget(memory.Upload); budget > 0 {
			l.Host = min(l.Host, budget)
		}
		if p.opts.HostMemory > 0 {
			l.Host = min(l.Host, p.opts.HostMemory)
		}
	}
	return l
}

// heldAs says whether the transformer that was kept lies as the plan has it. It may have fewer blocks pinned than there is
// room for by now, which is not worth loading it anew.
func (g *run) heldAs(plan *MemoryPlan) bool {
	c := plan.Choice
	counters, held := g.dit.Counters()
	return held.Slots == c.BlocksInMemory && g.tier == plan.HostTier && g.dit.HeadGroups() == c.HeadGroups &&
		(g.tier != swap.Mixed || counters.PinnedBlocks <= c.PinnedBlocks)
}
