package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/bench"
)

func TestBlocksThatWaitWithCodedExponents(t *testing.T) {
	want := still(t, tinyModel)
	for _, more := range [][]string{{"--blocks-in-memory", "2", "--validate"}, {"--blocks-in-memory", "1", "--host-tier", "mapped"}} {
		if got := still(t, tinyModel, append(more, "--host-weights", "bf16z")...); !slices.Equal(got, want) {
			t.Errorf("%v: coded exponents change the picture", more)
		}
	}
	out := startOK(t, "plan", "--checkpoint-dir", tinyModel, "--host-weights", "bf16z", "--blocks-in-memory", "2").stdout
	for _, text := range []string{"unpacked", "at most"} {
		if !strings.Contains(out, text) {
			t.Errorf("plan does not print %q:\n%s", text, out)
		}
	}
	start(t, "plan", "--checkpoint-dir", tinyModel, "--host-weights", "bf16z", "--linear", "int8").wantLine(t, exitBadInput, "leave --host-weights bf16z or --linear int8 out")
}

// TestPlanOfCodedExponents holds the 20B model to what the documentation says.
func TestPlanOfCodedExponents(t *testing.T) {
	type plan struct {
		BlockBytes  int64 `json:"block_bytes"`
		BytesLoaded int64 `json:"bytes_per_step"`
		Pinned      int64 `json:"peak_pinned_bytes"`
		Bounds      bool  `json:"bounds"`
	}
	of := func(host string) (p plan) {
		parseJSON(t, startOK(t, "plan", "--config", "config_5s_i2v_pro_20b", "--vram", "24GiB", "--ram", "64GiB", "--blocks-in-memory", "2", "--host-weights", host, "--json").stdout, &p)
		return p
	}
	full, coded := of("bf16"), of("bf16z")
	if !coded.Bounds || full.Bounds || coded.BlockBytes*1000 > full.BlockBytes*725 || coded.Pinned*1000 > full.Pinned*725 || coded.BytesLoaded*1000 > full.BytesLoaded*725 {
		t.Errorf("coded exponents take %+v, full %+v", coded, full)
	}
	if o := start(t, "plan", "--config", "config_5s_i2v_pro_20b", "--vram", "24GiB", "--ram", "30GiB", "--blocks-in-memory", "2", "--host-tier", "pinned"); o.status != exitFailed || !strings.Contains(o.stderr+o.stdout, "--host-weights bf16z") {
		t.Errorf("too little pinned memory: status %d, %s", o.status, o.stderr)
	}
}

func TestBenchOfCodedExponents(t *testing.T) {
	of := func(host string) (r bench.Report) {
		parseJSON(t, startOK(t, "bench", "step", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--video_duration", "0", "--width", "48", "--height", "32",
			"--synthetic", "--blocks-in-memory", "2", "--passes", "2", "--host-weights", host, "--json").stdout, &r)
		return r
	}
	full, coded := of("bf16"), of("bf16z")
	if coded.SlotBytes >= full.SlotBytes || coded.BlockBytes >= coded.SlotBytes || coded.BytesPerPass >= full.BytesPerPass {
		t.Errorf("blocks of %d bytes move %d in slots of %d; as they are %d, %d, %d", coded.BlockBytes, coded.BytesPerPass, coded.SlotBytes, full.BlockBytes, full.BytesPerPass, full.SlotBytes)
	}
}
