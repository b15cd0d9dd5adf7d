package dit

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/memory"
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
	Times         int // different times that the pass is made for; 0 means 1
	Masked        bool
	Residuals     bool  // MagCache keeps a residual per branch
	Fragments     bool  // the device has fragments, so that operands are packed
	MaxAllocation int64 // bytes of one tensor; 0: no limit
	// MaxStorageRange is the most that the device binds at once, in bytes; 0: no limit.
	MaxStorageRange int64
	Cut             memory.Cut
}

// Needs is what a transformer takes.
type Needs struct {
	weights      load.Need
	text, visual load.Need // while the text blocks work, and after that

	Pinned       int64 // bytes of pinned memory while denoising
	PinnedLoad   int64 // and, at most, while loading
	PinnedBlocks int   // that wait there
	BlockBytes   int64
	LoadedBytes  int64 // bytes that cross the bus in a pass, at most
	Plan         swap.Plan
}

// Weights returns what stays on the device between passes.
func (n *Needs) Weights() *load.Need { return &n.weights }

// Device returns the device memory at its peak: that of the text blocks' work or that of the visual blocks', whichever is
// more.
func (n *Needs) Device() *load.Need { return load.Largest(&n.visual, &n.text) }

// Add counts regions of so many bytes each that are there all the time.
func (n *Needs) Add(when, label string, count int, bytes int64) {
	n.text.Add(when, label, count, bytes)
	n.visual.Add(when, label, count, bytes)
}

func (n *Needs) addBuffers(when string, count int, buffers ...load.Buffer) {
	for _, b := range buffers {
		n.Add(when, b.Label, count, b.Bytes())
	}
}

// Plan computes the device and pinned memory of a pass exactly as it will be allocated, from shapes and types alone.
func Plan(r Request) (*Needs, error) {
	l, err := layoutOf(r.Reader, r.Config, r.Options)
	if err != nil {
		return nil, err
	}
	groups, err := r.Config.groups(r.Options)
	if err != nil {
		return nil, err
	}
	n := &Needs{}
	n.weights.Cut, n.text.Cut, n.visual.Cut = r.Cut, r.Cut, r.Cut
	n.Add("always", "transformer outside the blocks", 1, l.outer.Bytes)
	if err := n.addVisual(l.visual, r.Options.Visual, r.MaxStorageRange); err != nil {
		return nil, err
	}
	n.weights = *n.visual.After(&load.Need{})
	c, act, times := r.Config, r.Options.Precision.Activation(), max(r.Times, 1)
	n.addBuffers("denoise", r.Branches, c.branchBuffers(act, r.TextRows, r.Masked)...)
	n.addBuffers("denoise", r.Branches*times, c.actBuffer())
	if l.text != nil {
		n.text.Add("text blocks", "text block", 1, l.text.BlockBytes())
		n.PinnedLoad = max(n.PinnedLoad, n.Pinned+l.text.Layout.StagingBytes())
	}
	n.text.AddBuffers("text blocks", c.textBuffers(act, r.Half, r.TextRows)...)
	for range r.Branches {
		n.text.AddBuffers("text blocks", c.promptBuffers(act, r.TextRows)...)
	}
	state := c.stateBuffer(r.TextRows)
	n.text.Add("text blocks", state.Label, r.Branches*c.together(times, r.Branches, r.TextRows), state.Bytes())

	packs := c.packs(l.visual, r.Options, r.Half, r.Fragments)
	n.visual.AddBuffers("denoise", c.buffers(act, r.Half, packs, r.Options.Linear, r.Size, r.TextRows, groups)...)
	for range r.Branches {
		n.visual.AddBuffers("denoise", c.visualBuffers(r.Size, r.MaxAllocation)...)
		if r.Residuals {
			n.visual.AddBuffers("denoise", load.Buffer{Label: "MagCache residual", DType: act, Shape: []int{r.Size.Tokens(), c.ModelDim}})
		}
	}
	return n, nil
}

// addVisual counts the visual blocks.
func (n *Needs) addVisual(blocks *load.Blocks, o SwapOptions, maxRange int64) (err error) {
	if n.Plan, err = o.plan(blocks.Blocks()); err != nil {
		return fmt.Errorf("visual blocks: %w", err)
	}
	size := blocks.BlockBytes()
	packed, err := o.pack(blocks)
	if err != nil {
		return err
	}
	if packed != nil {
		if err := packed.Check(maxRange); err != nil && maxRange > 0 {
			return err
		}
		size = packed.BlockBytes()
		n.Add("always", "visual block, unpacked", 1, packed.RoomBytes())
	}
	n.BlockBytes = size
	n.Add("always", fmt.Sprintf("visual blocks (%d of %d)", n.Plan.Slots, n.Plan.Blocks), n.Plan.Slots, size)
	streamed := int64(len(n.Plan.Streamed))
	n.LoadedBytes = streamed * size
	waiting, ring := o.Tier.Pins(int(streamed), o.Pinned, o.Ring)
	n.PinnedBlocks, n.Pinned = waiting, int64(waiting+ring)*size
	n.PinnedLoad = max(n.Pinned, 2*size) // two staging buffers for resident blocks
	return nil
}
