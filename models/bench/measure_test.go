package bench

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
)

func TestKernelsAreMeasuredAgainstTheirCeiling(t *testing.T) {
	for _, marks := range []bool{true, false} { // a device without timestamps is measured by the host's clock
		d := enginetest.OpenWith(t, engine.Options{Marks: marks})
		for _, p := range []load.Precision{load.Mixed, load.Float32} {
			o := KernelOptions{Precision: p, Least: time.Millisecond}
			matmuls, err := Matmuls(t.Context(), d, o, MatmulsOf(smallShape(), 64))
			if err != nil {
				t.Fatal(err)
			}
			attentions, err := Attentions(t.Context(), d, o, AttentionsOf(smallShape(), 64, 16, true))
			if err != nil {
				t.Fatal(err)
			}
			if o.Attention = load.AttentionSage; p == load.Mixed && marks {
				sage, err := Attentions(t.Context(), d, o, AttentionsOf(smallShape(), 64, 16, true))
				if err != nil {
					t.Fatal(err)
				}
				for k, r := range sage.Runs {
					if whole := attentions.Runs[k]; strings.HasSuffix(r.Name, ", sage") != (r.Name != "cross-attention") || r.Operations != whole.Operations {
						t.Errorf("%+v, without sage %+v", r, whole)
					}
				}
				attentions.Runs = append(attentions.Runs, sage.Runs...)
			}
			convs, err := Convs(t.Context(), d, o, []ConvShape{{Name: "conv", Frames: 2, Height: 8, Width: 8, In: 16, Out: 16}})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*KernelReport{matmuls, attentions, convs} {
				if len(r.Ceilings) == 0 || len(r.Runs) == 0 {
					t.Fatalf("report %+v", r)
				}
				for _, k := range r.Runs {
					if k.Time <= 0 || k.TFLOPS <= 0 || k.Share <= 0 || k.Unit == "" || math.Abs(k.TFLOPS*1e12*k.Time.Seconds()/k.Operations-1) > 1e-6 {
						t.Errorf("marks %v: %+v", marks, k)
					}
				}
			}
		}
	}
}

func smallShape() *configs.DiTParams {
	return &configs.DiTParams{ModelDim: 64, FFDim: 128, AxesDims: [3]int{8, 12, 12}, NumVisualBlocks: 1, PatchSize: [3]int{1, 2, 2}}
}

// A second for each half of the products: their number a second is the harmonic mean.
func TestCeilingOfHalfAndHalf(t *testing.T) {
	got := halfAndHalf(Ceiling{"int8 matrices", 1200}, Ceiling{"bf16 matrices", 600})
	if got.PerSecond != 800 || !strings.Contains(got.Unit, "int8 matrices and bf16 matrices") {
		t.Errorf("%+v", got)
	}
	if one := (Ceiling{"fp32 multiply-adds", 5}); halfAndHalf(one, one) != one {
		t.Error("one unit has another ceiling")
	}
}

// The shapes measured are those that make up a block: together they do its work.
func TestShapesOfABlockAddUpToItsWork(t *testing.T) {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	d := &config.Model.DiT
	const tokens, text = 47616, 256
	times := map[string]float64{"query, key or value": 4, "output of attention": 2, "feed-forward in": 1, "feed-forward out": 1}
	var linear, attention float64
	for _, m := range MatmulsOf(d, tokens) {
		linear += times[m.Name] * 2 * float64(m.M) * float64(m.N) * float64(m.K)
	}
	for _, a := range AttentionsOf(d, tokens, text, false) {
		attention += 4 * float64(a.Heads) * float64(a.Queries) * float64(a.Keys) * float64(a.HeadDim)
	}
	w := WorkOf(d, tokens, text)
	if blocks := float64(d.NumVisualBlocks); math.Abs(linear*blocks/w.Linear-1) > 0.01 || math.Abs(attention*blocks/w.Attention-1) > 0.01 {
		t.Errorf("linear layers %g of %g, attention %g of %g", linear*blocks, w.Linear, attention*blocks, w.Attention)
	}
}

