package bench

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/timeline"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/synth"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// The published figure: a block of the 20B model at 47,616 tokens is 22.4 TFLOP of linear layers and 37.1 of attention.
func TestWorkOfThePublishedModel(t *testing.T) {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	w := WorkOf(&config.Model.DiT, 47616, 256)
	if got := w.Linear / 60 / 1e12; math.Abs(got-22.4) > 0.1 {
		t.Errorf("linear layers: %.2f TFLOP a block, want about 22.4", got)
	}
	if got := w.Attention / 60 / 1e12; math.Abs(got-37.3) > 0.2 { // 37.1 and the text
		t.Errorf("attention: %.2f TFLOP a block, want about 37.3", got)
	}
}

func TestWorkGrowsWithTheSquareOfTokensInAttentionOnly(t *testing.T) {
	d := &configs.DiTParams{ModelDim: 64, FFDim: 128, NumVisualBlocks: 1, PatchSize: [3]int{1, 2, 2}}
	one, two := WorkOf(d, 100, 0), WorkOf(d, 200, 0)
	if two.Attention != 4*one.Attention || two.Linear != 2*one.Linear {
		t.Errorf("100 tokens %+v, 200 tokens %+v", one, two)
	}
}

func TestByKernelLeavesMarksOut(t *testing.T) {
	got, total := byKernel([]engine.Span{
		{Label: "block 0 begin", Start: 5, End: 5}, {Label: "norm", Start: 5, End: 10}, {Label: "matmul", Start: 10, End: 30},
		{Label: "matmul", Start: 30, End: 45}, {Label: "block 0 end", Start: 45, End: 45},
	})
	want := []Kernel{{Label: "matmul", Calls: 2, Time: 35}, {Label: "norm", Calls: 1, Time: 5}}
	if diff := cmp.Diff(want, got); diff != "" || total != 40 {
		t.Errorf("total %v, kernels (-want +got):\n%s", total, diff)
	}
}

func tinyOptions(t *testing.T) Options {
	t.Helper()
	m, err := synth.Preset(synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.Config.Geometry(0, configs.Size{Height: 64, Width: 96})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Config: m.Config, Geometry: g, Weights: load.Synthetic(weights.BF16), Passes: 2}
}

func TestRunMeasuresSwappingOnATinyModel(t *testing.T) {
	for _, c := range []struct {
		name  string
		swap  dit.SwapOptions
		loads int64 // blocks that cross the bus in a pass
	}{
		{"resident", dit.SwapOptions{}, 0},
		{"two blocks in memory", dit.SwapOptions{Slots: 2}, 6},
		{"three blocks, one streaming, from mapped memory", dit.SwapOptions{Slots: 3, Stream: 1, Tier: swap.Mapped}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := enginetest.OpenWith(t, engine.Options{Timings: true})
			o := tinyOptions(t)
			o.Swap, o.Guided = c.swap, true
			told := 0
			o.Progress = func(done, total int) { told++ }
			r, err := Run(t.Context(), d, o)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Passes) != 2 || told != 3 {
				t.Fatalf("%d passes, progress told %d times; want 2 and 3", len(r.Passes), told)
			}
			if r.BlockBytes <= 0 || r.BytesPerPass != c.loads*r.BlockBytes {
				t.Errorf("%d bytes a pass in blocks of %d, want %d blocks", r.BytesPerPass, r.BlockBytes, c.loads)
			}
			if r.Timing.Blocks != 6 { // the first pass compiles kernels and is left out
				t.Errorf("%d uses of blocks were timed, want 6", r.Timing.Blocks)
			}
			if c.loads > 0 && (int64(r.Timing.Copies) < c.loads || r.CopyRate <= 0 || r.PeakPinned == 0) {
				t.Errorf("copies %d, rate %g, pinned %d: want at least %d copies", r.Timing.Copies, r.CopyRate, r.PeakPinned, c.loads)
			}
			if r.Disorder != 0 || r.Verdict.Text == "" || r.Verdict.Bound == swap.NotMeasured {
				t.Errorf("%d impossible orders, verdict %+v", r.Disorder, r.Verdict)
			}
			checkTrace(t, r.Trace, 2*6, c.loads > 0)
			for k, p := range r.Passes {
				if p.TFLOPS <= 0 || p.DeviceTime <= 0 || p.DeviceTime > p.Time+time.Second || p.RecordTime <= 0 || p.Dispatches == 0 || len(p.Kernels) == 0 {
					t.Errorf("pass %d: %+v", k, p)
				}
			}
			if r.PeakDevice < r.BlockBytes {
				t.Errorf("peak device memory %d is less than a block", r.PeakDevice)
			}
		})
	}
}

func TestRunEndsWithItsContextAndLeaksNothing(t *testing.T) {
	d := enginetest.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := tinyOptions(t)
	o.Swap.Slots = 2
	o.Progress = func(done, _ int) {
		if done == 1 {
			cancel()
		}
	}
	if _, err := Run(ctx, d, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// checkTrace looks at the rows of a trace: in order, without overlaps, passes beside the blocks they contain.
func checkTrace(t *testing.T, trace swap.Trace, blocks int, copies bool) {
	t.Helper()
	rows := trace.Rows()
	names := map[string]timeline.Row{}
	for _, r := range rows {
		names[r.Name] = r
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
	if got := len(names["compute queue"].Intervals); got < blocks {
		t.Errorf("%d intervals of blocks, want %d", got, blocks)
	}
	if (len(names["copy queue"].Intervals) > 0) != copies {
		t.Errorf("%d copies in the trace", len(names["copy queue"].Intervals))
	}
	program := names["program"].Intervals
	if len(program) != 3 {
		t.Fatalf("the program has parts %+v, want text blocks and two passes", program)
	}
	first, last := names["compute queue"].Intervals[0], names["compute queue"].Intervals[len(names["compute queue"].Intervals)-1]
	const slack = 50e6 // ns, between the two clocks on a machine that does other things too
	if first.Start < program[1].Start-slack || last.End > program[2].End+slack {
		t.Errorf("blocks run from %g to %g, the passes from %g to %g", first.Start, last.End, program[1].Start, program[2].End)
	}
}
