package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// small makes the least clip that starts from a picture: two steps, one frame.
func small(output string, more ...string) []string {
	return append([]string{
		"generate", "--checkpoint-dir", tinyModel, "--config", filepath.Join(tinyModel, "i2v.yaml"), "--prompt", "A fox runs.", "--image", filepath.Join("testdata", "first.png"),
		"--width", "48", "--height", "32", "--video-duration", "0", "--sample-steps", "2", "--blocks-in-memory", "2", "--expand-prompt", "0", "-o", output,
	}, more...)
}

func readReceipt(t *testing.T, path string) *receipt.Receipt {
	t.Helper()
	r, err := receipt.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReceipts makes a clip and works on with its receipt: most of the time of a process goes into its start.
func TestReceipts(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "fox.png")
	startOK(t, small(first, "--negative-prompt", "", "--seed", "18446744073709551615")...)
	r := readReceipt(t, filepath.Join(dir, "fox.json"))
	t.Run("say what was done", func(t *testing.T) { saysWhatWasDone(t, r, first) })
	t.Run("make the clip again", func(t *testing.T) { makeAgain(t, dir, first) })
	t.Run("are compared", func(t *testing.T) { areCompared(t, dir) })
	t.Run("name what decides last bits", func(t *testing.T) { otherRounding(t, dir, r) })
	t.Run("replace nothing else", func(t *testing.T) { replaceNothing(t, dir) })
	t.Run("need their picture", func(t *testing.T) { needPicture(t, dir, r) })
}

func saysWhatWasDone(t *testing.T, r *receipt.Receipt, output string) {
	s, d := r.Settings, r.Digests
	if s.Prompt != "A fox runs." || s.NegativePrompt != "" || s.Width != 48 || s.SampleSteps != 2 || s.Seed != 1<<64-1 || s.Precision != "mixed" || !s.SizeGiven {
		t.Errorf("settings %+v", s)
	}
	if len(r.Weights) != 4 || r.Device.Name == "" || r.Device.Driver == "" || len(r.Device.Shaders) < 5 || r.Memory.BlocksInMemory != 2 || r.Plan.DeviceBytes == 0 || r.Plan.Tiles == "" {
		t.Errorf("weights %+v, device %+v, plan %+v", r.Weights, r.Device, r.Plan)
	}
	if len(d.Latents) != 2 || len(d.Text) != 2 || d.FirstFrame == "" || len(r.Timings.Steps) != 2 || len(r.Timings.Stages) != 5 {
		t.Errorf("digests %+v, timings %+v", d, r.Timings)
	}
	for path, want := range map[string]string{output: r.Output.SHA256, filepath.Join("testdata", "first.png"): r.Picture.SHA256} {
		data, err := os.ReadFile(path)
		if err != nil || receipt.Sum(data) != want {
			t.Errorf("%s has another digest than the receipt says (%v)", path, err)
		}
	}
}

func makeAgain(t *testing.T, dir, first string) {
	again := filepath.Join(dir, "again.png")
	var g generated
	parseJSON(t, startOK(t, "generate", "--from", filepath.Join(dir, "fox.json"), "--blocks-in-memory", "1", "-o", again, "--json").stdout, &g)
	if g.Receipt != filepath.Join(dir, "again.json") || g.Repeats == nil || !g.Repeats.Same || g.Repeats.Steps != 2 {
		t.Errorf("%+v", g)
	}
	a, errA := os.ReadFile(first)
	b, errB := os.ReadFile(again)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the files differ (%v, %v)", errA, errB)
	}
	o := startOK(t, "--from", filepath.Join(dir, "fox.png"), "--guidance_weight", "3.5", "-o", filepath.Join(dir, "other.png"))
	if !strings.Contains(o.stderr, "not the receipt's") || !strings.Contains(o.stderr, "guidance_weight") {
		t.Errorf("standard error:\n%s", o.stderr)
	}
}

