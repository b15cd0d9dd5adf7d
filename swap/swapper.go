package swap

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Config says how a Swapper works.
type Config struct {
	Plan Plan
	Tier HostTier
	Ring int    // staging buffers of the Mapped and Mixed tiers; 0: 2
	Name string // owner label of the memory; "" means "blocks"
	// Pinned is how many streamed blocks the Mixed tier pins at most. Room, if set, is asked before each of them how many bytes
	// may still be pinned; where it says less than a block needs, or the driver refuses, that block and all further ones go through the ring.
	Pinned int
	Room   func() int64
	// Repeat makes each copy of a streamed block move its bytes so many times, so that a run can be measured as on a slower
	// bus; 0: once. Counters count them once.
	Repeat float64
	// Reading, if set, is told by New how much of what it reads has been read, in bytes. Several goroutines call it.
	Reading func(done, total int64)
}

// Swapper brings blocks to the device and keeps them there as its plan says.
type Swapper struct {
	config  Config
	device  *engine.Device
	source  Source
	stream  *engine.Stream // of all copies
	slots   []memory.Region
	loader  loader
	next    int    // streamed accesses acquired so far
	held    []int  // per block: the load it is held by, −1
	fresh   []bool // per resident block: read since it was last acquired
	counter Counters

	blocksRead atomic.Int64 // by New

	spansMu sync.Mutex
	spans   []engine.Span // guarded by spansMu
}

// MaxRepeat bounds Config.Repeat, which keeps a copy below the seconds in which drivers lose patience.
const MaxRepeat = 64

// loader brings streamed blocks. Load numbers count through all passes.
type loader interface {
	// ready returns the point after which load n's block lies in its slot.
	ready(ctx context.Context, n int) (engine.Point, error)
	// released tells that the slot of load n may be written again after a point.
	released(n int, after engine.Point) error
	// failed returns the error of a load that was promised and did not come.
	failed() error
	counters() Counters
	start(ctx context.Context) error
	// stop ends the submitting of loads, free gives their host memory back when the GPU is done with it.
	stop()
	free()
}

// Counters tell what swapping did since the start.
type Counters struct {
	Accesses int64 `json:"accesses"` // blocks used
	Hits     int64 `json:"hits"`     // of these, already on the device
	Loads    int64 `json:"loads"`    // copies submitted, also those ahead of need
	Bytes    int64 `json:"bytes"`    // moved over the bus
	// ReadTime is host time spent reading blocks into pinned memory (Pinned: all of them at the start, on several goroutines, while
	// PinTime of it went into pinning the memory), HostWait host time in which recording waited for a submit (only devices with
	// one queue), all in ns.
	PinTime  time.Duration `json:"pin_ns"`
	ReadTime time.Duration `json:"read_ns"`
	HostWait time.Duration `json:"host_wait_ns"`
	// PinnedBlocks wait in pinned memory now, Reads went through the ring.
	PinnedBlocks int   `json:"pinned_blocks"`
	Reads        int64 `json:"ring_reads"`
}

// Plus adds up what two swappers did one after the other.
func (c Counters) Plus(o Counters) Counters {
	return Counters{Accesses: c.Accesses + o.Accesses, Hits: c.Hits + o.Hits, Loads: c.Loads + o.Loads, Bytes: c.Bytes + o.Bytes,
		PinTime: c.PinTime + o.PinTime, ReadTime: c.ReadTime + o.ReadTime, HostWait: c.HostWait + o.HostWait, PinnedBlocks: o.PinnedBlocks, Reads: c.Reads + o.Reads}
}

// Since returns what was counted after an earlier reading of the same counters.
func (c Counters) Since(earlier Counters) Counters {
	return Counters{
		Accesses: c.Accesses - earlier.Accesses, Hits: c.Hits - earlier.Hits, Loads: c.Loads - earlier.Loads, Bytes: c.Bytes - earlier.Bytes,
		PinTime: c.PinTime - earlier.PinTime, ReadTime: c.ReadTime - earlier.ReadTime, HostWait: c.HostWait - earlier.HostWait,
		PinnedBlocks: c.PinnedBlocks, Reads: c.Reads - earlier.Reads,
	}
}

// Block is a block on the device.
type Block struct {
	Mem   memory.Region // BlockBytes bytes
	Ready engine.Point  // valid after this point; the zero Point means always
	Fresh bool          // its bytes came since it was last acquired: what work wrote over them before is gone
}

