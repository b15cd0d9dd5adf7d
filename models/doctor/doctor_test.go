package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// strict examines under the validation layer, with new memory full of NaN.
func strict() Options {
	return Options{Quick: true, Engine: engine.Options{Validate: true, Limits: engine.TestLimits{Poison: true}}}
}

func run(t *testing.T, probe string, o Options) Findings {
	t.Helper()
	f, err := Run(t.Context(), probe, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Results) == 0 {
		t.Fatalf("the probe %s found nothing", probe)
	}
	for _, r := range f.Results {
		if r.Name != probe || r.Title == "" || r.Summary == "" || r.Status == "" || r.Took <= 0 {
			t.Errorf("a result is not whole: %+v", r)
		}
		if strings.Contains(r.Summary, "leaked") {
			t.Errorf("%s: %s", r.Title, r.Summary)
		}
	}
	return f
}

func TestEveryProbeIsContentWithTheDeviceOfTheTests(t *testing.T) {
	device := run(t, probeDevice, strict())
	if len(device.Tiers) == 0 || device.Header == nil || device.Header.Device == "" {
		t.Fatalf("the probe tells no tiers or no device: %+v", device)
	}
	probes := []string{probeLayers, probePulse, probeNorms, probeCopies, probePinned, probeDispatch}
	for _, tier := range device.Tiers {
		probes = append(probes, kernelProbe+tier)
	}
	for _, probe := range probes {
		t.Run(probe, func(t *testing.T) {
			r := run(t, probe, strict()).Results[0]
			if r.Status == Failed || r.Status == NotAvailable {
				t.Errorf("%s: %s", r.Status, r.Summary)
			}
			checkNumbers(t, probe, r)
		})
	}
	for _, r := range device.Results {
		if r.Status == Failed {
			t.Errorf("%s: %s", r.Title, r.Summary)
		}
	}
}

// checkNumbers holds that a probe measured something.
func checkNumbers(t *testing.T, probe string, r Result) {
	t.Helper()
	for _, k := range r.Kernels {
		if !k.Pass || !(k.Rate > 0) || !(k.Error >= 0) || !(float64(k.Error) <= k.Limit) || len(k.Checks) == 0 {
			t.Errorf("kernel %+v", k)
		}
	}
	for _, c := range r.Copies {
		if c.Beside == "nothing" && !(c.Rate > 0) || c.Bytes <= 0 {
			t.Errorf("copy %+v", c)
		}
	}
	for _, d := range r.Dispatch {
		if !(d.Seconds > 0) || !(d.Cost > 0) {
			t.Errorf("dispatch %+v", d)
		}
	}
	counts := map[string][2]int{probeNorms: {2, len(r.Kernels)}, probeCopies: {2, min(len(r.Copies), 2)}, probeDispatch: {3, len(r.Dispatch)}, probePinned: {1, min(1, len(r.Pinned))}}
	if strings.HasPrefix(probe, kernelProbe) {
		counts[probe] = [2]int{4, len(r.Kernels)}
		if strings.HasPrefix(probe, kernelProbe+"matrix") { // upsampling too
			counts[probe] = [2]int{5, len(r.Kernels)}
		}
	}
	if n, ok := counts[probe]; ok && n[0] != n[1] {
		t.Errorf("%d numbers, want %d: %+v", n[1], n[0], r)
	}
}

func TestCopiesBesideComputing(t *testing.T) {
	o := strict()
	o.Engine.Limits.Unshared = true // so that it is tried on one queue too, where copies follow the kernels
	r := run(t, probeCopies, o).Results[0]
	if r.Status == Failed || len(r.Copies) != 4 {
		t.Errorf("%s: %s, copies %+v", r.Status, r.Summary, r.Copies)
	}
}

func TestOverlapCountsOnlyWhatLiesBesideEachOther(t *testing.T) {
	c := &copier{size: 1000}
	span := func(start, end float64) engine.Span { return engine.Span{Start: start, End: end} }
	compute := []engine.Span{span(0, 50), span(50, 100), span(100, 120), span(120, 140), span(140, 150), span(150, 160)}
	rate, slowdown := c.overlap(compute, []engine.Span{span(95, 118), span(118, 141), span(155, 200)})
	if math.Abs(rate-1000/23.0*1e9) > 1 {
		t.Errorf("rate %g", rate)
	}
	if slowdown != 0 { // no dispatch ran after the copies
		t.Errorf("slowdown %g though nothing ran alone", slowdown)
	}
	_, slowdown = c.overlap(compute, []engine.Span{span(95, 118), span(118, 141)})
	if math.Abs(slowdown-2) > 1e-9 {
		t.Errorf("slowdown %g, want 2: 20 beside copies and 10 after them", slowdown)
	}
	if rate, slowdown := c.overlap(nil, nil); rate != 0 || slowdown != 0 {
		t.Errorf("%g and %g of nothing", rate, slowdown)
	}
}

