package memory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// Kind says what memory is for.
type Kind int

// Kinds of memory.
const (
	Device   Kind = iota // read and written by shaders; device-local
	Upload               // written by the host, copied from by the GPU; pinned
	Readback             // copied to by the GPU, read by the host; pinned
)

func (k Kind) String() string { return [...]string{"device", "pinned host", "pinned readback"}[k] }

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Source makes buffers of a memory type, for regions of a kind.
type Source interface {
	NewBuffer(kind Kind, memoryType int, size int64, name string) (*vk.Buffer, error)
}

// Options of an allocator; the zero value has no budget and default chunks.
type Options struct {
	DeviceBudget  int64 // bytes over all Device chunks, 0: no limit
	HostBudget    int64 // bytes over all Upload and Readback chunks, 0: no limit
	ChunkSize     int64 // of chunks that small regions share; 0: 64 MiB
	MaxAllocation int64 // largest single allocation; 0: no limit
	Align         int64 // smallest alignment of a region; 0: 256
}

// Defaults of Options.
const (
	defaultChunk = 64 << 20
	defaultAlign = 256
)

// maxRegion keeps sums of sizes inside an int64: no machine has 4 EiB.
const maxRegion = 1 << 62

// Allocator cuts chunks into regions.
type Allocator struct {
	source Source
	types  [3]int // memory type of each kind
	opts   Options

	mu     sync.Mutex
	chunks []*chunk
	total  [3]int64 // bytes of chunks by kind
	peak   [3]int64
	nextID int
}

type chunk struct {
	kind   Kind
	buffer *vk.Buffer
	space  *Space
	labels map[int64]string // region offset to owner
	shared bool             // holds regions of several requests
}

// Region is a part of a chunk. Copying it copies the reference; it is freed once.
type Region struct {
	Buffer *vk.Buffer
	Offset int64 // bytes from the buffer's start
	Size   int64 // bytes
	chunk  *chunk
}

// IsZero says whether the region is none.
func (r Region) IsZero() bool { return r.Buffer == nil }

// Bytes returns the region's host view, nil where the memory is not host-visible.
func (r Region) Bytes() []byte {
	if r.Buffer == nil || r.Buffer.Mapped == nil {
		return nil
	}
	return r.Buffer.Mapped[r.Offset : r.Offset+r.Size : r.Offset+r.Size]
}

// New makes an allocator for a device with these memory types. An error says which kind of memory is missing.
func New(source Source, types []vk.MemoryType, opts Options) (*Allocator, error) {
	if opts.ChunkSize == 0 {
		opts.ChunkSize = defaultChunk
	}
	if opts.Align == 0 {
		opts.Align = defaultAlign
	}
	if opts.MaxAllocation > 0 {
		opts.ChunkSize = min(opts.ChunkSize, opts.MaxAllocation)
	}
	a := &Allocator{source: source, opts: opts}
	for kind := Device; kind <= Readback; kind++ {
		t, err := ChooseType(types, kind)
		if err != nil {
			return nil, err
		}
		a.types[kind] = t
	}
	return a, nil
}

// ChooseType picks the memory type for a kind: device-local memory that the host does not see where there is such (the
// visible part can be a small window), coherent host memory otherwise, cached before write-combined.
func ChooseType(types []vk.MemoryType, kind Kind) (int, error) {
	best, bestScore := -1, 0
	for k, t := range types {
		score := 0
		switch {
		case kind == Device && t.DeviceLocal:
			score = 10
			if !t.HostVisible {
				score += 5
			}
		case kind != Device && t.HostVisible && t.Coherent:
			score = 10
			if !t.DeviceLocal {
				score += 5
			}
			if t.Cached {
				score += 2
			}
		}
		if score > bestScore {
			best, bestScore = k, score
		}
	}
	if best < 0 {
		return 0, fmt.Errorf("the device has no memory type for %s memory", kind)
	}
	return best, nil
}

// Type returns the index of the memory type that a kind uses.
func (a *Allocator) Type(kind Kind) int { return a.types[kind] }

