package receipt

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a receipt with every field set.
func sample() *Receipt {
	d := func(s string) string { return Sum([]byte(s)) }
	return &Receipt{
		Format: Format, Version: Version, Program: "vkandinsky test", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Settings: Settings{Config: "k5_lite_i2v_5s_sft_sd", CheckpointDir: "m", ConfigSHA256: d("config"), Prompt: "a fox", ExpandPrompt: true, ExpandedPrompt: "a red fox",
			NegativePrompt: "dull", Width: 64, Height: 32, VideoDuration: 1, SampleSteps: 3, GuidanceWeight: 5, SchedulerScale: 10, Seed: 1<<64 - 1, Precision: "mixed", Kernels: "auto",
			Linear: "full", Attention: "sage", HostWeights: "bf16", LoRA: []LoRA{{"smoke.safetensors", 0.6, [2]float64{0.5, 0.5}}}},
		Memory:  Memory{EnableBlockSwap: true, BlocksInMemory: 2, SwapPolicy: "resident", VRAMBudget: 1 << 34},
		Picture: &Picture{Path: "first.png", Bytes: 3, SHA256: d("png")},
		Weights: []Weights{{"vae", "vae.safetensors", 7, d("vae")}, {"transformer", "1.safetensors", 5, d("t1")}, {"transformer", "2.safetensors", 5, d("t2")}},
		Device:  Device{Name: "gpu", Driver: "driver 1", API: "1.3", Kernels: "fp16", Shaders: map[string]string{"gemm": "00", "softmax": "01"}},
		Plan:    Plan{Blocks: "2 of 4", HostTier: "pinned", Tiles: "whole", DeviceBytes: 9, PinnedBytes: 8},
		Timings: Timings{Stages: []StageTime{{"denoise", 5, 6}}, Steps: []time.Duration{1, 2, 3}},
		Digests: Digests{Text: []Text{{d("rows"), d("pooled")}, {d("rows2"), d("pooled2")}}, FirstFrame: d("first"), Noise: d("noise"),
			Latents: []string{d("s1"), d("s2"), d("s3")}, Final: d("final"), Frames: d("frames")},
		Output: Output{File: "clip.mp4", Bytes: 4, SHA256: d("mp4")},
	}
}

