package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/tune"
)

func TestTuneIsKeptListedAndClearedAndChangesNoFrame(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(tinyModel, "i2v.yaml")
	frame := func(name string) []byte {
		t.Helper()
		path := filepath.Join(dir, name)
		startOK(t, "generate", "--config", config, "--prompt", "a fox", "--image", "testdata/first.png", "--width", "48", "--height", "32", "--video-duration", "1",
			"--sample-steps", "1", "--seed", "3", "--cache-dir", dir, "-o", path)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	before := frame("before.gif")
	var r tune.Report
	parseJSON(t, startOK(t, "tune", "--config", config, "--width", "48", "--height", "32", "--video-duration", "1", "--cache-dir", dir, "--json").stdout, &r)
	if r.Device == "" || r.Tokens == 0 || filepath.Dir(r.File) != dir {
		t.Errorf("report %+v", r)
	}
	if _, err := os.Stat(r.File); err != nil {
		t.Error(err)
	}
	var kept []engine.Tuned
	parseJSON(t, startOK(t, "tune", "--cache-dir", dir, "--json").stdout, &kept)
	chosen := 0
	for _, result := range r.Results {
		if result.Choice != result.Default {
			chosen++
		}
	}
	if len(kept) != chosen {
		t.Errorf("%d choices are kept, %d were made", len(kept), chosen)
	}
	if after := frame("after.gif"); !bytes.Equal(before, after) {
		t.Error("tuned linear layers changed the frames")
	}
	if out := startOK(t, "tune", "--clear", "--cache-dir", dir).stdout; !strings.Contains(out, "nothing is tuned") {
		t.Errorf("after --clear there is\n%s", out)
	}
	if _, err := os.Stat(r.File); err == nil {
		t.Error("--clear left the file")
	}
	startOK(t, "tune", "--clear", "--cache-dir", dir) // clearing nothing is no error
}

func TestWhatTuningSaysAtTheEnd(t *testing.T) {
	ms := time.Millisecond
	result := tune.Result{Kernel: "matmul", Shape: "a", Default: "x", Choice: "y", Speedup: 1.25, Ways: []tune.Measure{{Way: "x", Seconds: 0.02}, {Way: "y", Seconds: 0.016}}}
	stays := tune.Result{Kernel: "attention", Shape: "b", Default: "x", Choice: "x", Speedup: 1, Ways: []tune.Measure{{Way: "x", Seconds: 0.02}, {Way: "z", Seconds: 0.03, Stopped: true}}}
	for _, c := range []struct {
		r    tune.Report
		want []string
		not  string
	}{
		{tune.Report{Results: []tune.Result{result, stays}, File: "cache.json", Pass: &tune.PassGain{Blocks: 60, Default: 8000 * ms, Tuned: 7600 * ms}, Took: time.Minute, Compiling: 20 * time.Second, Compiled: 40},
			[]string{"1.25×", "1 of 2 operations are faster", "cache.json", "a pass of 60 blocks takes 8.00 s by default and 7.60 s as chosen", "5.0 % less", "to compile 40 kernels"}, "not measured"},
		{tune.Report{Results: []tune.Result{stays}, Took: ms}, []string{"0 of 1", "gains nothing: the defaults are the fastest"}, "compile"},
		{tune.Report{Results: []tune.Result{stays}, Left: 3}, []string{"3 operations were not measured: they would pass the limit"}, "gains nothing"},
		{tune.Report{Left: 3, Interrupted: true}, []string{"3 operations were not measured: it was interrupted"}, "faster than by default"},
		{tune.Report{Results: []tune.Result{result}, Pass: &tune.PassGain{Blocks: 60, Default: 8000 * ms, Tuned: 8100 * ms}}, []string{"too unsteady"}, "less"},
		{tune.Report{}, []string{"there is nothing to tune"}, "took"},
	} {
		var out bytes.Buffer
		if err := printTuning(&out, &c.r, false); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in\n%s", want, out.String())
			}
		}
		if strings.Contains(out.String(), c.not) {
			t.Errorf("%q is in\n%s", c.not, out.String())
		}
	}
	var all bytes.Buffer
	if err := printTuning(&all, &tune.Report{Results: []tune.Result{stays}}, true); err != nil || !strings.Contains(all.String(), "far slower") {
		t.Errorf("%v:\n%s", err, all.String())
	}
}

func TestTuneRefusesMistakes(t *testing.T) {
	start(t, "tune", "--config", "no-such-model").wantLine(t, exitBadInput, "no-such-model")
	start(t, "tune", "--config", filepath.Join(tinyModel, "i2v.yaml"), "--limit", "-1s").wantLine(t, exitBadInput, "--limit -1s")
	start(t, "tune", "--cache-dir", "").wantLine(t, exitBadInput, "nowhere to keep")
	start(t, "tune", "--clear", "--device", "77").wantLine(t, exitBadInput, "no device 77")
	start(t, "tune", "now").wantLine(t, exitBadInput, "unexpected argument")
}
