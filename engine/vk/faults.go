package vk

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	vulkan "github.com/vulkan-go/vulkan"
)

// Faults makes the n-th call of a kind fail (counted from 1; 0 never), so that tests can walk through every failure
// that a driver may answer with. The zero value injects nothing. One Faults serves one device.
//
// A submit that fails with device lost loses the device as on real hardware: all later submits and waits fail too, and
// nothing runs any more, so that every object may be destroyed.
type Faults struct {
	AllocateAt   int64 // vkAllocateMemory answers out of device memory, once
	AllocateFrom int64 // the same from this call on, until it is set to 0
	SubmitAt     int64 // vkQueueSubmit answers device lost
	RefuseAt     int64 // vkQueueSubmit answers out of host memory, once; the device lives on

	allocations, submits atomic.Int64
	lost                 atomic.Bool

	mu       sync.Mutex // one submit at a time
	promised map[*Timeline]uint64
	awaited  map[*Timeline]uint64
}

// Allocations returns how many allocations were asked for, Submits how many submits: a test learns from a clean run
// how many failures there are to walk through.
func (f *Faults) Allocations() int64 { return f.allocations.Load() }

// Submits returns how many submits were asked for.
func (f *Faults) Submits() int64 { return f.submits.Load() }

// LoseAfter makes the n-th submit from now on answer device lost. It may be called while others submit.
func (f *Faults) LoseAfter(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.SubmitAt = f.submits.Load() + n
}

func (f *Faults) allocate() error {
	if f == nil {
		return nil
	}
	if n := f.allocations.Add(1); n == f.AllocateAt || f.AllocateFrom != 0 && n >= f.AllocateFrom {
		return &ResultError{Call: "vkAllocateMemory", Code: int32(vulkan.ErrorOutOfDeviceMemory)}
	}
	return nil
}

// check fails calls on a device that was lost.
func (f *Faults) check(call string) error {
	if f != nil && f.lost.Load() {
		return &ResultError{Call: call, Code: int32(vulkan.ErrorDeviceLost)}
	}
	return nil
}

// submit carries a submit out unless it is the one to fail.
func (f *Faults) submit(d *Device, wait, signal []Point, do func() error) error {
	if f == nil {
		return do()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.submits.Add(1)
	if err := f.check("vkQueueSubmit"); err != nil {
		return err
	}
	if n == f.SubmitAt {
		f.lose(d)
		return f.check("vkQueueSubmit")
	}
	if n == f.RefuseAt {
		return &ResultError{Call: "vkQueueSubmit", Code: int32(vulkan.ErrorOutOfHostMemory)}
	}
	err := do()
	if err == nil {
		f.awaited, f.promised = raise(f.awaited, wait), raise(f.promised, signal)
	}
	return err
}

func raise(values map[*Timeline]uint64, points []Point) map[*Timeline]uint64 {
	if values == nil {
		values = map[*Timeline]uint64{}
	}
	for _, p := range points {
		values[p.Timeline] = max(values[p.Timeline], p.Value)
	}
	return values
}

// settleTime is far more than what a test submits takes.
const settleTime = time.Minute

// lose lets the device come to rest, which the real one that plays the lost one would not do by itself: work may wait
// for points that only later submits would have reached.
func (f *Faults) lose(d *Device) {
	for t, value := range f.awaited {
		if t.handle == nil || value <= f.promised[t] {
			continue
		}
		// What is submitted never waits for what is not, but on behalf of the points let go here, so this ends.
		err := t.wait(f.promised[t], settleTime)
		if err == nil {
			err = t.signal(value)
		}
		if err != nil {
			panic(fmt.Sprintf("vk: faults: a timeline stands below %d, and %d is waited for: %v", f.promised[t], value, err))
		}
	}
	if err := check("vkDeviceWaitIdle", vulkan.DeviceWaitIdle(d.handle)); err != nil {
		panic(fmt.Sprintf("vk: faults: %v", err))
	}
	f.lost.Store(true)
}
