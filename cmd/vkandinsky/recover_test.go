package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestALostDeviceIsOpenedAgain loses the device three times: while text is encoded, in the second step, and in the last.
// The picture must be that of a run without losses. A folder is in the state's way, which must not end the run either.
func TestALostDeviceIsOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	output := filepath.Join(dir, "x.png")
	if err := os.Mkdir(output+".state", 0o700); err != nil {
		t.Fatal(err)
	}
	o := startOK(t, picture(output, "--fault", "submit=3,step=2,step=6", "--validate", "--checkpoint-every", "3")...)
	for _, told := range []string{"lost before the first step was done", "lost after step 1 of 6", "lost after step 5 of 6", "the state cannot be saved; the run goes on"} {
		if !strings.Contains(o.stderr, told) {
			t.Errorf("it does not say %q", told)
		}
	}
	if n := strings.Count(o.stderr, "the device was lost"); n != 3 || t.Failed() {
		t.Errorf("it says %d times that the device was lost:\n%s", n, o.stderr)
	}
	wantWhole(t, output)
	wantOnly(t, dir, "x.json", "x.png", "x.png.state")
}

func TestADeviceLostTwiceInAStepEndsTheRunAndLeavesItsState(t *testing.T) {
	dir := t.TempDir()
	output := filepath.Join(dir, "x.png")
	start(t, picture(output, "--fault", "step=4,step=4")...).wantLine(t, exitFailed, "device lost", "twice after step 3 of 6", "--kernels base", "vkandinsky generate --resume "+output+".state")
	wantOnly(t, dir, "x.png.state")
}
