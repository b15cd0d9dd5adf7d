package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/shaders"
)

const slowCompile = 120 * time.Millisecond

// fills records n dispatches, each of which needs a pipeline of its own: one with more bindings.
func fills(x engine.Tensor, n int) func(s *engine.Stream) {
	return func(s *engine.Stream) {
		for k := range n {
			s.Time("a span changes nothing", func() {
				s.Dispatch(engine.Call{Shader: shaders.Fill, Push: shaders.FillPush{Count: 256, Pattern: 7}.Append(nil),
					Bind: append([]engine.Tensor{x}, make([]engine.Tensor, k)...), Groups: [3]uint32{1, 1, 1}, Cost: 256, Label: "fill"})
			})
		}
		s.Fill(x, 9)
	}
}

func TestCompileMakesPipelinesBesideEachOtherAndComputesNothing(t *testing.T) {
	dir := t.TempDir()
	d := enginetest.OpenWith(t, engine.Options{CacheDir: dir, Limits: engine.TestLimits{SlowCompile: slowCompile}})
	x := alloc(t, d, 256)
	before := d.Compute().Counters()
	start := time.Now()
	c := d.Compile(t.Context(), fills(x, 4))
	if took := time.Since(start); took > slowCompile {
		t.Errorf("it returned after %v", took)
	}
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Count() != 4 || c.Took() < slowCompile || c.Took() > 4*slowCompile {
		t.Errorf("%d pipelines in %v, want 4 in less than one after the other takes", c.Count(), c.Took())
	}
	if after := d.Compute().Counters(); after != before {
		t.Errorf("work was recorded: %+v, then %+v", before, after)
	}
	if again := d.Compile(t.Context(), fills(x, 4)); again.Count() != 0 || again.Wait(t.Context()) != nil {
		t.Errorf("%d pipelines were made again", again.Count())
	}
	start = time.Now()
	fills(x, 4)(d.Compute())
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > slowCompile {
		t.Errorf("recording compiled once more: %v", took)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "pipelines-*.bin")); len(files) != 1 {
		t.Errorf("compiled pipelines are kept in %v, want one file before the device is closed", files)
	}
}

func TestWhoNeedsAPipelineThatIsBeingMadeWaitsForThatAlone(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{SlowCompile: slowCompile}})
	x := alloc(t, d, 256)
	c := d.Compile(t.Context(), fills(x, 6))
	start := time.Now()
	fills(x, 1)(d.Compute())
	if took := time.Since(start); took > 3*slowCompile/2 {
		t.Errorf("the first of six was ready after %v", took)
	}
	got, err := d.DownloadU32(t.Context(), x)
	if err != nil || got[0] != 9 {
		t.Errorf("%v, %v", got[0], err)
	}
	if err := c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestACancelledCompilationBeginsNoMoreAndMayBeClosed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d, err := engine.Open(t.Context(), engine.Options{Validate: true, CacheDir: t.TempDir(), Limits: engine.TestLimits{SlowCompile: slowCompile}})
	if err != nil {
		t.Fatal(err)
	}
	x, err := d.Alloc("test tensor", engine.U32, 256)
	if err != nil {
		t.Fatal(err)
	}
	c := d.Compile(ctx, fills(x, 8))
	cancel()
	if err := c.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	d.Free(x)
	enginetest.CheckMessages(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Wait(t.Context()); err == nil || c.Took() > 3*slowCompile {
		t.Errorf("error %v after %v", err, c.Took())
	}
}
