package engine

import (
	"log/slog"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Faults makes driver calls fail on purpose; see vk.Faults.
type Faults = vk.Faults

// Options say how to open a device. The zero value opens the best device with its best kernels.
type Options struct {
	Device   string // number or part of the name; "" picks a discrete GPU before an integrated before a CPU
	Validate bool   // load the validation layer with synchronization validation
	Tier     Tier   // force a kernel tier

	DeviceBudget int64 // bytes of device memory that are never exceeded; 0: what the driver says is free, less a margin
	HostBudget   int64 // bytes of pinned host memory; 0: what is free of the host-visible heap, at most 80 % of it
	PinnedFrom   PinnedFrom
	CacheDir     string // where compiled pipelines are kept; "": nowhere
	Shorter      int    // dispatches and submits do at most a part, 1/Shorter, of what they would; 0: all
	Timings      bool   // measure every call with timestamp queries
	CompileLate  bool   // make pipelines when they are first used and not ahead of that (Device.Rehearse), to compare
	Marks        bool   // measure only marks (Stream.Mark), which costs next to nothing

	Log    *slog.Logger // nil: silent
	Limits TestLimits
	Faults *Faults
	// ByteFragments finds out when the device opens whether kernels can build matrices of signed bytes element by element, which attention with
	// AttentionArgs.Int8 is fastest with.
	ByteFragments bool
}

// TestLimits make a device smaller or plainer than it is, so that the paths for other devices can be tested on this
// one. The zero value changes nothing.
type TestLimits struct {
	MaxAllocation    int64
	Chunk            int64             // bytes of the chunks that small regions share
	Taken            func() int64      // bytes of device memory that another program takes, instead of asking the driver
	Heaps            func(Heaps) Heaps // how much memory there is, instead of what driver and system say
	ImportFrom       int64             // bytes from which pinned memory is imported
	NoImport         bool              // importing it fails
	MaxStorageRange  int64
	MaxDispatchCost  float64
	NoBFloat16       bool               // no bf16 matrices
	EmulateFragments bool               // kernels that build matrices element by element compute them in fp32
	SingleQueue      bool               // one queue for compute and transfer
	Unshared         bool               // let compute wait for copies not yet submitted, also on one queue: only where none stands behind it
	SharedFamily     bool               // no dedicated transfer family: a second queue of the compute family, if there is one
	DescriptorSets   bool               // no push descriptors
	Poison           bool               // fill new device memory with NaN, so that what nobody wrote shows in results
	SlowCompile      time.Duration      // every pipeline takes so much longer to make
	Compiling        func(bindings int) // called before a pipeline is made, by whoever makes it; nil: nothing
	OmitBarrier      int                // leave out the n-th barrier of the compute stream (from 1), to see that validation reports it
	OmitWait         int                // leave out the compute stream's n-th wait for another's timeline (from 1), likewise
	OmitCopyWait     int                // the same for the transfer stream and every copy stream
}

// DeviceSummary describes a device before it is opened.
type DeviceSummary struct {
	Index    int
	Physical *vk.PhysicalDevice
	Tier     Tier
	TierWhy  string
	Problem  string // why it cannot be used, "" when it can
}

// DeviceHeap returns the size of the heap that kernels' memory comes from and, where the driver says it, the bytes
// that are free for us in it.
func (s DeviceSummary) DeviceHeap() (size, free int64, known bool) {
	t, err := memory.ChooseType(s.Physical.Types, memory.Device)
	if err != nil {
		return 0, 0, false
	}
	return heapFree(s.Physical, s.Physical.Types[t].Heap)
}

func heapFree(p *vk.PhysicalDevice, heap int) (size, free int64, known bool) {
	size = p.Heaps[heap].Size
	if budget, usage, ok := p.Budget(); ok && budget[heap] > 0 {
		return size, max(0, budget[heap]-usage[heap]), true
	}
	return size, size * 8 / 10, false
}