func TestCeilingForAPrecision(t *testing.T) {
	fma, bf16, f16, i8 := Ceiling{"fp32 multiply-adds", 1}, Ceiling{"bf16 matrices", 2}, Ceiling{"fp16 matrices", 3}, Ceiling{"int8 matrices", 4}
	for _, c := range []struct {
		list []Ceiling
		p    load.Precision
		l    load.Linear
		want Ceiling
	}{
		{[]Ceiling{fma, bf16, f16, i8}, load.Mixed, load.LinearFull, bf16}, {[]Ceiling{fma, bf16, f16, i8}, load.Float32, load.LinearFull, fma},
		{[]Ceiling{fma, f16, i8}, load.Mixed, load.LinearFull, f16}, {[]Ceiling{fma}, load.Mixed, load.LinearFull, fma},
		{[]Ceiling{fma, bf16, f16, i8}, load.Mixed, load.LinearInt8, i8}, {[]Ceiling{fma, bf16}, load.Mixed, load.LinearInt8, fma},
	} {
		if got := ceilingFor(c.list, c.p, c.l); got != c.want {
			t.Errorf("%v in %v: %v, want %v", c.list, c.p, got, c.want)
		}
	}
}

func TestCopiesOfEveryKindAreMeasured(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{Marks: true})
	r, err := Copies(t.Context(), d, CopyOptions{Sizes: []int64{64 << 10, 20 << 20}, Least: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * 2 * len(d.HostKinds()); len(r.Runs) != want {
		t.Errorf("%d runs, want %d", len(r.Runs), want)
	}
	for _, run := range r.Runs {
		if run.Idle <= 0 || (run.Busy > 0) == r.Shared {
			t.Errorf("%+v", run)
		}
	}
	if _, err := Copies(t.Context(), enginetest.Open(t), CopyOptions{Sizes: []int64{64 << 10}, Least: time.Millisecond}); !errors.Is(err, engine.ErrNoTimestamps) {
		t.Errorf("without marks: %v", err)
	}
}

func TestRateCountsWhatLiesInside(t *testing.T) {
	spans := []engine.Span{{Start: 0, End: 10}, {Start: 10, End: 20}, {Start: 20, End: 30}, {Start: 30, End: 40}}
	for _, c := range []struct{ from, to, want float64 }{{math.Inf(-1), math.Inf(1), 1e8}, {5, 35, 1e8}, {11, 12, 0}, {10, 20, 1e8}} {
		if got := rate(spans, 1, c.from, c.to); math.Abs(got-c.want) > 1 {
			t.Errorf("from %g to %g: %g, want %g", c.from, c.to, got, c.want)
		}
	}
}

func TestSwappingIsComparedWithAllBlocksResident(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{Marks: true})
	o := SwapOptions{Options: tinyOptions(t), Least: time.Millisecond, BusRates: []float64{2e9}}
	o.Swap = dit.SwapOptions{Slots: 2}
	var began []string
	o.Began = func(what string) { began = append(began, what) }
	r, err := Swapping(t.Context(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Resident == nil || len(r.Runs) != 2 || len(began) != 3 || r.IdleRate <= 0 {
		t.Fatalf("report %+v after %q", r, began)
	}
	own, slow := r.Runs[0], r.Runs[1]
	// The rates themselves depend on what else the machine does.
	if own.Throttled || !slow.Throttled || own.CopyRate <= 0 || slow.CopyRate <= 0 || math.Abs(slow.BusRate-2e9) > 1e7 {
		t.Errorf("rates %g of %g, on the slower bus %g of %g", own.CopyRate, own.BusRate, slow.CopyRate, slow.BusRate)
	}
	for _, run := range r.Runs {
		if run.Ratio <= 0 || run.Copying <= 0 || run.Host <= 0 || run.PeakDevice == 0 || run.Plan.Slots != 2 {
			t.Errorf("run %+v", run)
		}
	}
	for _, impossible := range []float64{1e15, 1, -1} {
		o.BusRates = []float64{impossible}
		if _, err := Swapping(t.Context(), d, o); err == nil {
			t.Errorf("a bus of %g B/s was imitated", impossible)
		}
	}
	o.Passes = 1
	if _, err := Swapping(t.Context(), d, o); err == nil {
		t.Error("one pass was compared")
	}
}