// New allocates the slots, loads the resident blocks and starts to load the first streamed ones. Errors are a
// *memory.BudgetError, the driver's or the source's; nothing stays allocated after one.
func New(ctx context.Context, d *engine.Device, source Source, config Config) (*Swapper, error) {
	if source.Blocks() != config.Plan.Blocks {
		return nil, fmt.Errorf("a swap plan for %d blocks does not fit a model of %d", config.Plan.Blocks, source.Blocks())
	}
	if config.Repeat != 0 && !(config.Repeat >= 1 && config.Repeat <= MaxRepeat) {
		return nil, fmt.Errorf("copies that move their bytes %g times: use 1 to %d", config.Repeat, MaxRepeat)
	}
	if config.Name == "" {
		config.Name = "blocks"
	}
	if config.Ring == 0 {
		config.Ring = defaultRing
	}
	s := &Swapper{config: config, device: d, source: source, held: make([]int, config.Plan.Blocks), fresh: make([]bool, config.Plan.Blocks)}
	for k := range s.held {
		s.held[k] = -1
	}
	err := s.start(ctx)
	if err != nil {
		if closeErr := s.Close(); closeErr != nil {
			err = fmt.Errorf("%w (and closing: %v)", err, closeErr)
		}
		return nil, err
	}
	return s, nil
}

func (s *Swapper) start(ctx context.Context) error {
	plan := s.config.Plan
	var err error
	if s.stream, err = s.device.NewCopyStream(s.config.Name + " copies"); err != nil {
		return err
	}
	for k := range plan.Slots {
		label := fmt.Sprintf("%s: slots", s.config.Name)
		region, err := s.device.AllocRegion(memory.Device, s.source.BlockBytes(), label)
		if err != nil {
			return fmt.Errorf("slot %d of %d: %w", k+1, plan.Slots, err)
		}
		s.slots = append(s.slots, region)
	}
	if s.device.Rehearsing() {
		return nil
	}
	if err := s.loadResidents(ctx, func(int) bool { return true }); err != nil {
		return err
	}
	if len(plan.Streamed) == 0 {
		return nil
	}
	switch _, ring := s.config.Tier.Pins(len(plan.Streamed), s.config.Pinned, s.config.Ring); s.config.Tier {
	case Pinned, Mapped, Mixed, "":
		if s.loader = newPinnedLoader(s); ring > 0 {
			s.loader = newMappedLoader(s)
		}
	default:
		return fmt.Errorf("unknown host tier %q: use %s, %s or %s", s.config.Tier, Pinned, Mixed, Mapped)
	}
	return s.loader.start(ctx)
}

// loadResidents brings the resident blocks that are wanted through two staging buffers, reading one while the other is copied.
func (s *Swapper) loadResidents(ctx context.Context, wanted func(i int) bool) error {
	var staging [2]memory.Region
	var busy [2]uint64
	transfer := s.stream
	defer func() {
		_ = transfer.Drain() // after an error copies may still read the staging buffers
		for _, region := range staging {
			s.device.FreeRegion(region)
		}
	}()
	turn := 0
	for block, home := range s.config.Plan.Home {
		if home < 0 || !wanted(block) {
			continue
		}
		k := turn % 2
		turn++
		if staging[k].IsZero() {
			var err error
			if staging[k], err = s.device.AllocRegion(memory.Upload, s.source.BlockBytes(), s.config.Name+": staging"); err != nil {
				return err
			}
		}
		if err := transfer.WaitValue(ctx, busy[k]); err != nil {
			return err
		}
		if err := s.source.Read(ctx, block, staging[k].Bytes()[:s.source.BlockBytes()]); err != nil {
			return err
		}
		s.tellRead()
		size := used(s.source, staging[k])
		transfer.CopyRange(rangeOf(s.slots[home], size), rangeOf(staging[k], size))
		value, err := transfer.Flush()
		if err != nil {
			return err
		}
		busy[k], s.fresh[block] = value, true
		s.counter.Bytes += size
	}
	return transfer.Finish(ctx)
}

// tellRead counts a block that was read.
func (s *Swapper) tellRead() {
	if s.config.Reading == nil {
		return
	}
	waiting, _ := s.config.Tier.Pins(len(s.config.Plan.Streamed), s.config.Pinned, s.config.Ring)
	all := s.config.Plan.Blocks - len(s.config.Plan.Streamed) + waiting
	s.config.Reading(s.blocksRead.Add(1)*s.source.BlockBytes(), int64(all)*s.source.BlockBytes())
}

// copyBlock records the copy of a load's block from host memory, between marks, and returns its bytes.
func (s *Swapper) copyBlock(load Load, from memory.Region) int64 {
	size := used(s.source, from)
	s.stream.Mark(fmt.Sprintf("copy %d begin", load.Block))
	repeat := s.config.Repeat
	for ; repeat > 1; repeat-- {
		s.stream.CopyRange(rangeOf(s.slots[load.Slot], size), rangeOf(from, size))
	}
	if part := int64(repeat*float64(size)) &^ 3; repeat > 0 && part > 0 && part < size {
		s.stream.CopyRange(rangeOf(s.slots[load.Slot], part), rangeOf(from, part))
	} else {
		s.stream.CopyRange(rangeOf(s.slots[load.Slot], size), rangeOf(from, size))
	}
	s.stream.Mark(fmt.Sprintf("copy %d end", load.Block))
	return size
}

