package kandinsky5

import (
	"errors"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// advise adds to an error about memory which flag would help.
func advise(stage Stage, err error, o Options) error {
	var budget *memory.BudgetError
	switch {
	case errors.As(err, &budget) && budget.Kind != memory.Device, errors.Is(err, vk.ErrOutOfHostMemory):
		return fmt.Errorf("%w: %s", err, adviseHost(o))
	case errors.Is(err, memory.ErrBudget):
		return fmt.Errorf("%w: %s", err, adviseDevice(stage, o))
	case errors.Is(err, vk.ErrOutOfDeviceMemory):
		return fmt.Errorf("%w: the driver gives less than it promised, as others use the device too: %s", err, adviseDevice(stage, o))
	}
	return err
}

// advised are the options that advice may change: none of those that a plan chose, which were made as small as can be.
func (g *run) advised() Options {
	o := g.opts
	if g.auto {
		o.BlocksInMemory, o.QwenLayersInMemory = 1, 1
	}
	return o
}

func adviseHost(o Options) string {
	switch waiting := o.HostTier != swap.Mapped && o.BlocksInMemory > 0; {
	case o.Linear == load.LinearInt8 && o.BlocksInMemory > 0:
		return "leave waiting blocks in the checkpoint file (--linear full --host-tier mapped), or raise --ram-budget"
	case waiting && o.HostWeights == load.CodedWeights:
		return "leave waiting blocks in the checkpoint file (--host-tier mapped), let them have eight bits (--host-weights int8), or raise --ram-budget"
	case waiting && o.HostWeights != load.Int8Weights:
		return "leave waiting blocks in the checkpoint file (--host-tier mapped), code them (--host-weights bf16z, or int8 for less), or raise --ram-budget"
	case waiting:
		return "leave waiting blocks in the checkpoint file (--host-tier mapped), or raise --ram-budget"
	}
	return "raise --ram-budget"
}

func adviseDevice(stage Stage, o Options) string {
	const budget = "raise --vram-budget"
	switch {
	case (stage == StageText || stage == StageExpand) && o.QwenLayersInMemory != 1:
		return "keep fewer layers of the text encoder on the device (--qwen-layers-in-memory 1), or " + budget
	case (stage == StageText || stage == StageExpand) && !o.QuantizeQwen:
		return "hold the text encoder in 4 bits (--qwen-quantization), or " + budget
	case stage != StageLoad && stage != StageDenoise:
		return "make a smaller video, or " + budget
	case o.BlocksInMemory == 0:
		return "keep fewer blocks on the device (--enable-block-swap --blocks-in-memory 6)"
	case o.BlocksInMemory > 1:
		return fmt.Sprintf("lower --blocks-in-memory to %d, or %s", max(1, o.BlocksInMemory/2), budget)
	}
	return "make a smaller or shorter video, or " + budget
}
