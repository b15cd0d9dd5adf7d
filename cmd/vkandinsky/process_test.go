package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/synth"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// The program as users have it, and a model for it; both made once by TestMain.
var program, tinyModel string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vkandinsky-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "vkandinsky")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	tinyModel = filepath.Join(dir, "tiny model")
	tiny, err := synth.Preset(synth.Tiny)
	if err == nil {
		err = tiny.Write(context.Background(), tinyModel)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// outcome is how a process ended.
type outcome struct {
	status         int
	stdout, stderr string
}

// environment keeps the program's compiled kernels in a folder of these tests. Mesa's own cache stays where it is: other
// packages' tests have filled it, and compiling for a software driver takes longer than running.
func environment() []string {
	env := append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(filepath.Dir(program), "cache"))
	if home, err := os.UserCacheDir(); err == nil && os.Getenv("MESA_SHADER_CACHE_DIR") == "" {
		env = append(env, "MESA_SHADER_CACHE_DIR="+home)
	}
	return env
}

func start(t *testing.T, args ...string) outcome {
	t.Helper()
	return startIn(t, environment(), args...)
}

func startIn(t *testing.T, environment []string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = environment
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// startOK fails the test unless the process succeeds.
func startOK(t *testing.T, args ...string) outcome {
	t.Helper()
	o := start(t, args...)
	if o.status != 0 {
		t.Fatalf("vkandinsky %s: status %d\n%s", strings.Join(args, " "), o.status, o.stderr)
	}
	return o
}

// wantLine checks that a process ended with a status and one line that says why. Log lines and progress may precede it.
func (o outcome) wantLine(t *testing.T, status int, parts ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(o.stderr, "\n"), "\n")
	last := lines[len(lines)-1]
	if o.status != status || !strings.HasPrefix(last, "vkandinsky: ") {
		t.Fatalf("status %d, want %d; standard error:\n%s", o.status, status, o.stderr)
	}
	for _, p := range parts {
		if !strings.Contains(last, p) {
			t.Errorf("the line %q lacks %q", last, p)
		}
	}
	for _, line := range lines[:len(lines)-1] {
		if strings.HasPrefix(line, "vkandinsky: ") {
			t.Errorf("more than one error line:\n%s", o.stderr)
		}
	}
}

func parseJSON(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(v); err != nil {
		t.Fatalf("no JSON: %v in %.300s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one JSON value in %.300s", text)
	}
}

func TestDevicesAsTextAndJSON(t *testing.T) {
	var list []deviceReport
	parseJSON(t, startOK(t, "devices", "--json").stdout, &list)
	if len(list) == 0 {
		t.Fatal("no device")
	}
	text := startOK(t, "devices").stdout
	for _, d := range list {
		if d.Name == "" || d.API == "" || len(d.Heaps) == 0 || len(d.Memory) < 3 || len(d.Families) == 0 || d.Limits.MaxAllocation == 0 || d.Limits.SharedMemory == 0 {
			t.Errorf("device %+v", d)
		}
		if d.Usable == (d.Problem != "") {
			t.Errorf("usable %v with problem %q", d.Usable, d.Problem)
		}
		if !strings.Contains(text, d.Name) || !strings.Contains(text, d.TierWhy) {
			t.Errorf("the text does not name %s or say %q:\n%s", d.Name, d.TierWhy, text)
		}
	}
}

func TestInspectOfASoundModel(t *testing.T) {
	if out := startOK(t, "inspect", tinyModel).stdout; !strings.Contains(out, "nothing is missing or wrong") {
		t.Errorf("inspect says\n%s", out)
	}
	var found weights.Inspection
	parseJSON(t, startOK(t, "inspect", "--json", "--values", tinyModel).stdout, &found)
	if !found.OK() || len(found.Components) != 4 {
		t.Errorf("%+v", found)
	}
	startOK(t, "inspect", "--config", filepath.Join(tinyModel, "i2v.yaml"), tinyModel)
	start(t, "inspect", "--config", "config_5s_i2v_pro_20b", tinyModel).wantLine(t, exitBadInput, "in_text_dim is 128, the configuration says 3584")
}