// Acquire returns where block i lies. The compute stream must wait for the block's Ready point before reading it.
// Blocks are acquired in order, 0 … n−1, pass after pass.
func (s *Swapper) Acquire(ctx context.Context, i int) (Block, error) {
	s.counter.Accesses++
	if s.device.Rehearsing() { // blocks are alike
		return Block{Mem: s.slots[0], Fresh: true}, nil
	}
	if home := s.config.Plan.Home[i]; home >= 0 {
		s.counter.Hits++
		fresh := s.fresh[i]
		s.fresh[i] = false
		return Block{Mem: s.slots[home], Fresh: fresh}, nil
	}
	load := s.config.Plan.Load(s.next)
	if load.Block != i {
		panic(fmt.Sprintf("swap: block %d acquired out of order, %d is next", i, load.Block))
	}
	ready, err := s.loader.ready(ctx, s.next)
	if err != nil {
		return Block{}, fmt.Errorf("block %d: %w", i, err)
	}
	s.held[i] = s.next
	s.next++
	if err := ctx.Err(); err != nil { // waiting for a slow file can take long
		return Block{}, err
	}
	return Block{Mem: s.slots[load.Slot], Ready: ready, Fresh: true}, nil
}

// Release tells that all work recorded on the stream so far includes the last use of block i. It submits that work.
func (s *Swapper) Release(i int, stream *engine.Stream) error {
	value, err := stream.Flush()
	if err != nil {
		return err
	}
	if load := s.held[i]; load >= 0 {
		s.held[i] = -1
		return s.loader.released(load, engine.Point{Stream: stream, Value: value})
	}
	return nil
}

// Err returns the error of a load that failed after compute was recorded against it. What was computed since is
// worthless, so ask after the work is finished and before its results are used.
func (s *Swapper) Err() error {
	if s.loader == nil {
		return nil
	}
	return s.loader.failed()
}

// Plan returns the plan in force.
func (s *Swapper) Plan() Plan { return s.config.Plan }

// Counters returns what was done so far.
func (s *Swapper) Counters() Counters {
	c := s.counter
	if s.loader != nil {
		l := s.loader.counters()
		c.Loads, c.PinTime, c.ReadTime, c.HostWait, c.PinnedBlocks, c.Reads = l.Loads, l.PinTime, l.ReadTime, l.HostWait, l.PinnedBlocks, l.Reads
		c.Bytes += l.Bytes
	}
	return c
}

// PinnedBytes returns the pinned memory in which blocks wait now, with the ring that others pass through.
func (s *Swapper) PinnedBytes() int64 {
	_, ring := s.config.Tier.Pins(len(s.config.Plan.Streamed), s.config.Pinned, s.config.Ring)
	return int64(s.Counters().PinnedBlocks+ring) * s.source.BlockBytes()
}

// TakeSpans returns the copies that were timed since the last call, each as two marks "copy i begin" and "copy i end".
// Copies still under way are returned by a later call, the last of them after Close.
func (s *Swapper) TakeSpans() []engine.Span {
	s.spansMu.Lock()
	defer s.spansMu.Unlock()
	spans := s.spans
	s.spans = nil
	return spans
}

// keepSpans takes finished marks from the stream. Only the goroutine that submits to it may call this.
func (s *Swapper) keepSpans() {
	spans := s.stream.TakeSpans()
	s.spansMu.Lock()
	s.spans = append(s.spans, spans...)
	s.spansMu.Unlock()
}

// Close ends loading, waits for the GPU and frees slots and pinned memory. It returns the error of a load that failed. A
// second call does nothing.
func (s *Swapper) Close() error {
	err := s.Err()
	if s.loader != nil {
		s.loader.stop()
		err = s.Err()
	}
	if s.stream != nil {
		// Compute may still wait for copies, so it goes first. A lost device runs nothing, and was reported.
		drained := s.device.Compute().Drain()
		if drained == nil && s.stream.Drain() == nil {
			s.keepSpans()
		}
		if closed := s.stream.Close(); err == nil && drained == nil {
			err = closed
		}
		s.stream = nil
	}
	if s.loader != nil {
		s.loader.free()
		s.loader = nil
	}
	for _, region := range s.slots {
		s.device.FreeRegion(region)
	}
	s.slots = nil
	return err
}
