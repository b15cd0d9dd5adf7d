package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// picture is a command line that makes one picture in six steps.
func picture(output string, more ...string) []string {
	return append([]string{
		"generate", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "A fox runs.", "--width", "16", "--height", "16",
		"--video-duration", "0", "--sample-steps", "6", "-v", "-o", output,
	}, more...)
}

// whole is that picture made in one go, with its last state beside it.
var whole = sync.OnceValues(func() (string, error) {
	output := filepath.Join(filepath.Dir(program), "whole.png")
	cmd := exec.Command(program, picture(output, "--keep-state", "--preview=4")...)
	cmd.Env = environment()
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return output, err
})

// wantWhole checks that a run made the picture that one in one go makes.
func wantWhole(t *testing.T, output string) {
	t.Helper()
	want, err := whole()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, output), read(t, want)) {
		t.Errorf("%s is another picture than that of a run in one go", output)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantOnly checks that a folder holds these files and nothing partial.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the folder holds %v, want %v", got, names)
	}
}

// TestAKilledRunContinuesToTheSameBytes kills the program at moments that follow from seeds, again and again until a run
// comes to its end, with all blocks on the device and with one.
func TestAKilledRunContinuesToTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	for seed, more := range map[uint64][]string{1: {"--enable-block-swap=false"}, 2: {"--blocks-in-memory", "1"}} {
		output := filepath.Join(dir, "x.png")
		killAndContinue(t, output, seed, int(seed), more...)
		wantWhole(t, output)
		os.Remove(output)
	}
}

// TestAKilledRunContinuesOnASmallDevice has the least that a device may be: kernels without matrix units or fp16, a heap of 1 GiB
// and, as the software driver has it, one queue and allocations of 2 GiB. Without limits on memory the bytes are the same.
func TestAKilledRunContinuesOnASmallDevice(t *testing.T) {
	dir := t.TempDir()
	output, want := filepath.Join(dir, "x.png"), filepath.Join(dir, "want.png")
	startOK(t, picture(want, "--kernels", "base", "--enable-block-swap=false")...)
	killAndContinue(t, output, 3, 1, "--kernels", "base", "--vram-budget", "1GiB", "--ram-budget", "512MiB", "--blocks-in-memory", "1", "--host-tier", "mapped")
	if !bytes.Equal(read(t, output), read(t, want)) {
		t.Error("it is another picture than that of a run in one go with all memory")
	}
}

// killAndContinue kills a run so many times before one comes to its end.
func killAndContinue(t *testing.T, output string, seed uint64, kills int, more ...string) {
	t.Helper()
	state := output + ".state"
	random := rand.New(rand.NewPCG(seed, 1))
	continued := 0
	delay := 200 * time.Millisecond
	for n := 0; ; n++ {
		args := picture(output, "--checkpoint-every", "1")
		if _, err := os.Stat(state); err == nil {
			args = []string{"generate", "--resume", state, "-v"}
			continued++
		}
		p := launch(t, "state saved", append(args, more...)...)
		if n == kills {
			if o := p.end(); o.status != 0 || o.stdout != output+"\n" {
				t.Fatalf("seed %d: status %d, output %q\n%s", seed, o.status, o.stdout, o.stderr)
			}
			break
		}
		p.await(t)
		time.Sleep(time.Duration(random.Int64N(int64(delay))))
		p.Process.Kill()
		p.Wait()
		if p.ProcessState.Success() { // too late, on a machine that is busy with something else: once more, and sooner
			n, delay = n-1, delay/2+1
		}
		os.Remove(output) // it may have come to its end
	}
	if continued == 0 {
		t.Errorf("seed %d: nothing was continued", seed)
	}
	if _, err := os.Stat(state); err == nil {
		t.Errorf("seed %d: the state is still there", seed)
	}
}

func skipWithoutSignals(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a console is needed to send Ctrl-C there; scripts/windows.sh does it under Wine")
	}
}

