package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/swap"
)

func planOf20B(more ...string) []string {
	return append([]string{"plan", "--quiet", "--config", "config_5s_i2v_pro_20b", "--vram", "24GiB", "--ram", "64GiB"}, more...)
}

func TestPlanWithVRAMTouchesNoGPU(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), program, planOf20B("--blocks_in_memory", "2")...)
	nothing := filepath.Join(t.TempDir(), "no-driver.json")
	cmd.Env = append(os.Environ(), "VK_DRIVER_FILES="+nothing, "VK_ICD_FILENAMES="+nothing)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"denoise", "decode", "47616 tokens", "584.3 MiB", "peak: device", "fits"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the plan lacks %q:\n%s", want, out)
		}
	}
}

func TestPlanOfTooMuchIsStatus1WithAdvice(t *testing.T) {
	status, stdout, stderr := invoke(t, planOf20B("--enable-block-swap=false")...)
	if status != exitFailed || !strings.Contains(stdout, "DOES NOT FIT") || !strings.Contains(stderr, "--blocks-in-memory") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, %s\n%s", status, stdout, stderr)
	}
}

func TestPlansOfDraftsPredictTheirSteps(t *testing.T) {
	status, stdout, stderr := invoke(t, planOf20B("--draft-steps", "10", "--tflops", "60", "--bus-rate", "24GB/s")...)
	if status != 0 || !strings.Contains(stdout, "(10 of 50 steps)") {
		t.Errorf("status %d, %s\n%s", status, stdout, stderr)
	}
	for _, steps := range []string{"0", "50", "-1"} {
		if status, _, stderr := invoke(t, planOf20B("--draft-steps", steps)...); status != exitBadInput || !strings.Contains(stderr, "use 1 to 49") {
			t.Errorf("%s: status %d, %s", steps, status, stderr)
		}
	}
}

func TestPlanAsJSON(t *testing.T) {
	status, stdout, stderr := invoke(t, planOf20B("--json", "--blocks-in-memory", "4", "--host-tier", "mapped")...)
	if status != 0 {
		t.Fatal(stderr)
	}
	var p kandinsky5.MemoryPlan
	parseJSON(t, stdout, &p)
	if !p.Fits || len(p.Stages) < 4 || p.Swap.Slots != 4 || p.HostTier != swap.Mapped || p.Settings.Geometry.Tokens != 47616 {
		t.Errorf("%+v", p)
	}
	for _, s := range p.Stages {
		var device, pinned int64
		for _, i := range s.Items {
			if i.Where == kandinsky5.OnDevice {
				device += i.Bytes
			} else if i.Where == kandinsky5.InPinned {
				pinned += i.Bytes
			}
		}
		if device != s.Device || pinned != s.Pinned || s.Device > p.Device || s.Pinned > p.Pinned {
			t.Errorf("stage %s: items add up to %d and %d, it says %d and %d of at most %d and %d", s.Stage, device, pinned, s.Device, s.Pinned, p.Device, p.Pinned)
		}
	}
}

// What is too little for anything is refused with the smallest budget that works, and that one does work.
func TestPlanOfTooLittleNamesTheSmallestBudget(t *testing.T) {
	for _, name := range []string{"config_5s_i2v_pro_20b", "k5_pro_i2v_5s_sft_hd"} {
		plan := func(vram string) (int, string) {
			status, _, stderr := invoke(t, "plan", "--quiet", "--config", name, "--ram", "64GiB", "--vram", vram)
			return status, stderr
		}
		status, stderr := plan("1GiB")
		found := regexp.MustCompile(`the smallest budget that works is --vram-budget (\d+)MiB`).FindStringSubmatch(stderr)
		if status != exitFailed || found == nil || strings.Count(stderr, "\n") != 1 {
			t.Fatalf("%s: status %d, %s", name, status, stderr)
		}
		least, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		if status, stderr := plan(found[1] + "MiB"); status != 0 {
			t.Errorf("%s: %s MiB do not work: %s", name, found[1], stderr)
		}
		if status, _ := plan(fmt.Sprintf("%dMiB", least-least/50)); status != exitFailed {
			t.Errorf("%s: 2 %% less than %d MiB work too", name, least)
		}
	}
}

func TestPlanChoosesWithinTheBudget(t *testing.T) {
	blocks := 0
	for _, vram := range []string{"6GiB", "8GiB", "12GiB", "24GiB", "48GiB"} {
		status, stdout, stderr := invoke(t, "plan", "--quiet", "--config", "config_5s_i2v_pro_20b", "--vram", vram, "--ram", "64GiB", "--json", "--tflops", "100", "--bus-rate", "25GB/s")
		if status != 0 {
			t.Fatal(stderr)
		}
		var p planned
		parseJSON(t, stdout, &p)
		if p.Device > p.Limits.Device || !p.Choice.Auto || p.Choice.BlocksInMemory <= blocks || len(p.Assumed) != 0 {
			t.Errorf("%s: %d of %d bytes, %+v, assumed %v", vram, p.Device, p.Limits.Device, p.Choice, p.Assumed)
		}
		blocks = p.Choice.BlocksInMemory
		// Two branches of 60 blocks of 59.5 TFLOP take 71 s at 100 TFLOP/s.
		if s := p.Prediction.Step.Seconds(); s < 70 || s > 75 {
			t.Errorf("%s: a step takes %g s", vram, s)
		}
	}
}

func TestPlanDrawsAPicture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.svg")
	if status, _, stderr := invoke(t, planOf20B("--picture", file)...); status != 0 {
		t.Fatal(stderr)
	}
	picture, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(picture), "may be used: 24.00 GiB") || !strings.Contains(string(picture), "visual blocks") {
		t.Errorf("%v, %s", err, picture)
	}
}