func TestAWrongKernelIsFound(t *testing.T) {
	for name, spoil := range map[string]func(kernel string, v []float32){
		"one wrong row": func(kernel string, v []float32) {
			if kernel == "attention" && len(v) > 128 {
				for k := range 128 {
					v[k] = -v[k]
				}
			}
		},
		"not a number": func(kernel string, v []float32) {
			if kernel == "attention" {
				v[len(v)/2] = float32(math.NaN())
			}
		},
		"zeros": func(kernel string, v []float32) {
			if kernel == "attention" {
				clear(v)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := strict()
			o.spoil = spoil
			r := run(t, kernelProbe+"base", o).Results[0]
			if r.Status != Failed || !strings.Contains(r.Summary, "1 of 4 kernels compute wrong numbers") {
				t.Errorf("%s: %s", r.Status, r.Summary)
			}
			for _, k := range r.Kernels {
				if k.Pass != (k.Kernel != "attention") {
					t.Errorf("%s passes: %v", k.Kernel, k.Pass)
				}
			}
			report := &Report{}
			report.add(r)
			if err := report.Err(); err == nil || !strings.Contains(err.Error(), "wrong numbers") {
				t.Errorf("the report's error is %v", err)
			}
		})
	}
}

func TestAFailedAllocationFailsItsProbeAndLeaksNothing(t *testing.T) {
	for _, probe := range []string{probeDevice, probeNorms, probeCopies, probePinned, probeDispatch} {
		clean := &engine.Faults{}
		o := strict()
		o.Engine.Faults = clean
		run(t, probe, o)
		n := clean.Allocations()
		if n < 2 {
			t.Errorf("%s allocates %d times", probe, n)
		}
		for _, at := range []int64{1, n/2 + 1, n} {
			o.Engine.Faults = &engine.Faults{AllocateFrom: at} // one alone is made up for with a smaller chunk
			f := run(t, probe, o)
			bad := 0
			for _, r := range f.Results {
				if r.Status == Failed {
					bad++
					if !strings.Contains(r.Summary, "out of device memory") {
						t.Errorf("%s, allocation %d: %s", probe, at, r.Summary)
					}
				}
			}
			// Pinned memory that a driver refuses in the end is a limit, and a type of memory of which it gives little a warning.
			limit := f.Results[0].Status == Warning && probe == probePinned
			for _, r := range f.Results {
				limit = limit || r.Status == Warning && strings.Contains(r.Summary, "fails")
			}
			// A busy machine repeats measurements less often, and may be done before the allocation that was to fail.
			if reached := o.Engine.Faults.Allocations() >= at; reached && bad == 0 && !limit {
				t.Errorf("%s: allocation %d of %d failed and nobody said so: %+v", probe, at, n, f.Results)
			}
		}
	}
}

func TestALostDeviceIsToldAsSuch(t *testing.T) {
	for _, probe := range []string{probeNorms, probeCopies, probeDispatch, kernelProbe + "base"} {
		o := strict()
		o.Engine.Faults = &engine.Faults{SubmitAt: 5}
		f := run(t, probe, o)
		r := f.Results[0]
		if !f.Lost || r.Status != Failed || !strings.Contains(r.Summary, "device lost") || len(r.Advice) == 0 {
			t.Errorf("%s: lost %v, %s: %s, advice %v", probe, f.Lost, r.Status, r.Summary, r.Advice)
		}
	}
}

func TestExamineGoesThroughEverything(t *testing.T) {
	var titles []string
	o := strict()
	o.Progress = func(title string, done, total int) {
		titles = append(titles, title)
		if done > total {
			t.Errorf("%d of %d done", done, total)
		}
	}
	r, err := Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if r.Device == "" || len(r.Results) < 9 || len(titles) < 7 || r.Count(OK) == 0 {
		t.Errorf("%d results after %v: %+v", len(r.Results), titles, r)
	}
}

// scripted are probes that do as told.
type scripted struct {
	t     *testing.T
	calls []string
	envs  [][]string
	do    func(probe string, env []string) (Findings, error)
}

func (s *scripted) start(_ context.Context, probe string, _ time.Duration, env []string) (Findings, error) {
	s.calls, s.envs = append(s.calls, probe), append(s.envs, env)
	if s.do != nil {
		if f, err := s.do(probe, env); err != nil || len(f.Results) > 0 || f.BadDevice != "" {
			return f, err
		}
	}
	f := Findings{Results: []Result{{Name: probe, Title: title(probe), Status: OK, Summary: "fine"}}}
	if probe == probeDevice {
		f.Tiers, f.Header = []string{"base", "fp16"}, &Report{Device: "scripted", Tier: "fp16"}
	}
	return f, nil
}

