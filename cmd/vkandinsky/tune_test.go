package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	text := startOK(t, "tune", "--config", config, "--quick", "--width", "48", "--height", "32", "--video-duration", "1", "--cache-dir", dir).stdout
	if !strings.Contains(text, r.Device) {
		t.Errorf("the text lacks the device:\n%s", text)
	}
	if out := startOK(t, "tune", "--clear", "--cache-dir", dir).stdout; !strings.Contains(out, "nothing is tuned") {
		t.Errorf("after --clear there is\n%s", out)
	}
	if _, err := os.Stat(r.File); err == nil {
		t.Error("--clear left the file")
	}
	startOK(t, "tune", "--clear", "--cache-dir", dir) // clearing nothing is no error
}

func TestTuneRefusesMistakes(t *testing.T) {
	start(t, "tune", "--config", "no-such-model").wantLine(t, exitBadInput, "no-such-model")
	start(t, "tune", "--cache-dir", "").wantLine(t, exitBadInput, "nowhere to keep")
	start(t, "tune", "--clear", "--device", "77").wantLine(t, exitBadInput, "no device 77")
	start(t, "tune", "now").wantLine(t, exitBadInput, "unexpected argument")
}
