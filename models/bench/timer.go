package bench

import (
	"context"
	"errors"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// timer measures recorded work: by marks on the compute queue where it has timestamps, else by the host's clock around
// submitting and waiting.
type timer struct {
	device *engine.Device
	least  time.Duration // a measurement takes at least so long, the work being repeated
}

// maxRepeats bounds the repetitions of work that takes no time.
const maxRepeats = 2000

// time returns how long the work takes once it is warm: kernels are compiled and the memory has been touched.
func (t timer) time(ctx context.Context, work func(s *engine.Stream)) (time.Duration, error) {
	if _, err := t.run(ctx, 1, work); err != nil {
		return 0, err
	}
	one, err := t.run(ctx, 1, work)
	if err != nil || one >= t.least {
		return one, err
	}
	n := int(min(maxRepeats, t.least/max(one, time.Microsecond)+1))
	all, err := t.run(ctx, n, work)
	return all / time.Duration(n), err
}

// run measures n repetitions together.
func (t timer) run(ctx context.Context, n int, work func(s *engine.Stream)) (time.Duration, error) {
	s := t.device.Compute()
	if err := s.Finish(ctx); err != nil {
		return 0, err
	}
	s.TakeSpans()
	start := time.Now()
	s.Mark(markBegin)
	for range n {
		if err := ctx.Err(); err != nil {
			return 0, errors.Join(err, s.Drain())
		}
		work(s)
	}
	s.Mark(markEnd)
	if err := s.Finish(ctx); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if begin, end, ok := between(s.TakeSpans()); ok {
		took = time.Duration(end - begin)
	}
	return took, nil
}

const (
	markBegin = "measurement begin"
	markEnd   = "measurement end"
)

// between finds the marks around a measurement.
func between(spans []engine.Span) (begin, end float64, ok bool) {
	found := 0
	for _, s := range spans {
		switch s.Label {
		case markBegin:
			begin, found = s.End, found|1
		case markEnd:
			end, found = s.End, found|2
		}
	}
	return begin, end, found == 3
}
