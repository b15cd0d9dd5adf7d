package engine

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// commands is a command buffer with what belongs to it while it runs.
type commands struct {
	buffer  *vk.CommandBuffer
	value   uint64
	count   int
	cost    float64
	sets    *vk.DescriptorPool
	queries *vk.QueryPool
	labels  []string // of the spans, two queries each
}

const (
	maxCommands = 1024 // in one command buffer
	maxSets     = 256  // descriptor sets of one command buffer, without push descriptors
	maxSpans    = 512  // timed spans of one command buffer

	// recycleFrom is how many command buffers run before the timeline is asked which are done. A validation layer takes
	// work that the host has seen finished for ordered, and software drivers finish work inside the submit: asking
	// before every submit would hide missing barriers between submits.
	recycleFrom = 8
)

// begin returns the open command buffer, submitting a full one first. nil after an error, and where calls are only noted.
func (s *Stream) begin(cost float64) *commands {
	if s.note != nil {
		return nil
	}
	if c := s.current; c != nil && (c.count >= maxCommands || (cost > 0 && c.cost > 0 && c.cost+cost > 2*s.device.caps.MaxDispatchCost) ||
		(c.sets != nil && c.count >= maxSets) || len(c.labels) >= maxSpans) {
		if _, err := s.Flush(); err != nil {
			return nil
		}
	}
	return s.open()
}

// open returns the open command buffer, beginning one when there is none. nil after an error.
func (s *Stream) open() *commands {
	if s.current != nil {
		return s.current
	}
	if len(s.idle) == 0 && len(s.running) >= recycleFrom {
		s.recycle()
	}
	c, err := s.take()
	if err == nil {
		err = c.buffer.Begin()
	}
	if err != nil {
		s.fail(err)
		return nil
	}
	if c.queries != nil {
		c.buffer.ResetQueries(c.queries, 0, c.queries.Count)
	}
	s.current = c
	s.recording.Store(true)
	return c
}

// take returns an idle command buffer or makes one.
func (s *Stream) take() (*commands, error) {
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		c.count, c.cost, c.labels = 0, 0, c.labels[:0]
		if c.sets != nil {
			return c, c.sets.Reset()
		}
		return c, nil
	}
	c := &commands{}
	var err error
	if c.buffer, err = s.pool.NewCommandBuffer(); err != nil {
		return nil, err
	}
	if !s.device.vk.PushDescriptors {
		if c.sets, err = s.device.vk.NewDescriptorPool(maxSets, maxSets*vk.MaxBindings); err != nil {
			return nil, err
		}
	}
	if s.timed {
		c.queries, err = s.device.vk.NewQueryPool(2 * (maxSpans + 2))
	}
	return c, err
}

// set returns a descriptor set for a dispatch, nil on devices with push descriptors.
func (c *commands) set(s *Stream, p *pipeline) (*vk.DescriptorSet, error) {
	if c.sets == nil {
		return nil, nil
	}
	return c.sets.Allocate(p.vk)
}

// Flush submits what is recorded and returns the value that the timeline reaches when it is done.
func (s *Stream) Flush() (uint64, error) {
	if s.err != nil {
		return s.submitted.Load(), s.err
	}
	if s.current == nil && len(s.waits) == 0 {
		return s.submitted.Load(), nil
	}
	if s.open() == nil { // waits without work still make a point in time
		return s.submitted.Load(), s.err
	}
	start := time.Now()
	c := s.current
	s.current = nil
	c.value = s.submitted.Load() + 1
	err := c.buffer.End()
	if err == nil {
		s.queue.mu.Lock()
		err = s.queue.vk.Submit(c.buffer, s.waits, []vk.Point{{Timeline: s.line, Value: c.value}})
		s.queue.mu.Unlock()
	}
	s.waits = s.waits[:0]
	s.recording.Store(false)
	if err != nil {
		s.idle = append(s.idle, c)
		s.fail(err)
		return s.submitted.Load(), s.err
	}
	s.submitted.Store(c.value)
	s.running = append(s.running, c)
	s.counters.Submits++
	s.counters.RecordTime += time.Since(start)
	return c.value, nil
}