// brokenModel is a copy of the tiny model whose transformer went through damage.
func brokenModel(t *testing.T, damage func(data []byte) []byte) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, damage(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestBrokenCheckpointsAreBadInput(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
		values bool // only reading the values shows it
	}{
		{"truncated in the data", func(d []byte) []byte { return d[:len(d)/2] }, "diffusion_pytorch_model.safetensors", false},
		{"truncated in the header", func(d []byte) []byte { return d[:100] }, "diffusion_pytorch_model.safetensors", false},
		{"empty", func([]byte) []byte { return nil }, "diffusion_pytorch_model.safetensors", false},
		{"another header length", func(d []byte) []byte { return append([]byte{255, 255, 255, 255, 255, 255, 255, 127}, d[8:]...) }, "header", false},
		{"a tensor of another name", func(d []byte) []byte {
			return bytes.Replace(d, []byte("out_layer.out_layer.weight"), []byte("out_layer.out_layer.weihgt"), 1)
		}, "out_layer.out_layer.weight", false},
		{"not a number", poison, "NaN or infinite", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, file := brokenModel(t, c.damage)
			args := []string{"inspect", dir}
			if c.values {
				args = []string{"inspect", "--values", dir}
			}
			start(t, args...).wantLine(t, exitBadInput, c.want)
			output := filepath.Join(t.TempDir(), "x.png")
			o := start(t, "--config", filepath.Join(dir, "t2v.yaml"), "--prompt", "fox", "--video_duration", "0", "--width", "32", "--height", "32", "-o", output)
			o.wantLine(t, exitBadInput, c.want, filepath.Base(file))
			if _, err := os.Stat(output); err == nil {
				t.Error("an output was written")
			}
		})
	}
}

// poison puts a NaN into the first value of the last tensor's type, bf16.
func poison(d []byte) []byte {
	data := 8 + binary.LittleEndian.Uint64(d)
	binary.LittleEndian.PutUint16(d[data:], 0x7fc0)
	return d
}

func TestVerifyJudgesGoldenCases(t *testing.T) {
	golden := testdata.Shared(t, "golden/sampler_nocfg.safetensors")
	var report verifyReport
	parseJSON(t, startOK(t, "verify", "--json", "--validate", golden).stdout, &report)
	if report.Passed == 0 || report.Failed != 0 || len(report.Messages) != 0 || report.Device == "" {
		t.Errorf("%+v", report)
	}
	precisions := map[string]bool{}
	for _, r := range report.Results {
		precisions[r.Precision] = true
	}
	if len(precisions) != 2 {
		t.Errorf("precisions %v, want both", precisions)
	}
	if out := startOK(t, "verify", "--precision", "f32", golden).stdout; !strings.Contains(out, "0 failed") || !strings.Contains(out, "trajectory") {
		t.Errorf("verify says\n%s", out)
	}
}