// Alloc takes a region. Large ones get a chunk of their own, of exactly their size, so that a budget is used to the
// byte; small ones share chunks. Errors are a *BudgetError or wrap the driver's (vk.ErrOutOfDeviceMemory, …).
func (a *Allocator) Alloc(kind Kind, size int64, label string) (Region, error) {
	if size <= 0 || size > maxRegion {
		return Region{}, fmt.Errorf("%s: allocation of %d bytes", label, size)
	}
	size = alignUp(size, 16)
	if a.opts.MaxAllocation > 0 && size > a.opts.MaxAllocation {
		return Region{}, fmt.Errorf("%s needs %s in one piece, the driver allows %s", label, Size(size), Size(a.opts.MaxAllocation))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if size < a.opts.ChunkSize/4 {
		for _, c := range a.chunks {
			if c.kind == kind && c.shared {
				if r, ok := c.take(size, a.opts.Align, label); ok {
					return r, nil
				}
			}
		}
		if r, err := a.grow(kind, a.opts.ChunkSize, true, size, label); err == nil {
			return r, nil
		}
	}
	return a.grow(kind, size, false, size, label)
}

// grow makes a chunk and takes a region from it. Called with the lock held.
func (a *Allocator) grow(kind Kind, chunkSize int64, shared bool, size int64, label string) (Region, error) {
	if budget, used := a.budget(kind); budget > 0 && used+chunkSize > budget {
		return Region{}, &BudgetError{Kind: kind, Label: label, Wanted: size, Used: used, Budget: budget, Owners: a.owners(kind)}
	}
	name := label
	if shared {
		name = fmt.Sprintf("shared %s chunk %d", kind, a.nextID)
	}
	buffer, err := a.source.NewBuffer(kind, a.types[kind], chunkSize, name)
	if err != nil {
		return Region{}, fmt.Errorf("%s: %s of %s memory: %w", label, Size(chunkSize), kind, err)
	}
	a.nextID++
	c := &chunk{kind: kind, buffer: buffer, space: NewSpace(chunkSize), labels: map[int64]string{}, shared: shared}
	a.chunks = append(a.chunks, c)
	a.total[kind] += chunkSize
	a.peak[kind] = max(a.peak[kind], a.total[kind])
	r, ok := c.take(size, a.opts.Align, label)
	if !ok {
		panic(fmt.Sprintf("memory: fresh chunk of %d bytes does not hold %d", chunkSize, size))
	}
	return r, nil
}

func (c *chunk) take(size, align int64, label string) (Region, bool) {
	offset, ok := c.space.Alloc(size, align)
	if !ok {
		return Region{}, false
	}
	c.labels[offset] = label
	return Region{Buffer: c.buffer, Offset: offset, Size: size, chunk: c}, true
}

// budget returns the limit that a kind falls under and what is used of it. Pinned memory is one budget.
func (a *Allocator) budget(kind Kind) (budget, used int64) {
	if kind == Device {
		return a.opts.DeviceBudget, a.total[Device]
	}
	return a.opts.HostBudget, a.total[Upload] + a.total[Readback]
}

// Free gives a region back; a chunk that becomes empty is returned to the driver at once, so that another stage can
// use its bytes in another shape. The GPU must have finished with it. After Close it does nothing.
func (a *Allocator) Free(r Region) {
	if r.IsZero() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := r.chunk
	c.space.Free(r.Offset)
	delete(c.labels, r.Offset)
	if c.space.Empty() {
		k := slices.Index(a.chunks, c)
		if k < 0 {
			return
		}
		a.chunks = slices.Delete(a.chunks, k, k+1)
		a.total[c.kind] -= c.space.Size
		c.buffer.Destroy()
	}
}

// Used returns the bytes of all chunks of a kind, Peak the most there were since the last ResetPeak.
func (a *Allocator) Used(kind Kind) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total[kind]
}

// Peak returns the most bytes that chunks of a kind had since the start or ResetPeak.
func (a *Allocator) Peak(kind Kind) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peak[kind]
}

// ResetPeak starts the measure anew.
func (a *Allocator) ResetPeak() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.peak = a.total
}

// Budget returns the budget of a kind in bytes, 0 for none, and what is left of it.
func (a *Allocator) Budget(kind Kind) (budget, left int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	budget, used := a.budget(kind)
	return budget, budget - used
}

// SetDeviceBudget changes the budget of device memory, in bytes; 0 means none. What is in use stays, also above a smaller
// budget, which then only refuses more.
func (a *Allocator) SetDeviceBudget(bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opts.DeviceBudget = bytes
}

// Map lists who holds what, largest first.
func (a *Allocator) Map() []Owner {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Owner
	for kind := Device; kind <= Readback; kind++ {
		all = append(all, a.owners(kind)...)
	}
	return all
}

func (a *Allocator) owners(kind Kind) []Owner {
	byLabel := map[string]*Owner{}
	var list []Owner
	for _, c := range a.chunks {
		if c.kind != kind {
			continue
		}
		for offset, label := range c.labels {
			if byLabel[label] == nil {
				byLabel[label] = &Owner{Kind: kind, Label: label}
			}
			byLabel[label].Bytes += c.space.used[offset]
			byLabel[label].Count++
		}
	}
	for _, o := range byLabel {
		list = append(list, *o)
	}
	sortOwners(list)
	return list
}

// Close frees all chunks. Regions still in use are an error that names them.
func (a *Allocator) Close() error {
	owners := a.Map()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.chunks {
		c.buffer.Destroy()
	}
	a.chunks, a.total = nil, [3]int64{}
	if len(owners) == 0 {
		return nil
	}
	var parts []string
	for _, o := range owners {
		parts = append(parts, fmt.Sprintf("%s (%s, %s)", o.Label, o.Kind, Size(o.Bytes)))
	}
	return errors.New("memory leaked: " + strings.Join(parts, ", "))
}
