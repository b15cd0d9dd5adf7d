package dit

import (
	"context"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Config is the shape of a transformer, with its attention.
type Config struct {
	weights.DiTConfig
	// Nabla replaces visual self-attention by block-sparse attention; nil means full attention.
	Nabla *Nabla
}

// Nabla are the parameters of the sparse attention.
type Nabla struct {
	P      float32 // share of the attention mass that kept blocks hold at least
	Window [3]int  // wT, wH, wW: blocks around each block that are always kept
}

// Options say how the weights are held.
type Options struct {
	Precision load.Precision
	// Linear says in which numbers the visual blocks' linear layers are computed; LinearInt8 needs Precision Mixed.
	Linear load.Linear
	// HeadGroups cuts the heads of visual attention into so many groups (a divisor of their number), of which one is on the
	// device at a time: less memory for activations, the same results. 0: 1.
	HeadGroups int
	// Visual says how visual blocks are swapped: Slots blocks in memory (0: all).
	Visual SwapOptions
}

// SwapOptions say how a list of blocks is held; the zero value keeps all on the device.
type SwapOptions struct {
	Slots  int // blocks on the device; 0: all
	Stream int // of these, slots that the others stream through; 0: 2
	Policy swap.Policy
	Tier   swap.HostTier
	Ring   int // staging buffers of the Mapped and Mixed tiers; 0: 2
	// Pinned is how many waiting blocks the Mixed tier pins at most, Room what may still be pinned: see swap.Config.
	Pinned int
	Room   func() int64
	// Host says in what type blocks wait and cross the bus; empty: as the device computes with them.
	Host load.HostWeights
	// Adapters says where adapters are added to the visual blocks; empty: where it costs least.
	Adapters Adapters
	// Repeat makes copies move their bytes so many times, to measure with a slower bus; 0: once.
	Repeat float64
}

// Adapters says where the products of low-rank adapters are added to the weights.
type Adapters string

// Places: the host adds them when it reads a block; the device when it has got one, with the factors beside it.
const (
	AdaptAnywhere Adapters = ""
	AdaptOnHost   Adapters = "host"
	AdaptOnDevice Adapters = "device"
)

// adaptsOnDevice decides by cost. Blocks in pinned memory are read once, and what the host adds then costs steps nothing.
// Blocks of the Mapped tier, and some of the Mixed tier, are read in every step: for a block of the 20B model at rank 32 the host has 20 GFLOP to do, which
// takes it longer than reading the block; for the device that is little beside the block's own work, and the bus moves one
// hundredth more. It depends on the tier alone, so that results do not depend on the number of blocks in memory.
func (o SwapOptions) adaptsOnDevice() bool {
	if o.Adapters != AdaptAnywhere {
		return o.Adapters == AdaptOnDevice
	}
	return o.Tier == swap.Mapped || o.Tier == swap.Mixed
}

// Model holds the weights of a transformer.
type Model struct {
	Config Config
	device *engine.Device
	prec   load.Precision
	act    engine.DType
	half   bool
	packs  bool // linear layers of visual blocks are computed from packed operands
	linear load.Linear
	groups int // of heads
	outer  load.Params
	reader load.Reader  // of the text blocks, whenever a pass is made
	text   *load.Blocks // nil: there are none
	visual *stack
	copies []engine.Span // of the visual blocks, once closed
	held   SwapOptions   // how the visual blocks are held
	past   swap.Counters // of swappers before a Resize
}

// blockSource are blocks as they wait, of which parts can be read again.
type blockSource interface {
	swap.Source
	Patch(ctx context.Context, i int, dst []byte, changed func(name string) bool) error
}

// stack is a list of blocks behind a swapper.
type stack struct {
	blocks *load.Blocks
	swap   *swap.Swapper
	packed load.Coded    // nil: blocks are moved as they are used
	room   memory.Region // where packed ones are unpacked
	half   bool          // multiply in fp16
	packs  bool          // put weights in the order of fragments
}

// New reads the weights and brings to the device what the options keep there, but for the text blocks, which NewPass reads.
// The reader must outlive the model. Errors name the tensor, or are a *memory.BudgetError; nothing stays allocated after one.
func New(ctx context.Context, d *engine.Device, r load.Reader, config Config, opts Options) (*Model, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.PatchSize != [3]int{1, 2, 2} {
		return nil, fmt.Errorf("patch size %v is not supported, only [1 2 2] is", config.PatchSize)
	}
	if opts.Linear == load.LinearInt8 && opts.Precision != load.Mixed {
		return nil, fmt.Errorf("linear layers in int8 need precision %v, not %v", load.Mixed, opts.Precision)
	}
	groups, err := config.groups(opts)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: config, device: d, groups: groups, prec: opts.Precision, act: opts.Precision.Activation(), linear: opts.Linear,
		half: opts.Precision == load.Mixed && d.Caps().Tier >= engine.TierFP16}
	if err := m.load(ctx, r, opts); err != nil {
		return nil, oneline.Join(err, m.Close())
	}
	return m, nil
}

