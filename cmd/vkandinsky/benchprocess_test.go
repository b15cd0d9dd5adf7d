package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/swap"
)

// checkPicture parses an SVG and looks for texts in it.
func checkPicture(t *testing.T, path string, texts ...string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(string(data)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s is no XML: %v", path, err)
		}
	}
	for _, want := range texts {
		if !strings.Contains(string(data), want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
}

// checkEvents parses a trace and returns how many events each thread has. Events of a thread must not overlap.
func checkEvents(t *testing.T, path string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TraceEvents []struct {
			Name, Ph string
			TS, Dur  float64
			TID      int
			Args     struct{ Name string }
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	names, counts, ends := map[int]string{}, map[string]int{}, map[int]float64{}
	for _, e := range file.TraceEvents {
		if e.Ph == "M" {
			names[e.TID] = e.Args.Name
			continue
		}
		counts[names[e.TID]]++
		if e.TS < 0 || e.Dur < 0 || e.TS < ends[e.TID]-1e-3 {
			t.Errorf("event %+v of %q overlaps the one before it, or begins before the run", e, names[e.TID])
		}
		ends[e.TID] = e.TS + e.Dur
	}
	return counts
}

func TestBenchSwapComparesAndDraws(t *testing.T) {
	dir := t.TempDir()
	picture, trace := filepath.Join(dir, "swap.svg"), filepath.Join(dir, "swap.json")
	args := []string{"bench", "swap", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--synthetic", "--video-duration", "0", "--width", "64", "--height", "64",
		"--blocks", "4", "--blocks-in-memory", "2", "--least", "2ms"}
	var r bench.SwapReport
	parseJSON(t, startOK(t, append(args, "--json", "--bus-rate", "2GB/s", "--timeline", picture, "--trace", trace)...).stdout, &r)
	if r.Resident == nil || len(r.Runs) != 2 || r.Runs[0].Ratio <= 0 || r.Runs[0].Plan.Blocks != 4 || !r.Runs[1].Throttled || r.Runs[0].Verdict.Text == "" {
		t.Errorf("report %+v", r)
	}
	checkPicture(t, picture, "compute queue", "copy queue", "block 0", "4 streamed through 2 slots")
	counts := checkEvents(t, trace)
	if counts["compute queue"] < 8 || counts["copy queue"] < 8 || counts["program"] != 3 {
		t.Errorf("events by thread: %v", counts)
	}
	out := startOK(t, args...).stdout
	for _, want := range []string{"speed against resident", "(goal 0.99)", "peak device memory", "2 of 4 blocks: "} {
		if !strings.Contains(out, want) {
			t.Errorf("bench swap does not print %q:\n%s", want, out)
		}
	}
}

func TestBenchOfKernelsAndCopies(t *testing.T) {
	for _, c := range []struct{ what, shape, text string }{
		{"matmul", "64x48x32", "64×48×32"}, {"attention", "2x64x32x64", "2×64×32×64"}, {"conv", "2x8x8x16x16", "2×8×8×16×16"},
	} {
		var r bench.KernelReport
		parseJSON(t, startOK(t, "bench", c.what, "--shape", c.shape, "--least", "1ms", "--json").stdout, &r)
		if len(r.Runs) != 1 || r.Runs[0].Shape != c.text || r.Runs[0].TFLOPS <= 0 || r.Runs[0].Share <= 0 {
			t.Errorf("%s: %+v", c.what, r)
		}
		if out := startOK(t, "bench", c.what, "--shape", c.shape, "--least", "1ms").stdout; !strings.Contains(out, "of the ceiling") || !strings.Contains(out, c.text) {
			t.Errorf("%s prints\n%s", c.what, out)
		}
	}
	var r bench.CopyReport
	parseJSON(t, startOK(t, "bench", "copy", "--size", "64KiB,1MiB", "--memory", "cached", "--least", "1ms", "--json").stdout, &r)
	if len(r.Runs) != 4 || r.Runs[0].Idle <= 0 || r.Runs[0].Memory != "cached" {
		t.Errorf("copies %+v", r)
	}
	if out := startOK(t, "bench", "copy", "--size", "64KiB", "--least", "1ms").stdout; !strings.Contains(out, "down") || !strings.Contains(out, "64.0 KiB") {
		t.Errorf("bench copy prints\n%s", out)
	}
}

func TestBenchOfASmallDecode(t *testing.T) {
	args := []string{"bench", "vae", "--small", "--frames", "5", "--width", "32", "--height", "32", "--rounds", "1"}
	var r bench.VAEReport
	parseJSON(t, startOK(t, append(args, "--json")...).stdout, &r)
	if len(r.Rounds) != 1 || r.Rounds[0].Time <= 0 || r.Size.Frames != 5 || len(r.Rounds[0].Parts) == 0 {
		t.Errorf("report %+v", r)
	}
	if out := startOK(t, args...).stdout; !strings.Contains(out, "decode 1") || !strings.Contains(out, "5 frames of 32×32") {
		t.Errorf("bench vae prints\n%s", out)
	}
}

func TestGenerateSaysWhereTheTimeWentAndDrawsIt(t *testing.T) {
	dir := t.TempDir()
	picture, trace := filepath.Join(dir, "run.svg"), filepath.Join(dir, "run.json")
	args := []string{"generate", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--checkpoint-dir", tinyModel, "--prompt", "A fox <runs> & hides.", "--video_duration", "0",
		"--width", "64", "--height", "64", "--sample_steps", "2", "--blocks-in-memory", "2"}
	o := startOK(t, append(args, "-o", filepath.Join(dir, "a.png"), "--json", "--timeline", picture, "--trace", trace)...)
	var made generated
	parseJSON(t, o.stdout, &made)
	if made.Timeline != picture || made.Trace != trace || made.Stats.Verdict == nil || made.Summary == "" || !strings.Contains(o.stderr, made.Summary) {
		t.Errorf("made %+v, standard error\n%s", made, o.stderr)
	}
	checkPicture(t, picture, "denoise", "compute queue", "A fox &lt;runs&gt; &amp; hides.")
	counts := checkEvents(t, trace)
	if counts["compute queue"] < 2*6 || counts["program"] != len(made.Stats.Stages) {
		t.Errorf("events by thread: %v", counts)
	}
	quiet := startOK(t, append(args, "-o", filepath.Join(dir, "b.png"), "--quiet")...)
	if quiet.stderr != "" {
		t.Errorf("a quiet run says %q", quiet.stderr)
	}
}

func TestWhereTheTimeWent(t *testing.T) {
	stages := func(text, denoise, decode time.Duration) kandinsky5.Stats {
		return kandinsky5.Stats{Stages: []kandinsky5.StageStats{{Stage: kandinsky5.StageText, Took: text}, {Stage: kandinsky5.StageDenoise, Took: denoise}, {Stage: kandinsky5.StageDecode, Took: decode}},
			Verdict: &swap.Verdict{Text: "compute bound"}, StepsMade: 1}
	}
	unknown := stages(time.Second, 8*time.Second, time.Second)
	unknown.Verdict = nil
	for want, s := range map[string]kandinsky5.Stats{
		"denoising took 92 % of 343 s and was compute bound":                                             stages(10*time.Second, 316*time.Second, 17*time.Second),
		`most of 30.00 s went into the stage "decode" (70 %); denoising took 20 % and was compute bound`: stages(3*time.Second, 6*time.Second, 21*time.Second),
		"denoising took 80 % of 10.00 s and was not measured: the device has no timestamps":              unknown,
	} {
		if got := whereTheTimeWent(s); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestBenchOfWholeRunsUnderBudgets(t *testing.T) {
	args := []string{"bench", "pipeline", "--synthetic", "--blocks", "3", "--video-duration", "0", "--width", "32", "--height", "32", "--sample-steps", "2", "--vram-budget", "512MiB,1MiB"}
	report := filepath.Join(t.TempDir(), "report.json")
	o := start(t, append(args, "--report", report)...)
	o.wantLine(t, exitFailed, "1 of 2 budgets were not enough", "1.0 MiB: the run does not fit", "the smallest budget that works is --vram-budget")
	for _, want := range []string{"3 visual blocks", "2 steps of 1 branches", "512.0 MiB", "by largest", "the same", "encode image", "RAM planned", "the smallest budget that works by plan is"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("bench pipeline does not print %q:\n%s", want, o.stdout)
		}
	}
	var r, refused bench.PipelineReport
	parseJSON(t, string(read(t, report)), &r)
	if len(r.Runs) != 2 || r.Blocks != 3 || r.Least == 0 || !r.Runs[0].Fits || r.Runs[0].Ratio != 1 || r.Runs[0].Latents == "" || r.Runs[1].Fits || r.Runs[1].Error == "" {
		t.Errorf("report %+v", r)
	}
	parseJSON(t, start(t, append(args, "--vram-budget", "1MiB", "--json")...).stdout, &refused)
	if len(refused.Runs) != 1 || refused.Runs[0].Fits || refused.Least != r.Least {
		t.Errorf("report %+v, want the smallest budget %d", refused, r.Least)
	}
	start(t, append(args, "--vram-budget", "1GiB,much")...).wantLine(t, exitBadInput, "vram-budget", "much", "is no size")
	start(t, append(args, "--expand-prompt", "1")...).wantLine(t, exitBadInput, "a made-up text encoder writes no prompts")
	start(t, "bench", "pipeline", "--blocks", "3").wantLine(t, exitBadInput, "needs --synthetic")
}
