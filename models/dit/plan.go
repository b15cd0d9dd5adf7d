package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Request asks what a transformer and a pass of it need.
type Request struct {
	Config        Config
	Reader        load.Reader // only types are asked for
	Options       Options
	Half          bool // the kernels multiply in fp16
	Size          Size
	TextRows      int // rows of the longest prompt
	Branches      int // 2 with guidance, else 1
	Masked        bool
	Residuals     bool  // MagCache keeps a residual per branch
	MaxAllocation int64 // bytes of one tensor; 0: no limit
}

// Needs is what a transformer takes.
type Needs struct {
	Device      load.Need // while denoising
	Pinned      int64     // bytes of pinned memory while denoising
	PinnedLoad  int64     // and, at most, while loading
	BlockBytes  int64
	LoadedBytes int64 // bytes that cross the bus in a pass
	Plan        swap.Plan
}

// Plan computes the device and pinned memory of a pass exactly as it will be allocated, from shapes and types alone.
func Plan(r Request) (*Needs, error) {
	l, err := layoutOf(r.Reader, r.Config, r.Options.Precision)
	if err != nil {
		return nil, err
	}
	n := &Needs{BlockBytes: l.visual.BlockBytes()}
	n.Device.Add("always", "transformer outside the blocks", 1, l.outer.Bytes)
	if l.text != nil {
		if _, err := n.addStack("text blocks", l.text, r.Options.Text); err != nil {
			return nil, err
		}
	}
	if n.Plan, err = n.addStack("visual blocks", l.visual, r.Options.Visual); err != nil {
		return nil, err
	}
	act := r.Options.Precision.Activation()
	n.Device.AddBuffers("denoise", r.Config.buffers(act, r.Half, r.Size, r.TextRows)...)
	for range r.Branches {
		n.Device.AddBuffers("denoise", r.Config.branchBuffers(act, r.Size, r.TextRows, r.Masked, r.MaxAllocation)...)
		if r.Residuals {
			n.Device.AddBuffers("denoise", load.Buffer{Label: "MagCache residual", DType: act, Shape: []int{r.Size.Tokens(), r.Config.ModelDim}})
		}
	}
	return n, nil
}

func (n *Needs) addStack(name string, blocks *load.Blocks, o SwapOptions) (swap.Plan, error) {
	plan, err := o.plan(blocks.Blocks())
	if err != nil {
		return plan, fmt.Errorf("%s: %w", name, err)
	}
	size := blocks.BlockBytes()
	n.Device.Add("always", fmt.Sprintf("%s (%d of %d)", name, plan.Slots, plan.Blocks), plan.Slots, size)
	streamed := int64(len(plan.Streamed))
	n.LoadedBytes += streamed * size
	held := streamed
	if o.Tier == swap.Mapped && streamed > 0 {
		held = int64(max(o.Ring, 2))
	}
	n.Pinned += held * size
	n.PinnedLoad = max(n.PinnedLoad, n.Pinned, n.Pinned-held*size+2*size)
	return plan, nil
}
