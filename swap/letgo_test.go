package swap

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// stuck is a source whose reads of one block wait, and then fail.
type stuck struct {
	pattern
	block int
	fail  chan struct{}
}

func (s *stuck) Read(ctx context.Context, i int, dst []byte) error {
	if i != s.block {
		return s.pattern.Read(ctx, i, dst)
	}
	select {
	case <-s.fail:
		return errDisk
	case <-ctx.Done():
		return ctx.Err()
	}
}

// With queues of their own, compute is submitted against copies that are still to come. When one of them fails compute
// must be let go, or the device hangs for good.
func TestComputeIsLetGoOfWhenACopyItWaitsForFails(t *testing.T) {
	for _, end := range []string{"the read fails", "the swapper is closed"} {
		t.Run(end, func(t *testing.T) {
			defer enginetest.Deadline(t, time.Minute, end)()
			d := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{Unshared: true}})
			source := &stuck{pattern: pattern{blocks: 4}, block: 2, fail: make(chan struct{})}
			plan, err := NewPlan(Options{Blocks: 4, Slots: 2})
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(t.Context(), d, source, Config{Plan: plan, Tier: Mapped})
			if err != nil {
				t.Fatal(err)
			}
			out, err := d.Alloc("what was read", engine.U32, 3, patternBytes/4)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Free(out)
			for s.Counters().Loads < 2 { // a device of one queue would run what is submitted first first
				time.Sleep(time.Millisecond)
			}
			c := d.Compute()
			for i := range 3 {
				b, err := s.Acquire(t.Context(), i)
				if err != nil {
					t.Fatal(err)
				}
				c.Wait(b.Ready)
				c.Copy(out.Rows(i, i+1), engine.Tensor{Mem: b.Mem, DType: engine.U32, Shape: []int{1, patternBytes / 4}})
				if err := s.Release(i, c); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Err(); err != nil {
				t.Errorf("an error before anything failed: %v", err)
			}
			if end == "the read fails" {
				close(source.fail)
				if err := c.Finish(t.Context()); err != nil {
					t.Error(err)
				}
				if err := s.Err(); !errors.Is(err, errDisk) {
					t.Errorf("after the work got %v", err)
				}
			}
			if err := s.Close(); end == "the read fails" && !errors.Is(err, errDisk) || end != "the read fails" && err != nil {
				t.Errorf("closing: got %v", err)
			}
		})
	}
}
