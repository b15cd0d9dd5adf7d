package swap

import (
	"context"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// Without one of its waits a swapper would read a block before it has come, or overwrite one that is still in use. Layers
// that follow semaphores say so. Where both streams share a queue, a later wait or a barrier of either orders what is before
// it too; so the first wait is left out, and kernels that need no barriers use the blocks.
func TestEveryOmittedWaitIsReported(t *testing.T) {
	wait, copyWait := engine.TestLimits{OmitWait: 1}, engine.TestLimits{OmitCopyWait: 1}
	for _, c := range []struct {
		name   string
		tier   HostTier
		limits engine.TestLimits
	}{
		{"a block is used before its copy, pinned", Pinned, wait},
		{"a block is used before its copy, mapped", Mapped, wait},
		{"a block is overwritten before its use is over, pinned", Pinned, copyWait},
		{"a block is overwritten before its use is over, mapped", Mapped, copyWait},
	} {
		for _, one := range []bool{false, true} {
			name := c.name
			if c.limits.SingleQueue = one; one {
				name += ", one queue"
			}
			t.Run(name, func(t *testing.T) {
				enginetest.PlantedHazard(t, c.limits, enginetest.SeesAll, func(d *engine.Device) { useBlocks(t, d, c.tier) })
			})
		}
	}
}

func TestSwappingCausesNoMessage(t *testing.T) {
	for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
		for _, limits := range []engine.TestLimits{{}, {SingleQueue: true}, {SharedFamily: true}, {DescriptorSets: true}} {
			useBlocks(t, enginetest.OpenWith(t, engine.Options{Limits: limits}), tier)
		}
	}
}

// once gives every block once. More would be read ahead until the ring is full, and what reads ahead then waits for copies: a layer holds what the
// host has waited for as ordered, and would see no hazard.
type once struct{ pattern }

func (o *once) Read(ctx context.Context, i int, dst []byte) error {
	if o.reads.Load() == int64(o.blocks) {
		<-ctx.Done()
		return ctx.Err()
	}
	return o.pattern.Read(ctx, i, dst)
}

// useBlocks swaps a pass of four blocks through two slots, and reads each with a kernel.
func useBlocks(t *testing.T, d *engine.Device, tier HostTier) {
	t.Helper()
	plan, err := NewPlan(Options{Blocks: 4, Slots: 2})
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Alloc("what was read", engine.F32, 4, patternBytes/4)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(out)
	c := d.Compute()
	s, err := New(t.Context(), d, &once{pattern{blocks: 4}}, Config{Plan: plan, Tier: tier, Ring: 8})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		b, err := s.Acquire(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		c.Wait(b.Ready)
		ops.Cast(c, out.Rows(i, i+1), engine.Tensor{Mem: b.Mem, DType: engine.F32, Shape: []int{1, patternBytes / 4}})
		if err := s.Release(i, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
