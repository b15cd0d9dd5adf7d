package kandinsky5

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// checkLinear refuses linear layers in int8 where they cannot be.
func (o Options) checkLinear() error {
	switch {
	case o.Linear != load.LinearInt8:
	case o.Precision != load.Mixed:
		return requestError("linear layers in int8 need mixed precision, not %v: leave --linear int8 or --precision %v out", o.Precision, o.Precision)
	case o.HostWeights.Unpacks():
		return requestError("linear layers in int8 wait and cross the bus in 8 bits as they are: leave --host-weights %s or --linear int8 out", o.HostWeights)
	case o.HostTier == swap.Mapped || o.HostTier == swap.Mixed:
		return requestError("linear layers in int8 are rounded once, when the blocks are read, so these cannot wait in the checkpoint file: leave --linear int8 or --host-tier %s out", o.HostTier)
	}
	return nil
}

// checkAttention refuses attention by 8-bit integers where it cannot be.
func (o Options) checkAttention() error {
	if o.Attention == load.AttentionSage && o.Precision != load.Mixed {
		return requestError("attention by 8-bit integers needs mixed precision, not %v: leave --attention-engine sage or --precision %v out", o.Precision, o.Precision)
	}
	return nil
}

// pinnedOnly is the error for rounded blocks that pinned memory does not hold.
func pinnedOnly(needed, free int64) error {
	return fmt.Errorf("the waiting blocks, rounded to int8, need %s of pinned memory, and %s are free: keep more on the device (--blocks-in-memory), or leave --linear int8 out, and they wait in the checkpoint file",
		memory.Size(needed), memory.Size(free))
}