// groups checks Options.HeadGroups.
func (c Config) groups(o Options) (int, error) {
	n := max(o.HeadGroups, 1)
	if o.HeadGroups < 0 || c.Heads()%n != 0 {
		return 0, fmt.Errorf("%d groups of heads: use a divisor of the %d heads", o.HeadGroups, c.Heads())
	}
	return n, nil
}

func (m *Model) load(ctx context.Context, r load.Reader, opts Options) error {
	l, err := layoutOf(r, m.Config, opts)
	if err != nil {
		return err
	}
	if m.outer, err = load.Resident(ctx, m.device, r, l.outer, outerLabel); err != nil {
		return err
	}
	m.reader, m.text, m.held = r, l.text, opts.Visual
	m.packs = m.Config.packs(l.visual, opts, m.half, m.device.Caps().Fragments != engine.NoFragments)
	m.visual, err = m.newStack(ctx, l.visual, opts.Visual, "visual blocks")
	return err
}

// layout says what the parts of the transformer are, in bytes and types.
type layout struct {
	outer        load.Group
	text, visual *load.Blocks
}

func layoutOf(r load.Reader, config Config, o Options) (l layout, err error) {
	p := o.Precision
	spec := weights.DiTSpec(config.DiTConfig)
	outside := spec.Filter(func(name string) bool { return !hasPrefix(name, textPrefix) && !hasPrefix(name, visualPrefix) })
	if l.outer, err = load.NewGroup(outside, "", r, p); err != nil {
		return l, err
	}
	if config.NumTextBlocks > 0 {
		if l.text, err = load.NewBlocks(spec, prefixes(textPrefix, config.NumTextBlocks), r, p); err != nil {
			return l, err
		}
	}
	if l.visual, err = load.NewRoundedBlocks(spec, prefixes(visualPrefix, config.NumVisualBlocks), r, p, o.Linear); err != nil {
		return l, err
	}
	l.visual = l.visual.Adapt(r, o.Visual.adaptsOnDevice())
	return l, nil
}

const (
	outerLabel   = "transformer outside the blocks"
	textPrefix   = "text_transformer_blocks."
	visualPrefix = "visual_transformer_blocks."
)

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

func prefixes(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d.", prefix, i)
	}
	return out
}

func (o SwapOptions) plan(blocks int) (swap.Plan, error) {
	slots := o.Slots
	if slots == 0 {
		slots = blocks
	}
	return swap.NewPlan(swap.Options{Blocks: blocks, Slots: slots, Stream: o.Stream, Policy: o.Policy})
}

func (m *Model) newStack(ctx context.Context, blocks *load.Blocks, o SwapOptions, name string) (*stack, error) {
	plan, err := o.plan(blocks.Blocks())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out := &stack{blocks: blocks, half: m.half, packs: m.packs}
	if out.packed, err = o.pack(blocks); err != nil {
		return nil, err
	}
	if out.packed != nil {
		if err := out.packed.Check(m.device.Caps().MaxStorageRange); err != nil {
			return nil, err
		}
		if out.room, err = m.device.AllocRegion(memory.Device, out.packed.RoomBytes(), name+": unpacked"); err != nil {
			return nil, err
		}
	}
	out.swap, err = swap.New(ctx, m.device, out.source(), swap.Config{Plan: plan, Tier: o.Tier, Ring: o.Ring, Pinned: o.Pinned, Room: o.Room, Name: name, Repeat: o.Repeat})
	if err != nil {
		m.device.FreeRegion(out.room)
		return nil, err
	}
	return out, nil
}

// pack returns how blocks wait in another form, nil when they wait as they are. In eight bits are the linear layers of attention and
// feed-forward, as in the block-swap fork's files; modulations, which scale whole channels, are not.
func (o SwapOptions) pack(blocks *load.Blocks) (load.Coded, error) {
	switch o.Host {
	case load.Int8Weights:
		return load.Pack(blocks, func(name string) bool {
			return strings.Contains(name, "attention.") || strings.Contains(name, "feed_forward.")
		}), nil
	case load.CodedWeights:
		return load.Compress(blocks)
	}
	return nil, nil
}

// source is what the swapper moves.
func (s *stack) source() blockSource {
	if s.packed != nil {
		return s.packed
	}
	return s.blocks
}

// bind returns a block's tensors, decoded, adapted and with their weights in the order in which layers want them, for which scratch, bf16, may be used.
func (s *stack) bind(stream *engine.Stream, b swap.Block, scratch engine.Tensor) load.Params {
	var p load.Params
	if s.packed != nil {
		p = s.packed.Unpack(stream, b.Mem, s.room)
	} else {
		p = s.blocks.Layout.Bind(b.Mem)
	}
	p.Merge(stream, b.Fresh, s.half)
	if s.packs && (b.Fresh || s.packed != nil) {
		packWeights(stream, p, scratch)
	}
	return p
}

