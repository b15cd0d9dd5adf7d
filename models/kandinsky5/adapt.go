package kandinsky5

import (
	"context"
	"errors"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// maxAttempts bounds how often a run begins a stage anew, each time with less memory.
const maxAttempts = 4

// makeDo tells, after a stage failed for lack of device memory, whether it may begin anew with a smaller plan, which is put
// into force. Denoising goes on after the last step it has made. Otherwise it returns the error with the plan.
func (g *run) makeDo(stage Stage, err error) (again bool, _ error) {
	var budget *memory.BudgetError
	switch {
	case !g.auto:
		return false, err
	case errors.As(err, &budget) && budget.Kind != memory.Device, errors.Is(err, vk.ErrOutOfHostMemory):
		return g.makeDoUnpinned(stage, err)
	case errors.As(err, &budget) && budget.Kind == memory.Device, errors.Is(err, vk.ErrOutOfDeviceMemory):
	default:
		return false, err
	}
	if g.dit != nil && stage != StageDenoise && stage != StageDecode {
		return true, g.freeTransformer() // kept from the clip before; it is loaded again when it is needed
	}
	reached := g.device.Mem.Peak(memory.Device)
	if freed := g.freeTransformer(); freed != nil {
		return false, fmt.Errorf("%w (and freeing the transformer: %v)", err, freed)
	}
	if settled := g.device.Settle(); settled != nil {
		return false, err
	}
	g.device.WatchMemory()
	plan, planErr := g.smaller(reached)
	if planErr != nil {
		return false, fmt.Errorf("%w (and planning anew: %v)", err, planErr)
	}
	if plan == nil || g.attempts >= maxAttempts {
		return false, fmt.Errorf("%w; %s was planned to take %s of device memory, and no smaller plan is left", err, stage, memory.Size(g.planned(stage)))
	}
	g.attempts++
	g.log.Warn("device memory is shorter than planned: going on with less", "stage", stage, "steps made", g.stepsMade(), "planned", memory.Size(g.plan.Device), "now", memory.Size(plan.Device),
		"blocks", plan.Choice.BlocksInMemory, "error", err)
	g.device.LimitDeviceMemory(plan.Device)
	g.plan, g.opts = plan, plan.Choice.Apply(g.asked)
	return true, nil
}

// makeDoUnpinned leaves waiting blocks in the checkpoint file, when pinned memory turned out to be shorter than planned: all but
// three quarters of those that there was room for.
func (g *run) makeDoUnpinned(stage Stage, err error) (again bool, _ error) {
	if stage != StageLoad || g.opts.Linear == load.LinearInt8 || g.opts.HostTier == swap.Mapped || g.asked.HostTier != "" {
		return false, err
	}
	reached := int(g.device.Mem.Peak(memory.Upload) / max(g.plan.BlockBytes, 1))
	if g.opts.HostTier == swap.Mixed {
		reached = 0
	}
	g.opts.HostTier, g.opts.PinnedBlocks = swap.Mixed, reached*3/4
	if g.opts.PinnedBlocks == 0 {
		g.opts.HostTier = swap.Mapped
	}
	g.log.Warn("pinned memory is shorter than planned: blocks stay in the checkpoint file", "pinned blocks", g.opts.PinnedBlocks, "error", err)
	return true, nil
}

// planned is what a stage was planned to take.
func (g *run) planned(stage Stage) int64 {
	if s := g.plan.Stage(stage); s != nil {
		return s.Device
	}
	return g.plan.Device
}

// smaller plans for less memory than the plan in force takes: for what was reached before the failure, if that was most of
// the plan, else for three quarters of it. nil: there is no smaller plan.
func (g *run) smaller(reached int64) (*MemoryPlan, error) {
	limits := LimitsOf(g.device, g.asked)
	opts := g.asked
	opts.BlocksInMemory = 0 // a number that was asked for gives way
	planner, err := g.planner(opts, g.request, limits)
	if err != nil {
		return nil, err
	}
	if g.from != nil {
		planner.earlier = len(g.from.Earlier)
	}
	if err := planner.plan(); err != nil {
		return nil, err
	}
	least, err := planner.least()
	if err != nil || least == 0 {
		return nil, err
	}
	now := g.plan.Device
	next := now - now/4
	if reached > now/2 {
		next = min(reached, now-1)
	}
	if limits.Device > 0 {
		next = min(next, limits.Device)
	}
	planner.limits.Device = max(next, least)
	if err := planner.plan(); err != nil || !planner.out.Fits || planner.out.Device >= now {
		return nil, err
	}
	return planner.out, planner.host()
}

// squeeze makes the transformer smaller, between two steps, when other programs have taken so much of the device's memory
// that what is in use is more than there is for us. The results are the same bits.
func (g *run) squeeze(ctx context.Context) error {
	excess := g.device.WatchMemory()
	if excess == 0 || !g.auto {
		return nil
	}
	_, held := g.dit.Counters()
	block := g.dit.BlockBytes()
	slots := held.Slots - int((excess+block-1)/block)
	if held.Slots == 1 {
		g.log.Warn("other programs take device memory, and one block in memory is the least there can be", "missing", memory.Size(excess))
		return nil
	}
	slots = max(slots, 1)
	tier := g.tier
	if waiting := int64(held.Blocks-max(slots-2, 0)) * block; tier == swap.Pinned && g.opts.Linear != load.LinearInt8 && waiting > g.hostRoom()+g.dit.PinnedBytes() {
		tier = swap.Mixed
	}
	pinned := mixedBlocks(g.hostRoom()+g.dit.PinnedBytes(), leastStaging, block, held.Blocks-max(slots-2, 0))
	g.log.Warn("other programs take device memory: fewer blocks stay there", "missing", memory.Size(excess), "blocks", slots, "before", held.Slots)
	err := g.dit.Resize(ctx, slots, tier, pinned)
	g.tier = tier
	return err
}
