package engine_test

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// budgetsOf opens the device as if it had such heaps, and returns what it may use of them.
func budgetsOf(t *testing.T, o engine.Options, h engine.Heaps) (device, pinned int64) {
	t.Helper()
	o.Limits.Heaps = func(engine.Heaps) engine.Heaps { return h }
	d, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	device, _ = d.Mem.Budget(memory.Device)
	pinned, _ = d.Mem.Budget(memory.Upload)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	return device, pinned
}

func TestUnifiedMemoryIsSharedOut(t *testing.T) {
	discrete := engine.Heaps{DeviceSize: 80 * gib, DeviceFree: 80 * gib, HostSize: 94 * gib, HostFree: 90 * gib, Bounded: true}
	one := engine.Heaps{DeviceSize: 16 * gib, DeviceFree: 12 * gib, HostSize: 16 * gib, HostFree: 12 * gib, Unified: true, Same: true}
	two := engine.Heaps{DeviceSize: 2 * gib, DeviceFree: 2 * gib, HostSize: 16 * gib, HostFree: 14 * gib, Unified: true, Bounded: true}
	busy := one
	busy.RAM = 8 * gib
	for _, c := range []struct {
		name           string
		heaps          engine.Heaps
		o              engine.Options
		device, pinned int64
	}{
		{"a card: a twentieth of its own is left, and a fifth of what may be pinned", discrete, engine.Options{}, 76 * gib, 94 * gib * 8 / 10},
		{"a card, with flags", discrete, engine.Options{DeviceBudget: gib, HostBudget: 2 * gib}, gib, 2 * gib},
		{"one heap for both", one, engine.Options{}, (12*gib - 12*gib/20) / 4 * 3, (12*gib - 12*gib/20) / 4},
		{"one heap, and the machine has less", busy, engine.Options{}, (7*gib-7*gib/20)/4*3 + 1, (7*gib - 7*gib/20) / 4},
		{"one heap, pinned memory asked for", one, engine.Options{HostBudget: gib}, 12*gib - 12*gib/20 - gib, gib},
		{"one heap, device memory asked for", one, engine.Options{DeviceBudget: gib}, gib, 12*gib - 12*gib/20 - gib},
		{"one heap, both asked for", one, engine.Options{DeviceBudget: gib, HostBudget: mib}, gib, mib},
		{"two heaps of the same memory", two, engine.Options{}, 2*gib - 256*mib, (16*gib - 16*gib/20) / 4},
	} {
		device, pinned := budgetsOf(t, c.o, c.heaps)
		if abs(device-c.device) > 8 || abs(pinned-c.pinned) > 8 {
			t.Errorf("%s: %s and %s pinned, want %s and %s", c.name, memory.Size(device), memory.Size(pinned), memory.Size(c.device), memory.Size(c.pinned))
		}
		if all := c.heaps.DeviceFree; c.heaps.Same && c.o.DeviceBudget+c.o.HostBudget == 0 && device+pinned > all {
			t.Errorf("%s: %d bytes of %d are promised", c.name, device+pinned, all)
		}
	}
}

func abs(n int64) int64 { return max(n, -n) }

// What the program itself takes of unified memory, on either side, makes no less of it; what others take does.
func TestWatchingUnifiedMemoryTellsOthersFromOurselves(t *testing.T) {
	free := int64(1 * gib)
	d := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{Chunk: mib, Heaps: func(engine.Heaps) engine.Heaps {
		return engine.Heaps{DeviceSize: 2 * gib, DeviceFree: free, HostSize: 2 * gib, HostFree: free, Unified: true, Same: true}
	}}})
	budget, _ := d.Mem.Budget(memory.Device)
	pinned, _ := d.Mem.Budget(memory.Upload)
	pinned &^= 15
	if budget+pinned >= free || budget < free/2 {
		t.Fatalf("of %d bytes %d and %d may be used", free, budget, pinned)
	}
	ours := budget - 16*mib
	r, err := d.AllocRegion(memory.Device, ours, "ours")
	if err != nil {
		t.Fatal(err)
	}
	defer d.FreeRegion(r)
	up, err := d.AllocRegion(memory.Upload, pinned, "ours, pinned")
	if err != nil {
		t.Fatal(err)
	}
	defer d.FreeRegion(up)
	left := free - budget - pinned // for others, half of which they may take before it counts
	for _, c := range []struct {
		what           string
		others         int64
		budget, excess int64
	}{
		{"nobody else", 0, budget, 0},
		{"others take half of what was left for them", left / 2, budget, 0},
		{"others take 10 MiB more", left/2 + 10*mib, budget - 10*mib, 0},
		{"others take 80 MiB more", left/2 + 80*mib, budget - 80*mib, 64 * mib},
		{"others have gone", 0, budget, 0},
	} {
		free = gib - ours - pinned - c.others
		excess := d.WatchMemory()
		// The chunk of the device's own binding is in use too.
		if got, _ := d.Mem.Budget(memory.Device); abs(got-c.budget) > mib || abs(excess-c.excess) > mib {
			t.Errorf("%s: the budget is %d, want %d; %d bytes too many are in use, want %d", c.what, got, c.budget, excess, c.excess)
		}
	}
}