// each brings block after block to the device and lets record add its work to the compute stream, between marks, decoding and packing within
// them. scratch may hold anything after a block is made ready.
func (s *stack) each(ctx context.Context, stream *engine.Stream, scratch engine.Tensor, record func(i int, p load.Params) error) error {
	for i := range s.blocks.Blocks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.swap.Acquire(ctx, i)
		if err != nil {
			return err
		}
		if b.Ready.Stream != nil {
			stream.Wait(b.Ready)
		}
		stream.Mark(fmt.Sprintf("block %d begin", i))
		if err := record(i, s.bind(stream, b, scratch)); err != nil {
			return err
		}
		stream.Mark(fmt.Sprintf("block %d end", i))
		if err := s.swap.Release(i, stream); err != nil {
			return err
		}
	}
	return nil
}

// Counters returns what swapping of the visual blocks did, and the plan it followed: none after a Resize that failed.
func (m *Model) Counters() (swap.Counters, swap.Plan) {
	if m.visual == nil {
		return m.past, swap.Plan{}
	}
	return m.past.Plus(m.visual.swap.Counters()), m.visual.swap.Plan()
}

// Resize holds the visual blocks anew, with so many of them on the device and the others waiting in a tier, of which the Mixed
// one pins so many. What is computed stays the same. All work on the model must be over. After an error the model holds no visual blocks and can only be closed.
func (m *Model) Resize(ctx context.Context, slots int, tier swap.HostTier, pinned int) error {
	held := m.held
	held.Slots, held.Stream, held.Tier, held.Pinned = slots, min(held.Stream, slots), tier, pinned
	held.Adapters = m.Adapters() // as before: sums in another order would change bits
	return m.rebuild(ctx, m.visual.blocks, held)
}

// Adapters says where adapters are added to the visual blocks: AdaptOnHost or AdaptOnDevice.
func (m *Model) Adapters() Adapters {
	if m.held.adaptsOnDevice() {
		return AdaptOnDevice
	}
	return AdaptOnHost
}

// rebuild holds other visual blocks in the place of those that there are.
func (m *Model) rebuild(ctx context.Context, blocks *load.Blocks, held SwapOptions) error {
	counters := m.visual.swap.Counters()
	if err := m.closeVisual(); err != nil {
		return err
	}
	m.past = m.past.Plus(counters)
	if err := m.device.Settle(); err != nil {
		return err
	}
	m.held = held
	var err error
	m.visual, err = m.newStack(ctx, blocks, held, "visual blocks")
	return err
}

// closeVisual frees the visual blocks, but keeps what was timed.
func (m *Model) closeVisual() error {
	if m.visual == nil {
		return nil
	}
	err := m.visual.swap.Close()
	m.copies = append(m.copies, m.visual.swap.TakeSpans()...)
	m.device.FreeRegion(m.visual.room)
	m.visual = nil
	return err
}

// HeadGroups returns Options.HeadGroups, at least 1.
func (m *Model) HeadGroups() int { return m.groups }

// BlockBytes returns the size of a visual block as it waits and crosses the bus.
func (m *Model) BlockBytes() int64 { return m.visual.source().BlockBytes() }

// PinnedBytes returns the pinned memory in which visual blocks wait.
func (m *Model) PinnedBytes() int64 { return m.visual.swap.PinnedBytes() }

// Rounding tells how much rounding to bytes has changed the weights of the visual blocks that were read; nothing where
// linear layers are not rounded.
func (m *Model) Rounding() load.RoundingReport { return m.visual.blocks.Rounding() }

// TakeCopies returns the timed copies of visual blocks since the last call, also after Close; see
// swap.Swapper.TakeSpans.
func (m *Model) TakeCopies() []engine.Span {
	copies := m.copies
	m.copies = nil
	if m.visual != nil {
		copies = append(copies, m.visual.swap.TakeSpans()...)
	}
	return copies
}

// Err returns an error that came after work was recorded: a block that could not be read. Ask when the work is finished
// and before its results are used.
func (m *Model) Err() error {
	if m.visual == nil {
		return nil
	}
	return m.visual.swap.Err()
}

// Close frees the weights. It returns an error of the loader that came too late for Evaluate.
func (m *Model) Close() error {
	err := m.closeVisual()
	if !m.outer.Mem().IsZero() {
		m.outer.Free(m.device)
		m.outer = load.Params{}
	}
	return err
}

// ResidualType is the storage type of what MagCache keeps of a pass: fp32 where everything is, else bf16 as in the
// reference.
func (m *Model) ResidualType() engine.DType { return m.act }

// Plan returns where a list of blocks would lie; an error names the impossible option.
func (o SwapOptions) Plan(blocks int) (swap.Plan, error) { return o.plan(blocks) }