func TestPlanOfACheckpointOnTheDevice(t *testing.T) {
	status, stdout, stderr := invoke(t, "plan", "--checkpoint-dir", tinyModel, "--width", "96", "--height", "64", "--video-duration", "1", "--cache-dir", "")
	if status != 0 || !strings.Contains(stdout, "fits") {
		t.Errorf("status %d, %s\n%s", status, stdout, stderr)
	}
}

func TestPlanOfTheModelInTheProgram(t *testing.T) {
	status, stdout, stderr := invoke(t, "plan", "--vram", "1GiB", "--ram", "1GiB", "--blocks-in-memory", "2")
	if status != 0 || !strings.Contains(stdout, "tiny_i2v: 25 frames of 64×64") || !strings.Contains(stderr, "red-circle.png") || !strings.Contains(stderr, "--config") {
		t.Errorf("status %d, %s\n%s", status, stdout, stderr)
	}
	// Named, it is no surprise; another picture gives the size; a folder's files are taken instead of the program's.
	picture := filepath.Join("testdata", "first.png")
	status, stdout, stderr = invoke(t, "plan", "--config", "tiny_i2v", "--vram", "1GiB", "--ram", "1GiB", "--image", picture, "--video-duration", "2")
	if status != 0 || !strings.Contains(stdout, "tiny_i2v: 49 frames of 80×48") || !strings.Contains(stderr, "first.png") || strings.Contains(stderr, "--config") {
		t.Errorf("status %d, %s\n%s", status, stdout, stderr)
	}
	status, _, stderr = invoke(t, "plan", "--config", "tiny_i2v", "--checkpoint-dir", t.TempDir(), "--vram", "1GiB", "--ram", "1GiB")
	if status != exitBadInput || !strings.Contains(stderr, "not found") {
		t.Errorf("in an empty folder: status %d, %s", status, stderr)
	}
}

func TestPlanTakesMistakesAsGenerateDoes(t *testing.T) {
	for _, more := range [][]string{
		{"--blocks-in-memory", "61"}, {"--sample-steps", "0"}, {"--width", "100", "--height", "100"}, {"--expand_prompt", "2"},
		{"--checkpoint-dir", filepath.Join(t.TempDir(), "none")}, {"--vram", "much"},
		{"--tflops", "0"}, {"--bus-rate", "12"}, {"--picture", "x.png"}, {"--picture", filepath.Join(t.TempDir(), "none", "x.svg")},
	} {
		status, _, stderr := invoke(t, planOf20B(more...)...)
		if status != exitBadInput || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: status %d, %q", more, status, stderr)
		}
	}
}

func TestGenerateRefusesWhatCannotFitBeforeAnyWork(t *testing.T) {
	dir := t.TempDir()
	o := start(t, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "fox", "--video_duration", "15", "--magcache", "--vram-budget", "200MiB", "-o", filepath.Join(dir, "x.mp4"))
	o.wantLine(t, exitFailed, "the run does not fit", "200.0 MiB")
	if strings.Contains(o.stderr, string(kandinsky5.StageText)+" ...") {
		t.Errorf("work began:\n%s", o.stderr)
	}
	wantEmpty(t, dir)
}

func TestGenerateSaysWhatItChoseAndWhatItTook(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--config", filepath.Join(tinyModel, "t2v.yaml"), "--checkpoint-dir", tinyModel, "--prompt", "fox", "--expand-prompt", "0", "--video_duration", "0",
		"--width", "32", "--height", "32", "--sample-steps", "1", "--guidance-weight", "1", "--stats", "--cache-dir", dir, "-o", filepath.Join(dir, "x.png")}
	first := startOK(t, args...)
	for _, want := range []string{"plan: all 6 visual blocks on the device", "memory: ", "known after the first run", "device memory, planned", "peak "} {
		if !strings.Contains(first.stderr, want) {
			t.Errorf("the first run does not say %q:\n%s", want, first.stderr)
		}
	}
	// One refused allocation is made do without; rates are known by now.
	second := startOK(t, append(args, "--fault", "alloc=4")...)
	if !strings.Contains(second.stderr, " a step at ") || strings.Contains(second.stderr, "known after the first run") {
		t.Errorf("the second run does not predict:\n%s", second.stderr)
	}
}

// TestPlanOfTypes: the table is of the same numbers as a plan, and of what converting gives (models/convert tests that).
func TestPlanOfTypes(t *testing.T) {
	flags := []string{"plan", "--config", "config_5s_i2v_pro_20b", "--blocks-in-memory", "2", "-q"}
	status, stdout, stderr := invoke(t, append(flags, "--types", "--json")...)
	var types weightTypes
	parseJSON(t, stdout, &types)
	if status != 0 || types.Parameters != 19311325248 || types.Blocks != 60 || len(types.Held) != 4 || len(types.Files) != 10 {
		t.Fatalf("status %d, %+v\n%s", status, types, stderr)
	}
	for _, h := range types.Held[:3] {
		_, stdout, _ := invoke(t, append(append(flags, "--vram", "80GiB", "--ram", "100GiB", "--host-tier", "pinned", "--json"), strings.Fields(h.Flags)...)...)
		var plan struct {
			Block int64 `json:"block_bytes"`
			Bus   int64 `json:"bytes_per_step"`
		}
		if parseJSON(t, stdout, &plan); plan.Block != h.Block || plan.Bus != h.Bus || h.Pinned != h.Bus {
			t.Errorf("%+v, the plan has %+v", h, plan)
		}
	}
	if status, stdout, _ = invoke(t, append(flags, "--types")...); status != 0 || !strings.Contains(stdout, "q4_0, gguf         10.17 GiB") || !strings.Contains(stdout, "584.3 MiB") {
		t.Errorf("status %d\n%s", status, stdout)
	}
}