// Finish submits and waits until all is done. A cancelled context ends the wait with its error; the work goes on.
func (s *Stream) Finish(ctx context.Context) error {
	value, err := s.Flush()
	if err == nil {
		err = s.WaitValue(ctx, value)
	}
	if err == nil {
		s.recycle()
		err = s.err
	}
	return err
}

// WaitValue waits on the host until the timeline reaches a value.
func (s *Stream) WaitValue(ctx context.Context, value uint64) error {
	err := s.AwaitValue(ctx, value)
	if err != nil && ctx.Err() == nil {
		s.fail(err)
		return s.err
	}
	return err
}

// AwaitValue is WaitValue for other goroutines than the one that records the stream: the stream does not keep an error.
func (s *Stream) AwaitValue(ctx context.Context, value uint64) error {
	for {
		if err := ctx.Err(); err != nil || s.note != nil {
			return err
		}
		if err := s.line.Wait(value, 100*time.Millisecond); !errors.Is(err, vk.ErrTimeout) {
			return err
		}
	}
}

// waitSubmitted waits for what was submitted, leaving alone what is being recorded. For other goroutines' streams.
func (s *Stream) waitSubmitted() error {
	return s.WaitValue(context.Background(), s.submitted.Load())
}

// reached returns the timeline's value; after a lost device everything counts as reached, so that memory is freed.
func (s *Stream) reached() uint64 {
	if s.note != nil {
		return ^uint64(0)
	}
	v, err := s.line.Value()
	if err != nil {
		return ^uint64(0)
	}
	return v
}

// recycle takes finished command buffers back and reads their timestamps.
func (s *Stream) recycle() {
	if len(s.running) == 0 {
		return
	}
	done := s.reached()
	k := 0
	for ; k < len(s.running) && s.running[k].value <= done; k++ {
		s.collect(s.running[k])
		s.idle = append(s.idle, s.running[k])
	}
	s.running = append(s.running[:0], s.running[k:]...)
}

// Skip waits for what was submitted and moves the timeline on to a value from the host, so that whoever waits for work
// that will not come is let go. It works after an error too; only a lost device makes it fail, on which nothing waits.
func (s *Stream) Skip(to uint64) error {
	submitted := s.submitted.Load()
	if to <= submitted || s.note != nil {
		return nil
	}
	err := s.line.Wait(submitted, math.MaxInt64)
	if err == nil {
		err = s.line.Signal(to)
	}
	if err == nil {
		s.submitted.Store(to)
	}
	return err
}

// Drain submits what is recorded and waits for all that was submitted, also after an error. Only a lost device makes it
// fail; then nothing runs any more.
func (s *Stream) Drain() error {
	_, _ = s.Flush() // a sticky error is told elsewhere
	return s.waitSubmitted()
}

// Close waits for what was submitted and gives a stream made by NewCopyStream back.
func (s *Stream) Close() error {
	if s.note != nil {
		return nil
	}
	err := s.line.Wait(s.submitted.Load(), math.MaxInt64)
	if err != nil {
		s.fail(err)
	}
	s.recycle()
	s.hazards.clear()
	s.spans, s.counters = nil, Counters{}
	s.device.closeCopyStream(s)
	if errors.Is(err, vk.ErrDeviceLost) {
		return nil // whoever submitted was told
	}
	return err
}

func (s *Stream) destroy() {
	if s.current != nil {
		s.idle = append(s.idle, s.current)
		s.current = nil
	}
	for _, c := range append(s.idle, s.running...) {
		if c.sets != nil {
			c.sets.Destroy()
		}
		if c.queries != nil {
			c.queries.Destroy()
		}
	}
	s.idle, s.running = nil, nil
	if s.pool != nil {
		s.pool.Destroy()
	}
	if s.line != nil {
		s.line.Destroy()
	}
}