func TestCtrlCSavesAndTheCommandThatIsToldContinues(t *testing.T) {
	skipWithoutSignals(t)
	dir := t.TempDir()
	output := filepath.Join(dir, "two words.png")
	p := launch(t, "denoise ...", picture(output, "--validate")...)
	p.await(t)
	p.interrupt(t)
	o := p.end()
	o.wantLine(t, exitInterrupted, "interrupted; to go on after step ", "of 6: vkandinsky generate --resume '"+output+".state'")
	wantOnly(t, dir, "two words.png.state")
	if o.stdout != "" {
		t.Errorf("standard output has %q", o.stdout)
	}
	// A copy elsewhere, continued from another folder under another name of the output.
	moved := filepath.Join(t.TempDir(), "moved.state")
	if err := os.Rename(output+".state", moved); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	startOK(t, "generate", "--resume", moved, "-o", "y.png", "--blocks-in-memory", "1", "--keep-state")
	wantWhole(t, "y.png")
	if s, err := kandinsky5.ReadState(moved); err != nil || s.Step != 6 {
		t.Errorf("the state that was to be kept: %v", err)
	}
}

func TestCtrlCTwiceLeavesNothingAndDecodeMakesAClip(t *testing.T) {
	skipWithoutSignals(t)
	t.Run("twice", func(t *testing.T) {
		dir := t.TempDir()
		p := launch(t, "denoise ...", picture(filepath.Join(dir, "x.png"), "--sample-steps", "12")...)
		p.await(t)
		p.interrupt(t)
		p.interrupt(t)
		if o := p.end(); o.status == exitInterrupted {
			wantEmptyOrState(t, dir, o)
		} else {
			t.Errorf("status %d\n%s", o.status, o.stderr)
		}
	})
	t.Run("decode", func(t *testing.T) {
		dir := t.TempDir()
		output := filepath.Join(dir, "x.png")
		p := launch(t, "denoise ...", picture(output, "--sample-steps", "12", "--on-interrupt", "decode")...)
		p.await(t)
		p.interrupt(t)
		o := p.end()
		o.wantLine(t, exitInterrupted, output+" is the clip as step ", "of 12 predicts it")
		wantOnly(t, dir, "x.png")
		if o.stdout != output+"\n" {
			t.Errorf("standard output has %q", o.stdout)
		}
	})
	t.Run("terminate", func(t *testing.T) {
		dir := t.TempDir()
		p := launch(t, "state saved", picture(filepath.Join(dir, "x.png"), "--sample-steps", "12", "--checkpoint-every", "2")...)
		p.await(t)
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.end().wantLine(t, exitInterrupted, "--resume")
		wantOnly(t, dir, "x.png.state")
	})
}

// wantEmptyOrState allows for the first Ctrl-C having ended the run before the second one came.
func wantEmptyOrState(t *testing.T, dir string, o outcome) {
	t.Helper()
	if strings.Contains(o.stderr, "--resume") {
		wantOnly(t, dir, "x.png.state")
	} else {
		wantOnly(t, dir)
	}
}

func TestStatesAndFlagsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	output, err := whole()
	if err != nil {
		t.Fatal(err)
	}
	state := output + ".state"
	for _, c := range [][]string{
		{"--sample-steps 7 contradicts the state, which was made with 6", "--sample-steps", "7"},
		{"--prompt A cat. contradicts", "--prompt", "A cat."},
		{"--precision f32 contradicts the state, which was made with mixed", "--precision", "f32"},
		{"--seed 1 contradicts the state, which was made with 1137", "--seed", "1"},
		{"--attention-engine sage contradicts the state, which was made with auto", "--attention-engine", "sage"},
		{"blocks waiting in bf16, not int8", "--host-weights", "int8"},
		{"--image", "--image", filepath.Join("testdata", "first.png")},
		{"--print-prompt", "--print-prompt"},
		{"--checkpoint-every -1", "--checkpoint-every", "-1"},
		{"--on-interrupt", "--on-interrupt", "wait"},
		{"another configuration", "--config", filepath.Join(tinyModel, "i2v.yaml")},
	} {
		start(t, append([]string{"generate", "--resume", state}, c[1:]...)...).wantLine(t, exitBadInput, c[0])
	}
	start(t, "generate", "--resume", state, "--checkpoint-dir", otherWeights(t)).wantLine(t, exitBadInput, "other weights")
	sound := read(t, state)
	for name, damage := range map[string]func() []byte{
		"checksum": func() []byte { d := bytes.Clone(sound); d[len(d)-1] ^= 1; return d },
		"no state": func() []byte { return sound[:len(sound)/2] },
		"version": func() []byte {
			return bytes.Replace(sound, []byte(`"vkandinsky_state":"1"`), []byte(`"vkandinsky_state":"9"`), 1)
		},
		"header length": func() []byte { return bytes.Repeat([]byte{255}, 100) },
	} {
		bad := filepath.Join(dir, "bad.state")
		if err := os.WriteFile(bad, damage(), 0o600); err != nil {
			t.Fatal(err)
		}
		start(t, "generate", "--resume", bad).wantLine(t, exitBadInput, name, bad)
	}
	start(t, "generate", "--resume", filepath.Join(dir, "none.state")).wantLine(t, exitBadInput, "none.state")
	// What was made with the same value, however it is written, and where the model lies now, may be said again.
	again := filepath.Join(dir, "y.png")
	startOK(t, "generate", "--resume", state, "--sample-steps", "6", "--scheduler-scale", "5.0", "--host-weights", "bf16z", "--checkpoint-dir", tinyModel, "--video_duration", "0", "-o", again)
	wantWhole(t, again)
	if _, err := os.Stat(state); err != nil {
		t.Errorf("the state that was to be kept: %v", err)
	}
	elsewhereState(t, state)
}

// otherWeights is a model of the same shape.
func otherWeights(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "other")
	startOK(t, "synth", "--preset", "tiny", "--seed", "9", "--output", dir, "-q")
	return dir
}

// TestWhatCtrlCDoesInEveryStage asks the keeper alone.
func TestWhatCtrlCDoesInEveryStage(t *testing.T) {
	for _, c := range []struct {
		do    string
		stage kandinsky5.Stage
		goes  bool // the run goes on to an end of its own
	}{
		{interruptSave, kandinsky5.StageText, false},
		{interruptSave, kandinsky5.StageDenoise, true},
		{interruptSave, kandinsky5.StageDecode, false}, // what is to be saved is there
		{interruptDecode, kandinsky5.StageLoad, false},
		{interruptDecode, kandinsky5.StageDenoise, true},
		{interruptDecode, kandinsky5.StageDecode, true},
		{interruptDiscard, kandinsky5.StageDenoise, false},
		{interruptDiscard, kandinsky5.StageDecode, false},
	} {
		k := &keeper{flags: keepFlags{onInterrupt: c.do}, log: slog.New(slog.DiscardHandler), saved: -1}
		k.watch(nil)(kandinsky5.Progress{Stage: c.stage})
		if got := k.interrupt(); got != c.goes {
			t.Errorf("%s in stage %q: %v", c.do, c.stage, got)
		}
	}
	// Ctrl-C after the last step: none comes that would end the run, so the next stage does.
	ctx, cancel := context.WithCancel(t.Context())
	k := &keeper{flags: keepFlags{onInterrupt: interruptSave}, log: slog.New(slog.DiscardHandler), saved: -1, signal: &interrupts{cancel: cancel}}
	watch := k.watch(nil)
	watch(kandinsky5.Progress{Stage: kandinsky5.StageDenoise})
	if !k.interrupt() || ctx.Err() != nil {
		t.Error("a step is not finished")
	}
	if watch(kandinsky5.Progress{Stage: kandinsky5.StageDecode}); ctx.Err() == nil {
		t.Error("the run goes on after Ctrl-C")
	}
}