func TestVerifyFailsWhenNumbersDiffer(t *testing.T) {
	f, err := weights.Open(testdata.Shared(t, "golden/sampler_nocfg.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var tensors []weights.Tensor
	for _, name := range f.Names() {
		tensor, _ := f.Tensor(name)
		if name == "f32.trajectory" {
			tensor.Data = bytes.Clone(tensor.Data)
			tensor.Data[len(tensor.Data)-1] ^= 0x40 // the exponent of the last value
		}
		tensors = append(tensors, tensor)
	}
	path := filepath.Join(t.TempDir(), "wrong.safetensors")
	if err := weights.WriteFile(path, tensors, f.Metadata()); err != nil {
		t.Fatal(err)
	}
	o := start(t, "verify", "--precision", "f32", path)
	o.wantLine(t, exitFailed, "outputs failed")
	if !strings.Contains(o.stdout, "FAIL") {
		t.Errorf("verify says\n%s", o.stdout)
	}
}

func TestVerifyWithoutFilesRunsTheEmbeddedCases(t *testing.T) {
	var report verifyReport
	parseJSON(t, startOK(t, "verify", "--json", "--precision", "f32").stdout, &report)
	missing := map[string]bool{"clip": true, "dit": true, "qwen": true, "resize": true, "rng": true, "sampler": true, "tiny": true, "vae": true}
	for _, r := range report.Results {
		delete(missing, r.Component)
	}
	if len(missing) > 0 || report.Passed == 0 {
		t.Errorf("%d passed, components not run: %v", report.Passed, missing)
	}
}

// TestTheFirstCommandMakesAVideo is what README begins with, in fewer steps and pixels, where nothing but the output's
// folder can be written.
func TestTheFirstCommandMakesAVideo(t *testing.T) {
	output := filepath.Join(t.TempDir(), "circle.mp4")
	file := filepath.Join(t.TempDir(), "no folder")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment() // with the driver's own cache where it is: what is compiled there is no matter of this test
	t.Setenv("HOME", file)
	o := startIn(t, append(env, "HOME="+file, "XDG_CACHE_HOME="+filepath.Join(file, "cache"), "TMPDIR="+filepath.Join(file, "tmp")), "generate",
		"--prompt", "a red circle moves to the right", "--width", "64", "--height", "64", "--sample-steps", "2", "--json", "-o", output)
	if o.status != 0 {
		t.Fatalf("status %d\n%s", o.status, o.stderr)
	}
	var made generated
	parseJSON(t, o.stdout, &made)
	if made.Config != "tiny_i2v" || made.Output != output || made.Settings.Geometry.Frames != 25 {
		t.Errorf("JSON says %+v", made)
	}
	said := 0
	for line := range strings.Lines(o.stderr) {
		if strings.Contains(line, "tiny_i2v") && strings.Contains(line, "red-circle.png") && strings.Contains(line, "--config") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("%d lines say which model and picture these are:\n%s", said, o.stderr)
	}
	if info, err := os.Stat(output); err != nil || info.Size() == 0 {
		t.Errorf("output: %v", err)
	}
}

func TestBenchOfATinyModel(t *testing.T) {
	args := []string{"bench", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--video_duration", "0", "--width", "96", "--height", "64", "--passes", "2"}
	var swapped, resident bench.Report
	parseJSON(t, startOK(t, append(args, "--synthetic", "--blocks_in_memory", "2", "--json")...).stdout, &swapped)
	if len(swapped.Passes) != 2 || swapped.BytesPerPass == 0 || swapped.Plan.Slots != 2 || swapped.Timing.Copies == 0 {
		t.Errorf("swapped %+v", swapped)
	}
	parseJSON(t, startOK(t, append(args, "--resident", "--json")...).stdout, &resident)
	if resident.BytesPerPass != 0 || resident.Plan.Slots != 6 || resident.Tokens != swapped.Tokens {
		t.Errorf("resident %+v", resident)
	}
	out := startOK(t, append(args, "--guided", "--host-tier", "mapped")...).stdout
	for _, want := range []string{"FLOP/s", "stalls", "GB/s", "peak memory", "2 branches"} {
		if !strings.Contains(out, want) {
			t.Errorf("bench does not print %q:\n%s", want, out)
		}
	}
}

func TestVersionNamesTheProgram(t *testing.T) {
	if out := startOK(t, "version").stdout; !strings.HasPrefix(out, "vkandinsky ") || !strings.Contains(out, runtime.Version()) {
		t.Errorf("version says %q", out)
	}
}

// fromPicture is a command line that makes a short image-to-video clip with block swapping.
func fromPicture(output string, more ...string) []string {
	return append([]string{
		"--config", filepath.Join(tinyModel, "i2v.yaml"), "--prompt", "A fox runs.", "--image", filepath.Join("testdata", "first.png"),
		"--width", "64", "--height", "32", "--video_duration", "1", "--sample_steps", "2", "--enable_block_swap", "--blocks_in_memory", "2",
		"--output_filename", output,
	}, more...)
}

func TestGenerateFromSynthToVideo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "видео с пробелами")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	output, frames, sheet := filepath.Join(dir, "fox.mp4"), filepath.Join(dir, "frames"), filepath.Join(dir, "sheet.png")
	o := startOK(t, fromPicture(output, "--frames-dir", frames, "--contact-sheet", sheet, "--stats")...)
	if o.stdout != output+"\n" {
		t.Errorf("standard output has %q, want the path alone", o.stdout)
	}
	for _, want := range []string{"denoise", "swapping", "peak"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("the statistics lack %q:\n%s", want, o.stderr)
		}
	}
	if info, err := os.Stat(output); err != nil || info.Size() == 0 {
		t.Errorf("output: %v", err)
	}
	if list, err := filepath.Glob(filepath.Join(frames, "frame_*.png")); err != nil || len(list) != 25 {
		t.Errorf("%d frames, want 25 (1 s)", len(list))
	}
	f, err := os.Open(sheet)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Errorf("contact sheet: %v", err)
	}
}

