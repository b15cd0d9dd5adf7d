package swap

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// faultCase is a swapper at work on a device that fails at one call.
type faultCase struct {
	tier   HostTier
	limits engine.TestLimits
}

func faultCases() []faultCase {
	return []faultCase{{Pinned, engine.TestLimits{}}, {Mapped, engine.TestLimits{}}, {Mixed, engine.TestLimits{}}, {Pinned, engine.TestLimits{SingleQueue: true}}, {Mapped, engine.TestLimits{SingleQueue: true}}}
}

func (c faultCase) String() string {
	return fmt.Sprintf("%s, one queue: %v", c.tier, c.limits.SingleQueue)
}

// run opens a device, swaps two passes through two slots of three and closes all. It returns the first error of the
// work; leaks, a hanging goroutine and validation messages fail the test.
func (c faultCase) run(t *testing.T, faults *engine.Faults) error {
	t.Helper()
	before := runtime.NumGoroutine()
	d, err := engine.Open(t.Context(), engine.Options{Validate: true, Limits: enginetest.SmallChunks(c.limits), Faults: faults})
	if err != nil {
		return err
	}
	plan, err := NewPlan(Options{Blocks: 4, Slots: 3, Stream: 2})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), d, &pattern{blocks: 4}, Config{Plan: plan, Tier: c.tier, Pinned: 1})
	if err == nil {
		err = walk(t, d, s, 4, 2)
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
		if again := s.Close(); again != nil && err == nil {
			t.Errorf("a second close: %v", again)
		}
	}
	enginetest.CheckMessages(t, d)
	if closeErr := d.Close(); closeErr != nil {
		t.Errorf("%s: closing the device after %v: %v", c, err, closeErr)
	}
	enginetest.CheckGoroutines(t, before)
	return err
}

// within fails the test, with all stacks, when work takes longer than it ever should.
func within(t *testing.T, limit time.Duration, what string, work func()) {
	t.Helper()
	stop := enginetest.Deadline(t, limit, what)
	defer stop()
	work()
}

func TestEveryFailedDriverCallIsReportedWithoutLeaks(t *testing.T) {
	for _, kind := range []struct {
		name   string
		plant  func(n int64) *engine.Faults
		count  func(f *engine.Faults) int64
		wanted error
		always bool // every such failure is the caller's to see
	}{
		{"one allocation refused", func(n int64) *engine.Faults { return &engine.Faults{AllocateAt: n} }, (*engine.Faults).Allocations, vk.ErrOutOfDeviceMemory, false},
		{"no memory from an allocation on", func(n int64) *engine.Faults { return &engine.Faults{AllocateFrom: n} }, (*engine.Faults).Allocations, vk.ErrOutOfDeviceMemory, true},
		{"device lost", func(n int64) *engine.Faults { return &engine.Faults{SubmitAt: n} }, (*engine.Faults).Submits, vk.ErrDeviceLost, true},
		{"submit refused", func(n int64) *engine.Faults { return &engine.Faults{RefuseAt: n} }, (*engine.Faults).Submits, vk.ErrOutOfHostMemory, true},
	} {
		for _, c := range faultCases() {
			t.Run(fmt.Sprintf("%s, %s", kind.name, c), func(t *testing.T) {
				// Loads ahead of need may fail when nobody asks for them any more, so the count of a clean run varies
				// by a few and failures among the last of them may go unseen.
				clean := &engine.Faults{}
				if err := c.run(t, clean); err != nil {
					t.Fatal(err)
				}
				total := kind.count(clean)
				if total < 3 {
					t.Fatalf("a clean run has %d such calls", total)
				}
				for n := int64(1); n <= total; n++ {
					within(t, time.Minute, fmt.Sprintf("call %d", n), func() {
						err := c.run(t, kind.plant(n))
						ahead := err == nil && (!kind.always || c.tier != Pinned && n > total-8)
						ahead = ahead || err == nil && c.tier == Mixed && errors.Is(kind.wanted, vk.ErrOutOfDeviceMemory) // pinned less
						if !ahead && !errors.Is(err, kind.wanted) {
							t.Errorf("call %d of %d: got %v, want %v", n, total, err, kind.wanted)
						}
					})
				}
			})
		}
	}
}
