package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLinearLayersInInt8ThroughTheProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clip.gif")
	told := startOK(t, "generate", "--config", filepath.Join(tinyModel, "i2v.yaml"), "--prompt", "a fox", "--image", "testdata/first.png", "--width", "48", "--height", "32",
		"--video-duration", "0", "--sample-steps", "1", "--seed", "3", "--linear", "int8", "--blocks-in-memory", "1", "-o", path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if !strings.Contains(told.stderr, "8-bit integers") || !strings.Contains(told.stderr, "relative error") {
		t.Errorf("nothing is told of the rounding:\n%s", told.stderr)
	}
	if out := startOK(t, "bench", "matmul", "--linear", "int8", "--shape", "32x32x64", "--least", "1ms").stdout; !strings.Contains(out, "8-bit integers") {
		t.Errorf("bench matmul prints\n%s", out)
	}
}

func TestPlanOfInt8TakesLittleMoreThanHalf(t *testing.T) {
	type plan struct {
		BlockBytes  int64 `json:"block_bytes"`
		BytesLoaded int64 `json:"bytes_per_step"`
		Pinned      int64 `json:"peak_pinned_bytes"`
	}
	of := func(linear string) (p plan) {
		parseJSON(t, startOK(t, "plan", "--config", "config_5s_i2v_pro_20b", "--vram", "24GiB", "--ram", "64GiB", "--blocks-in-memory", "2", "--linear", linear, "--json").stdout, &p)
		return p
	}
	full, rounded := of("full"), of("int8")
	// The modulation stays in 16 bits.
	if rounded.Pinned == 0 || rounded.BlockBytes*100 > full.BlockBytes*57 || rounded.Pinned*100 > full.Pinned*57 || rounded.BytesLoaded*100 > full.BytesLoaded*57 {
		t.Errorf("int8 takes %+v, full %+v", rounded, full)
	}
}

func TestLinearRefusesMistakes(t *testing.T) {
	config := filepath.Join(tinyModel, "i2v.yaml")
	start(t, "plan", "--config", config, "--vram", "8GiB", "--linear", "int4").wantLine(t, exitBadInput, "--linear", "use full or int8")
	start(t, "plan", "--config", config, "--vram", "8GiB", "--linear", "int8", "--precision", "f32").wantLine(t, exitBadInput, "--precision mixed")
	start(t, "plan", "--config", config, "--vram", "8GiB", "--linear", "int8", "--blocks-in-memory", "1", "--host-tier", "mapped").wantLine(t, exitBadInput, "--host-tier mapped")
	start(t, "verify", "--linear", "int8", "--precision", "f32").wantLine(t, exitBadInput, "--precision mixed")
	start(t, "bench", "matmul", "--linear", "int8", "--shape", "32x32x40").wantLine(t, exitBadInput, "64 divides")
	start(t, "bench", "step", "--config", config, "--synthetic", "--linear", "int8", "--precision", "f32").wantLine(t, exitBadInput, "--precision mixed")
}
