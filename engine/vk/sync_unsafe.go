package vk

// #include "shim.h"
import "C"

import (
	"fmt"
	"time"
	"unsafe"
)

// Timeline is a timeline semaphore: a counter that only grows, signalled and waited for by queues and by the host.
type Timeline struct {
	device *Device
	handle unsafe.Pointer
}

// NewTimeline makes a timeline that starts at 0.
func (d *Device) NewTimeline(name string) (*Timeline, error) {
	t := &Timeline{device: d}
	if err := checkCode("vkCreateSemaphore", int32(C.shim_timeline_create(d.shim, 0, &t.handle))); err != nil {
		return nil, err
	}
	d.name(5, t.handle, name)
	d.count("semaphores", 1)
	return t, nil
}

// Destroy destroys the timeline; nothing may wait for it any more.
func (t *Timeline) Destroy() {
	if t.handle != nil {
		C.shim_timeline_destroy(t.device.shim, t.handle)
		t.device.count("semaphores", -1)
		t.handle = nil
	}
}

// Value returns the value reached. Errors wrap ErrDeviceLost.
func (t *Timeline) Value() (uint64, error) {
	if err := t.device.faults.check("vkGetSemaphoreCounterValue"); err != nil {
		return 0, err
	}
	var v C.uint64_t
	err := checkCode("vkGetSemaphoreCounterValue", int32(C.shim_timeline_value(t.device.shim, t.handle, &v)))
	return uint64(v), err
}

// Wait blocks until the timeline reaches value. It returns an error that wraps ErrTimeout after the timeout, and one that
// wraps ErrDeviceLost when that never comes.
func (t *Timeline) Wait(value uint64, timeout time.Duration) error {
	if err := t.device.faults.check("vkWaitSemaphores"); err != nil {
		return err
	}
	return t.wait(value, timeout)
}

func (t *Timeline) wait(value uint64, timeout time.Duration) error {
	return checkCode("vkWaitSemaphores", int32(C.shim_timeline_wait(t.device.shim, t.handle, C.uint64_t(value), C.uint64_t(timeout.Nanoseconds()))))
}

// Signal sets the value from the host.
func (t *Timeline) Signal(value uint64) error {
	if err := t.device.faults.check("vkSignalSemaphore"); err != nil {
		return err
	}
	return t.signal(value)
}

func (t *Timeline) signal(value uint64) error {
	return checkCode("vkSignalSemaphore", int32(C.shim_timeline_signal(t.device.shim, t.handle, C.uint64_t(value))))
}

// Point is a value of a timeline.
type Point struct {
	Timeline *Timeline
	Value    uint64
}

// MaxPoints is how many points one submit can wait for or signal.
const MaxPoints = C.SHIM_MAX_WAITS

// Submit hands a command buffer to the queue, to run after all wait points are reached and to signal others when
// done. cmd may be nil to only wait and signal. Errors wrap ErrDeviceLost.
func (q *Queue) Submit(cmd *CommandBuffer, wait, signal []Point) error {
	var handle unsafe.Pointer
	if cmd != nil {
		handle = unsafe.Pointer(cmd.handle)
	}
	w, s := points(wait), points(signal)
	return q.device.faults.submit(q.device, wait, signal, func() error {
		return checkCode("vkQueueSubmit", int32(C.shim_submit(q.device.shim, unsafe.Pointer(q.handle), handle, &w, &s)))
	})
}

func points(list []Point) C.shim_points {
	if len(list) > MaxPoints {
		panic(fmt.Sprintf("vk: %d semaphores in one submit, at most %d", len(list), MaxPoints))
	}
	var p C.shim_points
	for k, point := range list {
		p.semaphore[k] = point.Timeline.handle
		p.value[k] = C.uint64_t(point.Value)
	}
	p.count = C.uint32_t(len(list))
	return p
}
