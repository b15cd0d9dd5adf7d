package engine

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// Span is a stretch of time on the device's clock, measured with timestamp queries.
type Span struct {
	Label      string
	Start, End float64 // ns on the device's clock, the same for all queues of a device
}

// span starts a timed span around commands and returns what ends it. Without timings it does nothing.
func (s *Stream) span(label string) func() {
	c := s.current
	if !s.timed || c == nil || c.queries == nil || len(c.labels) >= maxSpans+2 {
		return func() {}
	}
	k := 2 * len(c.labels)
	c.labels = append(c.labels, label)
	c.buffer.Timestamp(vk.StageAll, c.queries, k)
	return func() { c.buffer.Timestamp(vk.StageAll, c.queries, k+1) }
}

// Time records work in a span of its own name, around the spans of its calls. The work must not submit (Flush, Wait,
// more than 1024 commands).
func (s *Stream) Time(label string, work func()) {
	if s.err != nil {
		return
	}
	if s.note != nil {
		work()
		return
	}
	if s.begin(0) == nil {
		return
	}
	end := s.span(label)
	work()
	end()
}

// collect reads the timestamps of a finished command buffer.
func (s *Stream) collect(c *commands) {
	if c.queries == nil || len(c.labels) == 0 {
		return
	}
	ticks, err := c.queries.Results(0, 2*len(c.labels))
	if err != nil {
		s.fail(err)
		return
	}
	period := s.device.Summary.Physical.Limits.TimestampPeriod
	for k, label := range c.labels {
		s.spans = append(s.spans, Span{label, float64(ticks[2*k]) * period, float64(ticks[2*k+1]) * period})
	}
}

// TakeSpans returns the spans measured since the last call. Call it after Finish.
func (s *Stream) TakeSpans() []Span {
	if s.timed { // else there is nothing to read, and asking the device has a price: see recycleFrom
		s.recycle()
	}
	spans := s.spans
	s.spans = nil
	return spans
}

// Mark records a moment: a span of no length, reached when all earlier commands of the stream are done. Unlike Time it
// may be followed by submits.
func (s *Stream) Mark(label string) {
	if s.err != nil || !s.timed || s.begin(0) == nil {
		return
	}
	s.span(label)()
}

// Clock turns the host's times into the device's.
type Clock struct {
	host   time.Time
	device float64 // ns, at the same moment
	// Error is how far off it may be: what a submit with its wait took.
	Error time.Duration
}

// At returns the device's time in ns at a time of the host's.
func (c Clock) At(t time.Time) float64 { return c.device + float64(t.Sub(c.host)) }

// ErrNoTimestamps says that a queue cannot measure time.
var ErrNoTimestamps = errors.New("the device has no timestamps on its compute queue")

// Clock compares the two clocks. The device must have been opened with Timings or Marks, else, and where its compute queue
// has no timestamps, the error is ErrNoTimestamps. It finishes what is recorded, and keeps the spans of that.
func (d *Device) Clock(ctx context.Context) (Clock, error) {
	s := d.compute
	if !s.timed {
		return Clock{}, ErrNoTimestamps
	}
	best := Clock{Error: math.MaxInt64}
	for range 3 { // the quickest answer is the most exact
		if err := s.Finish(ctx); err != nil {
			return best, err
		}
		begin := time.Now()
		s.Mark("clock")
		if err := s.Finish(ctx); err != nil {
			return best, err
		}
		took := time.Since(begin)
		n := len(s.spans) - 1
		at := s.spans[n].Start
		s.spans = s.spans[:n]
		if took < best.Error {
			best = Clock{host: begin.Add(took / 2), device: at, Error: took}
		}
	}
	return best, nil
}

// Timed says whether the stream measures time: the device was opened with Timings or Marks, and the queue has timestamps.
func (s *Stream) Timed() bool { return s.timed }