func areCompared(t *testing.T, dir string) {
	at := func(name string) string { return filepath.Join(dir, name) }
	o := startOK(t, "compare", at("fox.json"), at("again.png"))
	if !strings.Contains(o.stdout, "2 steps and frames") || !strings.Contains(o.stdout, "blocks_in_memory") {
		t.Errorf("compare says\n%s", o.stdout)
	}
	o = start(t, "compare", at("fox.json"), at("other.json"))
	o.wantLine(t, exitFailed, "setting guidance_weight")
	for _, want := range []string{"3.5", "latent after step 1"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("compare does not say %q:\n%s", want, o.stdout)
		}
	}
	if strings.Contains(o.stdout, "step 2") || strings.Contains(o.stdout, "text embedding") {
		t.Errorf("compare says too much:\n%s", o.stdout)
	}
	var c receipt.Comparison
	o = start(t, "compare", "--json", at("fox.json"), at("other.json"))
	parseJSON(t, o.stdout, &c)
	if o.status != exitFailed || c.Same || c.First == nil || c.First.Name != "guidance_weight" || c.First.B != "3.5" {
		t.Errorf("%+v", c)
	}
	broken := at("broken.json")
	data, err := os.ReadFile(at("fox.json"))
	if err == nil {
		err = os.WriteFile(broken, data[:len(data)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	start(t, "compare", at("fox.json"), broken).wantLine(t, exitBadInput, "broken.json", "cut off")
	start(t, "compare", at("fox.json"), at("none.json")).wantLine(t, exitBadInput, "none.json")
	start(t, "compare", at("fox.json")).wantLine(t, exitBadInput, "two receipts")
	start(t, "generate", "--from", broken).wantLine(t, exitBadInput, "broken.json", "cut off")
}

func replaceNothing(t *testing.T, dir string) {
	mine := filepath.Join(dir, "mine.json")
	if err := os.WriteFile(mine, []byte(`{"mine": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(dir, "fox.json")
	start(t, small(filepath.Join(dir, "mine.png"))...).wantLine(t, exitBadInput, "mine.json", "--no-receipt")
	start(t, "--from", from, "-o", filepath.Join(dir, "fox.png")).wantLine(t, exitBadInput, "fox.json", "repeated")
	start(t, small(filepath.Join(dir, "new.png"), "--trace", filepath.Join(dir, "new.json"))...).wantLine(t, exitBadInput, "--trace")
	start(t, small(filepath.Join(dir, "new.png"), "--receipt", filepath.Join(dir, "x.txt"))...).wantLine(t, exitBadInput, "x.txt")
	start(t, small(filepath.Join(dir, "new.png"), "--receipt", filepath.Join(dir, "x.json"), "--no-receipt")...).wantLine(t, exitBadInput, "exclude")
	for _, name := range []string{"mine.png", "new.png", "new.json", "x.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func needPicture(t *testing.T, dir string, r *receipt.Receipt) {
	change := func(name string, p receipt.Picture) string {
		t.Helper()
		other := *r
		other.Picture = &p
		data, err := json.Marshal(other)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	gone := *r.Picture
	gone.Path = filepath.Join(dir, "gone.jpg")
	start(t, "--from", change("gone.json", gone), "-o", filepath.Join(dir, "new.png")).wantLine(t, exitBadInput, "gone.jpg", "--image")
	changed := *r.Picture
	changed.SHA256 = receipt.Sum(nil)
	log := &lines{}
	o := generateOptions{from: change("changed.json", changed)}
	var f flags
	o.register(&f)
	o.from = filepath.Join(dir, "changed.json")
	if err := o.openRepeat(&f, log.logger()); err != nil || !strings.Contains(log.String(), "not the receipt's") || o.request.image != changed.Path {
		t.Errorf("got %v, image %q, log %s", err, o.request.image, log)
	}
	// A picture that has moved with its receipt is found beside it.
	data, err := os.ReadFile(filepath.Join("testdata", "first.png"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "first.png"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	moved := *r.Picture
	moved.Path = `C:\pictures\first.png`
	o, f, log = generateOptions{}, flags{}, &lines{}
	o.register(&f)
	o.from = change("moved.json", moved)
	if err := o.openRepeat(&f, log.logger()); err != nil || log.Len() > 0 || o.request.image != filepath.Join(dir, "first.png") {
		t.Errorf("got %v, image %q, log %s", err, o.request.image, log)
	}
}

// lines collects a log.
type lines struct{ bytes.Buffer }

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&l.Buffer, nil)) }

// repeated applies a receipt to a command line.
func repeated(t *testing.T, change func(*receipt.Receipt), args ...string) *generateOptions {
	t.Helper()
	r := &receipt.Receipt{Settings: receipt.Settings{Config: "k5_lite_t2v_5s_sft_sd", CheckpointDir: "m", Prompt: "a fox", ExpandPrompt: true, ExpandedPrompt: "a red fox", NegativePrompt: "",
		Width: 64, Height: 32, VideoDuration: 2, SampleSteps: 3, GuidanceWeight: 4.25, SchedulerScale: 7, Seed: 9, MagCache: true, Precision: "f32", Kernels: "base",
		Linear: "int8", Attention: "sage", HostWeights: "int8", QuantizeQwen: true, LoRA: []receipt.LoRA{{File: "a.safetensors", Weight: 0.5}, {File: "b:2", Weight: -1}}},
		Memory: receipt.Memory{EnableBlockSwap: true, BlocksInMemory: 3, StreamSlots: 1, SwapPolicy: "fifo", HostTier: "mapped", HeadGroups: 2, QwenLayersInMemory: 2, Offload: true, VRAMBudget: 1<<34 + 1}}
	change(r)
	o := &generateOptions{}
	var f flags
	o.register(&f)
	if _, err := f.parse("generate", args); err != nil {
		t.Fatal(err)
	}
	o.repeat = &repeat{file: "r.json", receipt: r}
	if err := o.repeat.apply(&f); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFlagsWinOverTheReceipt(t *testing.T) {
	same := func(*receipt.Receipt) {}
	o := repeated(t, same)
	q, s := &o.request, &o.swap
	if q.prompt != "a fox" || q.negative != "" || q.expand != 1 || q.size.width != 64 || q.size.height != 32 || q.size.seconds != 2 || q.steps != 3 || q.guidance != 4.25 || q.scale != 7 || q.seed != 9 || !q.magcache {
		t.Errorf("request %+v", q)
	}
	if !s.enable || s.inMemory != 3 || s.stream != 1 || s.policyName != "fifo" || s.tierName != "mapped" || o.hold != (holdFlags{true, 2, 2}) || o.device.vram != 1<<34+1 {
		t.Errorf("swap %+v, hold %+v", s, o.hold)
	}
	if o.model.configName != "k5_lite_t2v_5s_sft_sd" || o.model.dir != "m" || o.model.precisionName != "f32" || o.device.kernels != "base" || o.repeat.written != "a red fox" {
		t.Errorf("model %+v, written %q", o.model, o.repeat.written)
	}
	if q.attention.engine != load.AttentionSage {
		t.Errorf("attention %v", q.attention)
	}
	if o.model.linearName != "int8" || s.hostName != "int8" || !q.quantizeQwen || !slices.Equal(o.lora.adapters, []string{"a.safetensors:0.5", "b:2:-1"}) {
		t.Errorf("linear layers %q, waiting blocks %q, text encoder in 4 bits %t, adapters %q", o.model.linearName, s.hostName, q.quantizeQwen, o.lora.adapters)
	}
	o = repeated(t, func(r *receipt.Receipt) { r.Memory = receipt.Memory{} }, "--lora", "c.safetensors")
	if o.swap.enable || o.swap.inMemory != 0 || o.hold.headGroups != 0 || !slices.Equal(o.lora.adapters, []string{"c.safetensors"}) {
		t.Errorf("with all left to the plan and another adapter: swap %+v, hold %+v, adapters %q", o.swap, o.hold, o.lora.adapters)
	}
	o = repeated(t, same, "--prompt", "a dog", "--width", "128", "--enable_block_swap=false", "--dtype", "float16")
	if o.request.prompt != "a dog" || o.request.size.width != 128 || o.request.size.height != 32 || o.swap.enable || o.swap.inMemory != 0 || o.model.precisionName != "mixed" || o.repeat.written != "" {
		t.Errorf("with flags %+v", o)
	}
	if o = repeated(t, same, "--seed", "3"); o.repeat.written != "" {
		t.Error("another seed writes the prompt out otherwise")
	}
	o = repeated(t, same, "--image", "x.png")
	if s := o.request.size; s.width != 0 || s.height != 0 || s.seconds != 2 {
		t.Errorf("another picture keeps the old one's size: %+v", o.request.size)
	}
	o = repeated(t, func(r *receipt.Receipt) { r.Settings.SizeGiven = true }, "--image", "x.png")
	if s := o.request.size; s.width != 64 || s.height != 32 || s.seconds != 2 {
		t.Errorf("a size that was given is lost: %+v", o.request.size)
	}
}

func TestHostileReceiptsAreOneLineAndStatus2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	for name, text := range map[string]string{
		"empty": "", "no JSON": "clip", "another JSON": "{}", "NaN": `{"format": "vkandinsky receipt", "version": NaN}`, "unknown version": `{"format": "vkandinsky receipt", "version": 2}`,
		"wrong types":  `{"format": "vkandinsky receipt", "version": 1, "settings": []}`,
		"huge numbers": `{"format": "vkandinsky receipt", "version": 1, "settings": {"prompt": "x", "width": 1e30}}`,
		"cut off":      `{"format": "vkandinsky receipt", "version": 1, "sett`,
		"no settings":  `{"format": "vkandinsky receipt", "version": 1}`,
		"escapes":      `{"format": "\u001b[2J\n", "version": 1}`,
	} {
		t.Run(name, func(t *testing.T) {
			writeFile(t, path, text)
			for _, args := range [][]string{{"compare", path, path}, {"--from", path, "-o", filepath.Join(filepath.Dir(path), "x.mp4")}} {
				status, stdout, stderr := invoke(t, args...)
				if status != exitBadInput || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "vkandinsky: receipt ") || strings.Contains(stderr, "\x1b") {
					t.Errorf("%v: status %d, %q, %q", args, status, stdout, stderr)
				}
			}
		})
	}
}
