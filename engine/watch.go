package engine

import "github.com/vkandinsky/vkandinsky/memory"

// watch follows what other programs take of the memory that device memory comes from.
type watch struct {
	heap    int
	budget  int64 // of the allocator when the device was opened
	limit   int64 // that the driver turned out to give; 0: none
	margin  int64 // what others may take besides
	first   int64 // what the driver let this program use when the device was opened, or was free of unified memory; 0: it does not tell
	unified bool
}

func (d *Device) startWatch() {
	w := watch{budget: d.Mem.Cut().Budget, heap: d.Summary.Physical.Types[d.Mem.Type(memory.Device)].Heap}
	if h := d.heaps(); h.Unified {
		pinned, _ := d.Mem.Budget(memory.Upload)
		w.unified, w.first = true, h.free()
		// Nobody can take what is ours, so before nothing at all is free the rest is made to last.
		w.margin = max(0, w.first-w.budget-pinned) / 2
	} else if budget, usage, ok := d.Summary.Physical.Budget(); ok && budget[w.heap] > 0 {
		w.first = budget[w.heap]
		w.margin = max(0, budget[w.heap]-usage[w.heap]-w.budget)
	}
	d.watch = w
}

// takenByOthers returns by how many bytes the driver lets this program use less than at first. Of unified memory it is what has
// become less free and is not our own: there a driver's budget is what the machine has free, from which our part is gone too,
// also the pinned one.
func (d *Device) takenByOthers() int64 {
	if f := d.opts.Limits.Taken; f != nil {
		return f() + d.watch.margin
	}
	if d.watch.first == 0 {
		return 0
	}
	if d.watch.unified {
		ours := d.Mem.Used(memory.Device) + d.Mem.Used(memory.Upload) + d.Mem.Used(memory.Readback)
		return max(0, d.watch.first-d.heaps().free()-ours)
	}
	budget, _, ok := d.Summary.Physical.Budget()
	if !ok {
		return 0
	}
	return max(0, d.watch.first-budget[d.watch.heap])
}

// WatchMemory asks the driver (VK_EXT_memory_budget), and of unified memory the system, what other programs have taken of the device's memory since it was
// opened, and makes the budget as much smaller, or larger again up to what it was. It returns by how many bytes what is in use
// exceeds the budget then, 0 where it does not. Without a budget nothing is done.
func (d *Device) WatchMemory() (excess int64) {
	w := d.watch
	if w.budget == 0 {
		return 0
	}
	room := w.budget - max(0, d.takenByOthers()-w.margin)
	if w.limit > 0 {
		room = min(room, w.limit)
	}
	d.Mem.SetDeviceBudget(max(1, room))
	_, left := d.Mem.Budget(memory.Device)
	return max(0, -left)
}

// SetDeviceBudget changes the budget that the device was opened with, in bytes, to what the driver says is free at most, as if
// it had been opened with that. It is meant for a time at which no device memory is in use: what is stays, in the chunks it has.
func (d *Device) SetDeviceBudget(bytes int64) error {
	if err := d.Settle(); err != nil {
		return err
	}
	w := &d.watch
	free := w.budget + w.margin
	if w.budget > 0 {
		w.budget = min(bytes, free)
	} else {
		w.budget = bytes // nothing was known
	}
	w.margin = max(0, free-w.budget)
	d.Mem.Free(d.dummy.Mem)
	d.dummy = Tensor{}
	d.WatchMemory()
	var err error
	d.dummy, err = d.Alloc(dummyLabel, U32, 64)
	return err
}

// LimitDeviceMemory keeps the budget at or below so many bytes, when the driver turned out to give less than it promised;
// 0 ends that.
func (d *Device) LimitDeviceMemory(bytes int64) {
	d.watch.limit = bytes
	d.WatchMemory()
}

// PinnedLeft returns how many bytes may still be pinned: what is left of the budget, and no more than the driver says now that
// its heap has free (VK_EXT_memory_budget). false: nothing is known to limit it.
func (d *Device) PinnedLeft() (left int64, known bool) {
	budget, left := d.Mem.Budget(memory.Upload)
	known = budget > 0
	t := d.Summary.Physical.Types[d.Mem.Type(memory.Upload)]
	if t.DeviceLocal || d.watch.unified {
		return left, known // in memory that the device has too, a share of it is the budget
	}
	if _, free, told := heapFree(d.Summary.Physical, t.Heap); told && (!known || free < left) {
		return free, true
	}
	return left, known
}
