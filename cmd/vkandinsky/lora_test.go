package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestLoRAFlagsWithAndWithoutWeights(t *testing.T) {
	for text, want := range map[string]lora.Source{
		"x.safetensors":                 {Path: "x.safetensors", Weight: 1},
		"x.safetensors:0.5":             {Path: "x.safetensors", Weight: 0.5},
		"x.safetensors:-1":              {Path: "x.safetensors", Weight: -1},
		"x.safetensors:0":               {Path: "x.safetensors", Weight: 0},
		"x.safetensors:1e-2":            {Path: "x.safetensors", Weight: 0.01},
		`C:\x.safetensors`:              {Path: `C:\x.safetensors`, Weight: 1},
		`C:\x.safetensors:.8`:           {Path: `C:\x.safetensors`, Weight: 0.8},
		`C:\a:b\x.safetensors:2`:        {Path: `C:\a:b\x.safetensors`, Weight: 2},
		"a:b/x.safetensors":             {Path: "a:b/x.safetensors", Weight: 1},
		"dir, with comma/x.safetensors": {Path: "dir, with comma/x.safetensors", Weight: 1},
		"x.safetensors:strong":          {Path: "x.safetensors:strong", Weight: 1},
	} {
		if got, err := parseLoRA(text); err != nil || got != want {
			t.Errorf("%q gives %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "name the adapter", ":1": "name the adapter", "x:": "weight is missing", "x:nan": "finite", "x:-Inf": "finite", "x:1e999": "finite"} {
		if got, err := parseLoRA(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %+v, %v", text, got, err)
		}
	}
}

// tinyAdapter writes an adapter for a matrix of the tiny model, with a value in the last place of B.
func tinyAdapter(t *testing.T, module string, last float32) string {
	t.Helper()
	f, err := weights.Open(filepath.Join(tinyModel, "transformer", "diffusion_pytorch_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	matrix, ok := f.Tensor("visual_transformer_blocks.0.feed_forward.out_layer.weight")
	if !ok {
		t.Fatal("the tiny model has other names")
	}
	tensor := func(name string, values []float32, shape ...int) weights.Tensor {
		out := weights.Tensor{Name: module + name, DType: weights.BF16, Shape: shape, Data: make([]byte, 2*len(values))}
		numeric.BF16FromF32s(out.Data, values)
		return out
	}
	a, b := slices.Repeat([]float32{0.25}, matrix.Shape[1]), slices.Repeat([]float32{0.5}, matrix.Shape[0])
	b[len(b)-1] = last
	path := filepath.Join(t.TempDir(), "адаптер 1.safetensors")
	err = weights.WriteFile(path, []weights.Tensor{tensor(".lora_A.weight", a, 1, len(a)), tensor(".lora_B.weight", b, len(b), 1)}, map[string]string{"trigger": "in the rain, "})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

const tinyModule = "base_model.model.visual_transformer_blocks.0.feed_forward.out_layer"

func TestLoRAChangesThePicture(t *testing.T) {
	path := tinyAdapter(t, tinyModule, 1)
	picture := func(more ...string) ([]byte, generated, outcome) {
		output := filepath.Join(t.TempDir(), "x.png")
		var made generated
		o := startOK(t, append([]string{
			"generate", "--json", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "A fox runs.", "--expand-prompt", "0",
			"--width", "32", "--height", "32", "--video-duration", "0", "--sample-steps", "1", "-o", output,
		}, more...)...)
		parseJSON(t, o.stdout, &made)
		data, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return data, made, o
	}
	plain, _, _ := picture()
	if same, _, o := picture("--lora", path+":0", "--blocks-in-memory", "2"); !bytes.Equal(same, plain) || strings.Contains(o.stderr, "trigger") {
		t.Errorf("weight 0 gives another picture, or says a trigger:\n%s", o.stderr)
	}
	changed, made, o := picture("--lora", path, "--lora", path+":-0.5", "--blocks-in-memory", "1", "--host-tier", "mapped")
	if bytes.Equal(changed, plain) {
		t.Error("the adapter changes nothing")
	}
	if len(made.Settings.LoRA) != 2 || made.Settings.LoRA[1].Weight != -0.5 || made.Settings.Trigger != "in the rain, " || !strings.Contains(o.stderr, `"in the rain, "`) {
		t.Errorf("settings %+v, standard error:\n%s", made.Settings, o.stderr)
	}
}

func TestBrokenLoRAsAreBadInput(t *testing.T) {
	good := tinyAdapter(t, tinyModule, 1)
	cut := filepath.Join(t.TempDir(), "cut.safetensors")
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, data[:len(data)-2], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ lora, want string }{
		"missing":       {"none.safetensors:0.5", "none.safetensors"},
		"weight":        {good + ":nan", "no finite number"},
		"huge weight":   {good + ":1e30", "1e+30"},
		"cut short":     {cut, "cut.safetensors"},
		"no adapter":    {filepath.Join(tinyModel, "transformer", "diffusion_pytorch_model.safetensors"), "match nothing"},
		"another model": {tinyAdapter(t, "unet.up.0", 1), `"unet.up.0.lora_A.weight", "unet.up.0.lora_B.weight" match nothing`},
		"other shapes":  {tinyAdapter(t, "visual_transformer_blocks.0.feed_forward.in_layer", 1), "has shape"},
		"nan":           {tinyAdapter(t, tinyModule, float32(math.NaN())), "NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "fox", "--lora", good, "--lora", c.lora, "-o", filepath.Join(dir, "x.mp4")}
			o := start(t, args...)
			o.wantLine(t, exitBadInput, c.want)
			if strings.Contains(o.stderr, "kernels") {
				t.Errorf("a device was opened:\n%s", o.stderr)
			}
			wantEmpty(t, dir)
		})
	}
}

func TestBenchAppliesLoRAsToMadeUpWeights(t *testing.T) {
	path := tinyAdapter(t, tinyModule, 1)
	args := []string{"bench", "--config", filepath.Join(tinyModel, "t2v.yaml"), "--synthetic", "--video_duration", "0", "--width", "32", "--height", "32", "--passes", "1", "--lora"}
	startOK(t, append(args, path+":0.5")...)
	start(t, append(args, path+"x")...).wantLine(t, exitBadInput, filepath.Base(path)+"x")
}

// TestEntriesOfAListHaveAdaptersOfTheirOwn: adapters are switched between the clips of a list, with their triggers, as if each
// were made alone.
func TestEntriesOfAListHaveAdaptersOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	first, second := tinyAdapter(t, "visual_transformer_blocks.1.feed_forward.out_layer", 3), tinyAdapter(t, "visual_transformer_blocks.0.feed_forward.out_layer", -2)
	list := writeFile(t, filepath.Join(dir, "list.yaml"), "- A fox.\n- prompt: A fox.\n  lora: "+second+":0.5\n- prompt: A fox.\n  lora: []\n- prompt: A fox.\n  lora: ['"+first+"', '"+second+":-1']\n")
	var made []generated
	parseJSON(t, startOK(t, drawn("--prompt-file", list, "--lora", first, "-o", filepath.Join(dir, "x.png"), "--json")...).stdout, &made)
	if len(made) != 4 {
		t.Fatalf("%d clips", len(made))
	}
	seen := map[string]bool{}
	for k, adapters := range [][]string{{"--lora", first}, {"--lora", second + ":0.5"}, nil, {"--lora", first, "--lora", second + ":-1"}} {
		b, err := os.ReadFile(made[k].Output)
		if err != nil {
			t.Fatal(err)
		}
		if k == 1 || k == 3 {
			alone := filepath.Join(dir, "alone.png")
			startOK(t, drawn(append([]string{"--prompt", "A fox.", "-o", alone}, adapters...)...)...)
			if a, err := os.ReadFile(alone); err != nil || !bytes.Equal(a, b) {
				t.Errorf("clip %d is not that of a run alone (%v)", k+1, err)
			}
		}
		if len(made[k].Settings.LoRA) != len(adapters)/2 || seen[string(b)] {
			t.Errorf("clip %d has adapters %+v, or the picture of another", k+1, made[k].Settings.LoRA)
		}
		seen[string(b)] = true
	}
	writeFile(t, list, "- A fox.\n- prompt: B\n  lora: none.safetensors\n")
	if status, _, stderr := invoke(t, drawn("--prompt-file", list, "-o", filepath.Join(dir, "y.png"))...); status != exitBadInput || !strings.Contains(stderr, "list.yaml:2: ") || !strings.Contains(stderr, "none.safetensors") {
		t.Errorf("status %d, %q", status, stderr)
	}
}
