package main

import (
	"os"
	"os/exec"
	"path/filepath"
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

func TestPlanOfACheckpointOnTheDevice(t *testing.T) {
	status, stdout, stderr := invoke(t, "plan", "--checkpoint-dir", tinyModel, "--width", "96", "--height", "64", "--video-duration", "1", "--cache-dir", "")
	if status != 0 || !strings.Contains(stdout, "fits") {
		t.Errorf("status %d, %s\n%s", status, stdout, stderr)
	}
}

func TestPlanTakesMistakesAsGenerateDoes(t *testing.T) {
	for _, more := range [][]string{
		{"--blocks-in-memory", "61"}, {"--sample-steps", "0"}, {"--width", "100", "--height", "100"}, {"--expand_prompt", "2"},
		{"--checkpoint-dir", filepath.Join(t.TempDir(), "none")}, {"--vram", "much"},
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
