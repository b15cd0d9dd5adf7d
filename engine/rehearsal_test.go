package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
)

// filled does on any device what has pipelines of its own, n of them, and returns what it downloads.
func filled(ctx context.Context, d *engine.Device, n int) ([]uint32, error) {
	x, err := d.Alloc("test tensor", engine.U32, 256)
	if err != nil {
		return nil, err
	}
	defer d.Free(x)
	if err := d.UploadU32(ctx, x, make([]uint32, 256)); err != nil {
		return nil, err
	}
	copies, err := d.NewCopyStream("copies")
	if err != nil {
		return nil, err
	}
	fills(x, n)(d.Compute())
	if _, err := d.Compute().Flush(); err != nil {
		return nil, err
	}
	copies.Wait(d.Compute().Here())
	copies.Copy(x.View(0, 16), x.View(32, 16))
	if err := errors.Join(copies.Finish(ctx), copies.Close()); err != nil {
		return nil, err
	}
	return d.DownloadU32(ctx, x)
}

func TestARehearsalMakesThePipelinesOfWorkThatItDoesNotDo(t *testing.T) {
	d := enginetest.Open(t)
	before, calls, peak := d.Pipelines(), d.Compute().Counters(), d.Mem.Peak(memory.Device)
	c := d.Rehearse(t.Context(), func(ctx context.Context, r *engine.Device) error {
		if !r.Rehearsing() || d.Rehearsing() || r.Caps().MaxAllocation != d.Caps().MaxAllocation {
			t.Error("a rehearsal is not told from what it is for, or has other limits")
		}
		got, err := filled(ctx, r, 3)
		if err == nil && (len(got) != 256 || got[0] != 0) {
			t.Errorf("%d numbers came, the first is %d", len(got), got[0])
		}
		return errors.Join(err, r.Settle())
	})
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := d.Pipelines().Since(before)
	if made.Made != 3 || c.Count() != 3 || c.Left() != 0 || made.Late != 0 || made.Waited != 0 {
		t.Errorf("%d rehearsed, %+v", c.Count(), made)
	}
	if now := d.Compute().Counters(); now != calls || d.Mem.Peak(memory.Device) != peak {
		t.Errorf("the rehearsal has computed or taken memory: %+v", now)
	}
	if got, err := filled(t.Context(), d, 3); err != nil || got[0] != 9 {
		t.Errorf("%v, %v", got, err)
	}
	if made := d.Pipelines().Since(before); made.Made != 3 || made.Late != 0 {
		t.Errorf("after the work: %+v", made)
	}
	if _, err := filled(t.Context(), d, 4); err != nil {
		t.Error(err)
	}
	if made := d.Pipelines().Since(before); made.Made != 4 || made.Late != 1 {
		t.Errorf("after work that was not rehearsed: %+v", made)
	}
}

func TestARehearsalThatFailsIsNoMoreThanThat(t *testing.T) {
	d := enginetest.Open(t)
	for want, work := range map[string]func(context.Context, *engine.Device) error{
		"on purpose":    func(context.Context, *engine.Device) error { return errors.New("fails on purpose") },
		"rehearsing: 7": func(context.Context, *engine.Device) error { panic(7) },
		"leaked": func(_ context.Context, r *engine.Device) error {
			_, err := r.Alloc("kept", engine.F32, 4)
			return err
		},
	} {
		if err := d.Rehearse(t.Context(), work).Wait(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{})
	c := d.Rehearse(ctx, func(ctx context.Context, r *engine.Device) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	<-begun
	cancel()
	c.Stop()
	if err := c.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestPipelinesMayBeMadeLate(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{CompileLate: true})
	c := d.Rehearse(t.Context(), func(context.Context, *engine.Device) error {
		t.Error("it is rehearsed")
		return nil
	})
	if err := c.Wait(t.Context()); err != nil || c.Count() != 0 {
		t.Errorf("%d, %v", c.Count(), err)
	}
}