func examineScript(t *testing.T, o Options, do func(probe string, env []string) (Findings, error)) (*Report, *scripted, error) {
	t.Helper()
	s := &scripted{t: t, do: do}
	o.Start = s.start
	r, err := Examine(t.Context(), o)
	return r, s, err
}

func crash(probe string) error {
	return &CrashError{Probe: probe, How: "SIGSEGV: segmentation violation"}
}

func TestACrashEndsOneExaminationOnly(t *testing.T) {
	r, s, err := examineScript(t, Options{}, func(probe string, _ []string) (Findings, error) {
		if probe == kernelProbe+"fp16" {
			return Findings{}, crash(probe)
		}
		return Findings{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "device layers pinned copies kernels-fp16 pulse kernels-base norms dispatch"
	if got := strings.Join(s.calls, " "); got != want {
		t.Errorf("probes %s, want %s", got, want)
	}
	if r.Count(Failed) != 1 || r.Err() == nil || !strings.Contains(r.Err().Error(), "segmentation violation") {
		t.Errorf("%d failed: %v", r.Count(Failed), r.Err())
	}
}

func TestADeviceThatIsGoneEndsTheExaminationsOfIt(t *testing.T) {
	r, s, err := examineScript(t, Options{}, func(probe string, _ []string) (Findings, error) {
		switch probe {
		case kernelProbe + "fp16":
			return Findings{Lost: true, Results: []Result{{Status: Failed, Summary: "device lost"}}}, nil
		case probePulse:
			return Findings{Results: []Result{{Status: Failed, Summary: "device lost"}}}, nil
		}
		return Findings{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.calls, " "); got != "device layers pinned copies kernels-fp16 pulse" {
		t.Errorf("probes %s", got)
	}
	last := r.Results[len(r.Results)-1]
	if last.Status != NotAvailable || last.Summary != "the device does not answer since kernels, tier fp16" || r.Count(NotAvailable) != 3 {
		t.Errorf("%+v", r.Results)
	}
}

func TestACrashThatInjectedLayersCauseIsToldApart(t *testing.T) {
	t.Setenv("VK_IMPLICIT_LAYER_PATH", t.TempDir())
	r, s, err := examineScript(t, Options{}, func(probe string, env []string) (Findings, error) {
		if len(env) == 0 {
			return Findings{}, crash(probe)
		}
		return Findings{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, env := range s.envs[1:] {
		if len(env) != 1 || env[0] != "VK_LOADER_LAYERS_DISABLE=~implicit~" {
			t.Errorf("%s ran with %v", s.calls[n+1], env)
		}
	}
	first := r.Results[0]
	if first.Status != Failed || !strings.Contains(first.Summary, "without them it works") || r.Count(Failed) != 1 || r.Count(OK) < 5 {
		t.Errorf("%+v", r.Results)
	}
}

func TestADriverThatAlwaysCrashesIsReported(t *testing.T) {
	r, s, err := examineScript(t, Options{}, func(probe string, _ []string) (Findings, error) { return Findings{}, crash(probe) })
	if err != nil || len(s.calls) != 2 || r.Err() == nil || len(r.Results) != 1 {
		t.Errorf("%v after %v: %+v", err, s.calls, r)
	}
}

func TestADeviceThatDoesNotExistIsTheUsersMistake(t *testing.T) {
	_, _, err := examineScript(t, Options{}, func(string, []string) (Findings, error) {
		return Findings{BadDevice: "no device 7: there are 1"}, nil
	})
	if !errors.Is(err, engine.ErrNoDevice) || err.Error() != "no device 7: there are 1" {
		t.Errorf("error %v", err)
	}
	o := strict()
	o.Engine.Device = "77"
	if _, err := Examine(t.Context(), o); !errors.Is(err, engine.ErrNoDevice) {
		t.Errorf("error %v", err)
	}
}

func TestTiersThatAreExamined(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "kernels-fp16 kernels-base"},
		{Options{Quick: true}, "kernels-fp16"},
		{Options{Engine: engine.Options{Tier: engine.TierBase}}, "kernels-base"},
	} {
		_, s, err := examineScript(t, c.o, nil)
		if err != nil {
			t.Fatal(err)
		}
		var kernels []string
		for _, call := range s.calls {
			if strings.HasPrefix(call, kernelProbe) {
				kernels = append(kernels, call)
			}
		}
		if got := strings.Join(kernels, " "); got != c.want {
			t.Errorf("%+v examines %s, want %s", c.o, got, c.want)
		}
	}
}

func TestAFasterTierIsAdvised(t *testing.T) {
	rates := map[string]float64{"fp16": 10, "base": 20}
	give := func(probe string, _ []string) (Findings, error) {
		tier, ok := strings.CutPrefix(probe, kernelProbe)
		if !ok {
			return Findings{}, nil
		}
		return Findings{Results: []Result{{Status: OK, Summary: "fine", Tier: tier, Kernels: []Kernel{{Kernel: linearLayer, Rate: rates[tier], Pass: true}}}}}, nil
	}
	r, _, err := examineScript(t, Options{}, give)
	if err != nil || r.Status != Warning || r.Count(Warning) != 1 || len(r.Results[4].Advice) != 1 || r.Results[4].Advice[0] != "Linear layers are 2.0 times as fast with --kernels base on this device." {
		t.Errorf("%v, %+v", err, r)
	}
	rates["base"] = 11
	if r, _, _ = examineScript(t, Options{}, give); r.Status != OK {
		t.Errorf("%+v", r)
	}
}

func TestACancelledExaminationSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Start: func(context.Context, string, time.Duration, []string) (Findings, error) {
		cancel()
		return Findings{}, crash("device")
	}}
	if _, err := Examine(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestAProbeThatHangsIsEnded(t *testing.T) {
	stop := enginetest.Deadline(t, time.Minute, "the examination")
	defer stop()
	o := Options{Quick: true, limits: &limits{whole: time.Second, probeWhole: time.Second}, Start: func(ctx context.Context, probe string, _ time.Duration, _ []string) (Findings, error) {
		if probe == probeDevice {
			return Findings{Tiers: []string{"base"}, Header: &Report{Tier: "base"}, Results: []Result{{Status: OK, Summary: "fine"}}}, nil
		}
		<-ctx.Done()
		return Findings{}, crash(probe)
	}}
	r, err := Examine(t.Context(), o)
	if err != nil || r.Count(NotAvailable) < 5 || r.Err() != nil {
		t.Errorf("%v: %+v", err, r.Results)
	}
}

func TestRunRefusesWhatIsNoProbe(t *testing.T) {
	for _, probe := range []string{"", "everything", "kernels-", "kernels-auto", "kernels-fast"} {
		if _, err := Run(t.Context(), probe, Options{}); !errors.Is(err, ErrProbe) {
			t.Errorf("%q: error %v", probe, err)
		}
	}
}

func TestAPanicIsAFailure(t *testing.T) {
	o := strict()
	o.spoil = func(string, []float32) { panic("oh no") }
	r := run(t, probeNorms, o).Results[0]
	if r.Status != Failed || !strings.Contains(r.Summary, "internal error: oh no") {
		t.Errorf("%s: %s", r.Status, r.Summary)
	}
}

func TestFindingsSurviveJSON(t *testing.T) {
	data, err := json.Marshal(Findings{Results: sample().Results, Tiers: []string{"base"}, Lost: true})
	if err != nil {
		t.Fatal(err)
	}
	var f Findings
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	nan := 0
	for n, r := range f.Results {
		if r.Status != sample().Results[n].Status || len(r.Kernels) != len(sample().Results[n].Kernels) {
			t.Errorf("result %d came back as %+v", n, r)
		}
		for _, k := range r.Kernels {
			if math.IsNaN(float64(k.Error)) {
				nan++
			}
		}
	}
	if nan != 1 || !f.Lost {
		t.Errorf("%d errors are NaN, want 1; lost %v", nan, f.Lost)
	}
}

// TestTrialsComputeByFragmentsWhereRunsDo has fragments whose matrices are computed in fp32.
func TestTrialsComputeByFragmentsWhereRunsDo(t *testing.T) {
	o := strict()
	o.Engine.Limits.EmulateFragments = true
	r := Result{Status: OK}
	var f Findings
	o.examineAll(t.Context(), &f, &r, engine.TierFP16, func(c engine.Caps) []trial {
		list := []trial{matmulTrial(c), attentionTrial(c)}
		for n, dims := range [][4]int{{70, 130, 256}, {1, 48, 32, 128}} { // the emulated ones are slow
			list[n].sizes = list[n].sizes[:1]
			list[n].sizes[0].dims = dims
		}
		return list
	})
	if r.Status != OK || len(r.Kernels) != 2 {
		t.Fatalf("%s: %s", r.Status, r.Summary)
	}
	checkNumbers(t, "fragments", r)
	for n, want := range []string{shaders.MatmulFragmentsEmulated, shaders.AttentionFragmentsEmulated} {
		if k := r.Kernels[n]; k.Shader != want {
			t.Errorf("%s is computed by %s, want %s", k.Kernel, k.Shader, want)
		}
		t.Logf("%+v", r.Kernels[n])
	}
}