func encoded(t testing.TB, r *Receipt) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAReceiptIsReadAsItWasWritten(t *testing.T) {
	want := sample()
	got, err := Parse(encoded(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestHostileReceiptsAreRefusedInOneLine(t *testing.T) {
	good := string(encoded(t, sample()))
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the sample lacks %s", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	digest := Sum([]byte("s2"))
	for name, c := range map[string]struct{ data, want string }{
		"empty":                         {"", "is empty"},
		"another thing":                 {"[1, 2]", "is no receipt"},
		"a picture":                     {"\x89PNG\r\n\x1a\n", "no receipt"},
		"another format":                {`{"format": "recipe", "version": 1}`, "is no receipt"},
		"a format that is no text":      {`{"format": 1, "version": 1}`, "is no receipt"},
		"no version":                    {`{"format": "vkandinsky receipt"}`, "no version"},
		"an unknown version":            {replace(`"version": 1`, `"version": 2`), "version 2"},
		"an absurd version":             {replace(`"version": 1`, `"version": 1e999`), "version 1e999"},
		"a version in quotes":           {replace(`"version": 1`, `"version": "one"`), "number"},
		"cut off":                       {good[:len(good)/2], "cut off"},
		"two receipts":                  {good + good, "follows the end"},
		"NaN":                           {replace(`"guidance_weight": 5`, `"guidance_weight": NaN`), "is not JSON"},
		"guidance that is huge":         {replace(`"guidance_weight": 5`, `"guidance_weight": 1e300`), "guidance_weight"},
		"guidance beyond numbers":       {replace(`"guidance_weight": 5`, `"guidance_weight": 1e999`), "guidance_weight"},
		"guidance below zero":           {replace(`"guidance_weight": 5`, `"guidance_weight": -1`), "guidance_weight"},
		"a negative seed":               {replace(`"seed": 18446744073709551615`, `"seed": -1`), "seed"},
		"a seed beyond 64 bits":         {replace(`"seed": 18446744073709551615`, `"seed": 18446744073709551616`), "seed"},
		"a size in words":               {replace(`"width": 64`, `"width": "wide"`), "settings.width cannot be a string"},
		"a huge size":                   {replace(`"width": 64`, `"width": 1000000000000`), "settings.width"},
		"half a pixel":                  {replace(`"width": 64`, `"width": 64.5`), "width"},
		"no steps":                      {replace(`"sample_steps": 3`, `"sample_steps": 0`), "sample_steps"},
		"steps without latents":         {replace(`"sample_steps": 3`, `"sample_steps": 4`), "3 entries for 4 steps"},
		"no prompt":                     {replace(`"prompt": "a fox"`, `"prompt": " "`), "prompt is empty"},
		"a prompt that is a list":       {replace(`"prompt": "a fox"`, `"prompt": ["a fox"]`), "prompt"},
		"a broken digest":               {replace(digest, digest[1:]), "step 2"},
		"a digest in capitals":          {replace(digest, strings.ToUpper(digest)), "step 2"},
		"no frames":                     {replace(Sum([]byte("frames")), ""), "frames"},
		"a picture without a path":      {replace(`"path": "first.png"`, `"path": ""`), "picture.path"},
		"a zero byte in a path":         {replace(`"path": "first.png"`, `"path": "a\u0000b"`), "zero byte"},
		"a path that steers a terminal": {replace(`"path": "first.png"`, `"path": "\u001b[2J.png"`), "control characters"},
		"weights of negative size":      {replace(`"bytes": 7`, `"bytes": -7`), "weights.bytes"},
		"a date that is none":           {replace(`"2026-01-02T03:04:05Z"`, `"yesterday"`), "yesterday"},
		"memory that is a number":       {replace(`"blocks_in_memory": 2`, `"blocks_in_memory": 99999999`), "blocks_in_memory"},
		"an adapter without a file":     {replace(`"file": "smoke.safetensors"`, `"file": ""`), "settings.lora.file"},
		"a deep hole":                   {strings.Repeat("[", 100000), "is not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
		})
	}
	if _, err := Parse(bytes.Repeat([]byte(" "), maxFile+1)); err == nil {
		t.Error("a huge file is taken")
	}
}

func TestCompareNamesTheFirstThingThatDiffers(t *testing.T) {
	other := Sum([]byte("other"))
	for name, c := range map[string]struct {
		change func(*Receipt)
		kind   Kind // of the first difference, "" for none
		first  string
		others int // further differences
		notes  int
	}{
		"nothing":               {func(*Receipt) {}, "", "", 0, 0},
		"times":                 {func(r *Receipt) { r.Created = r.Created.Add(1); r.Timings.Steps[0]++ }, "", "", 0, 0},
		"two settings":          {func(r *Receipt) { r.Settings.Seed, r.Settings.Prompt, r.Digests.Latents[2] = 3, "a dog", other }, KindSetting, "prompt", 2, 0},
		"the picture":           {func(r *Receipt) { r.Picture = nil }, KindPicture, "image", 0, 0},
		"a picture's name":      {func(r *Receipt) { r.Picture.Path = "other.png" }, "", "", 0, 1},
		"weights":               {func(r *Receipt) { r.Weights[2].SHA256 = other; r.Digests.Frames = other }, KindWeights, "transformer", 1, 0},
		"an adapter's strength": {func(r *Receipt) { r.Settings.LoRA[0].Weight = 1 }, KindSetting, "lora_weights", 0, 0},
		"an adapter's name":     {func(r *Receipt) { r.Settings.LoRA[0].File = "x" }, "", "", 0, 1},
		"weights' names":        {func(r *Receipt) { r.Weights[2].File = "x" }, "", "", 0, 0},
		"the device":            {func(r *Receipt) { r.Device.Name, r.Device.Driver = "other", "driver 2" }, "", "", 0, 2},
		"kernels": {func(r *Receipt) {
			r.Device.Shaders = map[string]string{"gemm": "02", "attention": "03"}
		}, "", "", 0, 2},
		"the tier":       {func(r *Receipt) { r.Device.Kernels, r.Settings.Kernels = "base", "base" }, KindSetting, "kernels", 0, 1},
		"memory":         {func(r *Receipt) { r.Memory.BlocksInMemory, r.Memory.Offload = 1, true }, "", "", 0, 2},
		"a text":         {func(r *Receipt) { r.Digests.Text[1].Rows = other }, KindText, "negative prompt", 0, 0},
		"steps":          {func(r *Receipt) { r.Digests.Latents[1], r.Digests.Latents[2], r.Digests.Final = other, other, other }, KindStep, "latent after step 2", 0, 0},
		"the end":        {func(r *Receipt) { r.Digests.Final = other }, KindFinal, "latent that is decoded", 0, 0},
		"tiles":          {func(r *Receipt) { r.Plan.Tiles, r.Digests.Frames = "cut", other }, KindTiles, "decode_tiles", 1, 0},
		"tiles in vain":  {func(r *Receipt) { r.Plan.Tiles = "cut" }, "", "", 0, 0},
		"the frames":     {func(r *Receipt) { r.Digests.Frames, r.Output.SHA256 = other, other }, KindOutput, "frames", 0, 0},
		"the file alone": {func(r *Receipt) { r.Output.SHA256 = other }, "", "", 0, 1},
		"unknown steps":  {func(r *Receipt) { r.Digests.Latents[0] = "" }, "", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := sample(), sample()
			c.change(b)
			got := Compare(a, b)
			if got.Same != (c.kind == "") || got.Same != (got.First == nil) || len(got.Notes) != c.notes {
				t.Fatalf("got %+v", got)
			}
			if c.kind != "" && (got.First.Kind != c.kind || got.First.Name != c.first || len(got.Differences) != 1+c.others) {
				t.Errorf("the first is %+v of %+v", got.First, got.Differences)
			}
			if turned := Compare(b, a); turned.Same != got.Same || len(turned.Differences) != len(got.Differences) {
				t.Errorf("turned round it is %+v", turned)
			}
		})
	}
}

func TestPairsHoldEverySetting(t *testing.T) {
	s := sample()
	for name, c := range map[string]struct {
		value any
		pairs []Pair
		apart int // fields that are no pair
	}{"settings": {s.Settings, s.Settings.Pairs(), 1}, "memory": {s.Memory, s.Memory.Pairs(), 0}} {
		data, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		for _, p := range c.pairs {
			if p.Name == "lora_weights" { // the numbers of the field lora
				c.apart--
			} else if _, ok := fields[p.Name]; !ok {
				t.Errorf("%s: no field %s", name, p.Name)
			}
		}
		if len(fields) != len(c.pairs)+c.apart {
			t.Errorf("%s: %d fields, %d pairs", name, len(fields), len(c.pairs))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Add([]byte(`{"format": "vkandinsky receipt", "version": 1, "settings": null, "digests": {"latents": [null]}}`))
	f.Add([]byte(`{"format": "vkandinsky receipt", "version": 1, "weights": [{}], "picture": {}, "timings": {"steps_ns": [1e99]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("more than a line: %q", err)
			}
			return
		}
		if c := Compare(r, r); !c.Same || len(c.Notes) != 0 {
			t.Fatalf("differs from itself: %+v", c)
		}
		again, err := Parse(encoded(t, r))
		if err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		if c := Compare(r, again); !c.Same {
			t.Fatalf("differs after writing: %+v", c.First)
		}
	})
}
