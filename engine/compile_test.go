package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/shaders"
)

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

// gate holds whoever makes a pipeline of more than so many bindings until it is opened.
type gate struct {
	free    int           // bindings that are let through
	entered chan struct{} // one for each that is held
	open    chan struct{}
	made    atomic.Int64 // pipelines that were begun
}

// newGate also sees to two compilers on machines of any size, and that a test that hangs says so.
func newGate(t *testing.T, free int) *gate {
	t.Helper()
	procs := runtime.GOMAXPROCS(2)
	stop := enginetest.Deadline(t, 5*time.Minute, "compiling")
	t.Cleanup(func() { stop(); runtime.GOMAXPROCS(procs) })
	return &gate{free: free, entered: make(chan struct{}, 64), open: make(chan struct{})}
}

func (g *gate) limits() engine.TestLimits {
	return engine.TestLimits{Compiling: func(bindings int) {
		g.made.Add(1)
		if bindings > g.free {
			g.entered <- struct{}{}
			<-g.open
		}
	}}
}

func TestCompileMakesPipelinesBesideEachOtherAndComputesNothing(t *testing.T) {
	dir := t.TempDir()
	g := newGate(t, 0)
	d := enginetest.OpenWith(t, engine.Options{CacheDir: dir, Limits: g.limits()})
	x := alloc(t, d, 256)
	before := d.Compute().Counters()
	c := d.Compile(t.Context(), fills(x, 4)) // returns though nothing can be made
	for range 2 {
		<-g.entered // two are made at once
	}
	close(g.open)
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Count() != 4 || g.made.Load() != 4 || c.Took() <= 0 {
		t.Errorf("%d pipelines, %d made in %v, want 4", c.Count(), g.made.Load(), c.Took())
	}
	if after := d.Compute().Counters(); after != before {
		t.Errorf("work was recorded: %+v, then %+v", before, after)
	}
	if again := d.Compile(t.Context(), fills(x, 4)); again.Count() != 0 || again.Wait(t.Context()) != nil {
		t.Errorf("%d pipelines were made again", again.Count())
	}
	fills(x, 4)(d.Compute())
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := g.made.Load(); n != 4 {
		t.Errorf("recording compiled once more: %d pipelines", n)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "pipelines-*.bin")); len(files) != 1 {
		t.Errorf("compiled pipelines are kept in %v, want one file before the device is closed", files)
	}
}

func TestWhoNeedsAPipelineThatIsBeingMadeWaitsForThatAlone(t *testing.T) {
	g := newGate(t, 1)
	d := enginetest.OpenWith(t, engine.Options{Limits: g.limits()})
	x := alloc(t, d, 256)
	c := d.Compile(t.Context(), fills(x, 6))
	<-g.entered              // the second is being made, and cannot be ready
	fills(x, 1)(d.Compute()) // hangs if it waited for that one too
	got, err := d.DownloadU32(t.Context(), x)
	if err != nil || got[0] != 9 {
		t.Errorf("%v, %v", got[0], err)
	}
	close(g.open)
	if err := c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if n := g.made.Load(); n != 6 {
		t.Errorf("%d pipelines were made, want 6", n)
	}
}

func TestACancelledCompilationBeginsNoMoreAndMayBeClosed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newGate(t, 0)
	d, err := engine.Open(t.Context(), engine.Options{Validate: true, CacheDir: t.TempDir(), Limits: g.limits()})
	if err != nil {
		t.Fatal(err)
	}
	x, err := d.Alloc("test tensor", engine.U32, 256)
	if err != nil {
		t.Fatal(err)
	}
	c := d.Compile(ctx, fills(x, 8))
	for range 2 {
		<-g.entered
	}
	cancel()
	if err := c.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(g.open)
	d.Free(x)
	enginetest.CheckMessages(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Wait(t.Context()); err == nil || g.made.Load() != 2 {
		t.Errorf("error %v, %d pipelines were begun, want the 2 that were before the end", err, g.made.Load())
	}
}
