package engine

import "github.com/vkandinsky/vkandinsky/memory"

// watch follows what other programs take of the heap that device memory comes from.
type watch struct {
	heap   int
	budget int64 // of the allocator when the device was opened
	limit  int64 // that the driver turned out to give; 0: none
	margin int64 // what others may take besides
	first  int64 // what the driver let this program use when the device was opened; 0: it does not tell
}

func (d *Device) startWatch() {
	w := watch{budget: d.Mem.Cut().Budget, heap: d.Summary.Physical.Types[d.Mem.Type(memory.Device)].Heap}
	if budget, usage, ok := d.Summary.Physical.Budget(); ok && budget[w.heap] > 0 {
		w.first = budget[w.heap]
		w.margin = max(0, budget[w.heap]-usage[w.heap]-w.budget)
	}
	d.watch = w
}

// takenByOthers returns by how many bytes the driver lets this program use less than at first.
func (d *Device) takenByOthers() int64 {
	if f := d.opts.Limits.Taken; f != nil {
		return f() + d.watch.margin
	}
	if d.watch.first == 0 {
		return 0
	}
	budget, _, ok := d.Summary.Physical.Budget()
	if !ok {
		return 0
	}
	return max(0, d.watch.first-budget[d.watch.heap])
}

// WatchMemory asks the driver (VK_EXT_memory_budget) what other programs have taken of the device's memory since it was
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
	if t.DeviceLocal {
		return left, known // the device's own heap, which has a budget of its own
	}
	if _, free, told := heapFree(d.Summary.Physical, t.Heap); told && (!known || free < left) {
		return free, true
	}
	return left, known
}
