package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// allFaults is the environment variable with which tests fail every call, not only some of them.
const allFaults = "VKANDINSKY_ALL_FAULTS"

// swapped is a short command line that swaps blocks.
func swapped(output string, more ...string) []string {
	return picture(output, append([]string{"--sample-steps", "1", "--blocks-in-memory", "1"}, more...)...)
}

// TestEveryRefusedAllocationIsALineOrNoMatter walks through the allocations of a run, of device memory and of pinned memory, from
// each of which on none succeeds. Either there were none, and the picture is the same, or there is one line, status 1 and
// nothing left. One that fails alone is made up for where a smaller plan exists.
func TestEveryRefusedAllocationIsALineOrNoMatter(t *testing.T) {
	dir := t.TempDir()
	var want []byte
	fail := func(fault string) (ok bool) {
		at := filepath.Join(dir, fault)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		output := filepath.Join(at, "x.png")
		o := start(t, swapped(output, "--fault", fault)...)
		for _, word := range []string{"panic", "goroutine", "leak"} {
			if strings.Contains(o.stderr, word) {
				t.Errorf("%s: %q in:\n%s", fault, word, o.stderr)
			}
		}
		if o.status == 0 {
			if got := read(t, output); want == nil {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s: another picture", fault)
			}
			return true
		}
		o.wantLine(t, exitFailed, "memory")
		if _, err := os.Stat(output + ".state"); err == nil {
			wantOnly(t, at, "x.png.state")
		} else {
			wantEmpty(t, at)
		}
		return false
	}
	next, least := func(n int) int { return 5*n + 2 }, 2 // 1, 7, 37, 187, …
	if os.Getenv(allFaults) != "" {
		next, least = func(n int) int { return n + 1 }, 20
	}
	failures, n := 0, 1
	for ; !fail(fmt.Sprint("alloc-from=", n)); n = next(n) {
		failures++
	}
	if failures < least {
		t.Errorf("all is well although no allocation from number %d on succeeds", n)
	}
	for k := 9; k < n && (k == 9 || os.Getenv(allFaults) != ""); k = next(k) {
		fail(fmt.Sprint("alloc=", k))
	}
}

// onFullDisk runs the program where a folder is a disk that is full but for a file's name.
func onFullDisk(t *testing.T, folder string, args ...string) outcome {
	t.Helper()
	shell := []string{"--user", "--map-root-user", "--mount", "sh", "-c",
		`mount -t tmpfs -o size=64k none "$0" && { cat /dev/zero > "$0/filled" 2>/dev/null; exec "$@"; }`, folder}
	probe := exec.CommandContext(t.Context(), "unshare", append(shell, "true")...)
	if text, err := probe.CombinedOutput(); err != nil {
		t.Skipf("this system lets nobody make a disk to fill: %v: %s", err, text)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "unshare", append(append(shell, program), args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, environment()
	if err := cmd.Run(); err == nil {
		t.Fatalf("a full disk took everything:\n%s", errs.String())
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// A disk that is full takes neither the states nor the picture. The run goes on without the states, and its last one is saved
// elsewhere, so that nothing has to be computed again.
func TestAFullDiskLosesNothing(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	o := onFullDisk(t, full, picture(filepath.Join(full, "x.png"), "--checkpoint-every", "2")...)
	o.wantLine(t, exitFailed, "no space left on device", "to go on after step 6 of 6", "vkandinsky generate --resume "+filepath.Join(dir, "x.png-"))
	if n := strings.Count(o.stderr, "the state cannot be saved; the run goes on"); n != 3 {
		t.Errorf("three states could not be saved, %d are told of:\n%s", n, o.stderr)
	}
	state := regexp.MustCompile(`--resume (\S+\.state)`).FindStringSubmatch(o.stderr)
	if state == nil {
		t.Fatal("no state to go on from")
	}
	output := filepath.Join(dir, "again.png")
	startOK(t, "generate", "--resume", state[1], "--keep-state", "-o", output)
	wantWhole(t, output)
	onFullDisk(t, full, "generate", "--resume", state[1], "-o", filepath.Join(full, "x.mp4")).wantLine(t, exitFailed, full)
}

// TestAFileThatIsCutWhileBlocksAreReadEndsTheRunWithItsState cuts the transformer's file after the first step of a run that reads
// blocks from it, and goes on when the file is whole again.
func TestAFileThatIsCutWhileBlocksAreReadEndsTheRunWithItsState(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows refuses to truncate a mapped file, so this cannot happen there")
	}
	dir := t.TempDir()
	model, out := filepath.Join(dir, "model"), filepath.Join(dir, "out")
	if err := errors.Join(os.CopyFS(model, os.DirFS(tinyModel)), os.Mkdir(out, 0o700)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(model, "transformer", "diffusion_pytorch_model.safetensors")
	data, output := read(t, file), filepath.Join(out, "x.png")
	p := launch(t, "state saved", picture(output, "--config", filepath.Join(model, "t2v.yaml"), "--blocks-in-memory", "1", "--host-tier", "mapped",
		"--sample-steps", "12", "--checkpoint-every", "1")...)
	p.await(t)
	if err := os.Truncate(file, 4096); err != nil {
		t.Fatal(err)
	}
	p.end().wantLine(t, exitFailed, file, "truncated", "to go on after step", "vkandinsky generate --resume "+output+".state")
	wantOnly(t, out, "x.png.state")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	startOK(t, "generate", "--resume", output+".state")
	if len(read(t, output)) == 0 {
		t.Error("the continued run wrote nothing")
	}
}