func TestOneSeedGivesTheSameFramesHoweverBlocksAreHeld(t *testing.T) {
	picture := func(more ...string) []byte {
		path := filepath.Join(t.TempDir(), "x.png")
		var made generated
		parseJSON(t, startOK(t, append([]string{
			"generate", "--json", "--checkpoint-dir", tinyModel, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "A fox runs.",
			"--width", "48", "--height", "32", "--video-duration", "0", "--sample-steps", "2", "-o", path,
		}, more...)...).stdout, &made)
		if made.Output != path || made.Settings.Steps != 2 || made.Stats.PeakDevice == 0 {
			t.Errorf("JSON says %+v", made)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := picture("--enable-block-swap=false")
	for _, more := range [][]string{{"--blocks-in-memory", "2"}, {"--blocks-in-memory", "1", "--host-tier", "mapped", "--offload"}, {"--blocks-in-memory", "3", "--swap-policy", "fifo"}} {
		if !bytes.Equal(picture(more...), want) {
			t.Errorf("%v gives another picture than all blocks on the device", more)
		}
	}
	if bytes.Equal(picture("--seed", "2"), want) {
		t.Error("another seed gives the same picture")
	}
}

func TestADiffusersFolderIsEnough(t *testing.T) {
	output := filepath.Join(t.TempDir(), "x.png")
	startOK(t, "--checkpoint-dir", tinyModel, "--prompt", "A fox.", "--width", "32", "--height", "32", "--video_duration", "0", "--sample_steps", "1", "-o", output)
	if _, err := os.Stat(output); err != nil {
		t.Error(err)
	}
}

func TestInjectedFailuresLeaveNothingBehind(t *testing.T) {
	for _, fault := range []string{"alloc=1", "alloc=2"} {
		t.Run(fault, func(t *testing.T) {
			dir := t.TempDir()
			output := filepath.Join(dir, "x.png")
			// A chunk that cannot be had is asked for again in a smaller size, so the run may succeed all the same.
			if o := start(t, fromPicture(output, "--fault", fault, "--video_duration", "0")...); o.status == 0 {
				if _, err := os.Stat(output); err != nil {
					t.Error(err)
				}
			} else {
				o.wantLine(t, exitFailed)
				wantEmpty(t, dir)
			}
		})
	}
}

func TestABudgetTooSmallIsAnError(t *testing.T) {
	dir := t.TempDir()
	start(t, fromPicture(filepath.Join(dir, "x.mp4"), "--vram-budget", "1MiB")...).wantLine(t, exitFailed, "does not fit", "1.0 MiB", "the smallest budget that works is")
	wantEmpty(t, dir)
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

func TestCtrlCEndsARunInOrder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a console is needed to send Ctrl-C there; scripts/windows.sh does it under Wine")
	}
	dir := t.TempDir()
	p := launch(t, "denoise", fromPicture(filepath.Join(dir, "x.mp4"), "--sample_steps", "1000", "--validate", "--on-interrupt", "discard", "--frames-dir", filepath.Join(dir, "frames"))...)
	p.await(t)
	p.interrupt(t)
	start := time.Now()
	o := p.end()
	if o.status != exitInterrupted || !strings.HasSuffix(o.stderr, "vkandinsky: interrupted\n") {
		t.Errorf("status %d, want %d; standard error:\n%s", o.status, exitInterrupted, o.stderr)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("the run ended %v after Ctrl-C", took)
	}
	if o.stdout != "" {
		t.Errorf("standard output has %q", o.stdout)
	}
	wantEmpty(t, dir)
}
