package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/models/weights/nf4test"
)

// modelIn4Bits is a copy of the tiny model whose text encoder is stored in 4 bits.
func modelIn4Bits(t *testing.T, damage func(map[string]weights.Tensor)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("text_encoder", "model.safetensors")
	nf4test.Write(t, filepath.Join(tinyModel, file), filepath.Join(dir, file), nf4test.Options{Damage: damage, Quantized: func(name string) bool {
		return strings.HasPrefix(name, "model.layers.") && strings.HasSuffix(name, "_proj.weight")
	}})
	return dir
}

func TestGenerateWithTheTextEncoderIn4Bits(t *testing.T) {
	picture := func(model string, more ...string) []byte {
		path := filepath.Join(t.TempDir(), "x.png")
		startOK(t, append([]string{"generate", "--checkpoint-dir", model, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "A fox runs.",
			"--width", "48", "--height", "32", "--video-duration", "0", "--sample-steps", "1", "--guidance-weight", "1", "-o", path}, more...)...)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := picture(tinyModel, "--qwen_quantization")
	if bytes.Equal(picture(tinyModel), want) {
		t.Error("--qwen-quantization changes nothing")
	}
	if !bytes.Equal(picture(tinyModel, "--qwen-quantization", "--qwen-layers-in-memory", "1"), want) {
		t.Error("streamed layers give another picture")
	}
	stored := modelIn4Bits(t, nil)
	if !bytes.Equal(picture(stored), want) {
		t.Error("a checkpoint in 4 bits gives another picture than one that is quantized while loading")
	}
	out := startOK(t, "inspect", "--values", stored).stdout
	for _, want := range []string{"nothing is missing or wrong", "21 matrices in 4 bits", " 817,216 parameters"} { // as many as the tiny model has
		if !strings.Contains(out, want) {
			t.Errorf("inspect lacks %q:\n%s", want, out)
		}
	}
}

func TestBrokenTextEncodersIn4BitsAreBadInput(t *testing.T) {
	const name = "model.layers.1.mlp.up_proj.weight"
	for what, damage := range map[string]func(map[string]weights.Tensor){
		"missing": func(m map[string]weights.Tensor) { delete(m, name+".nested_absmax") },
		"JSON": func(m map[string]weights.Tensor) {
			state := m[name+".quant_state.bitsandbytes__nf4"]
			state.Data = bytes.Repeat([]byte("["), len(state.Data))
			m[state.Name] = state
		},
	} {
		dir := modelIn4Bits(t, damage)
		args := []string{"generate", "--checkpoint-dir", dir, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "A fox.",
			"--width", "48", "--height", "32", "--video-duration", "0", "-o", filepath.Join(t.TempDir(), "x.png")}
		start(t, args...).wantLine(t, exitBadInput, name, what)
	}
}

func TestPlanOfATextEncoderIn4Bits(t *testing.T) {
	_, plain, _ := invoke(t, planOf20B("--expand-prompt", "1")...)
	status, stdout, stderr := invoke(t, planOf20B("--expand-prompt", "1", "--qwen-quantization")...)
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{"3.14 GiB", "matrices in 4 bits"} {
		if !strings.Contains(stdout, want) || strings.Contains(plain, want) {
			t.Errorf("the plan lacks %q, or has it without quantization too:\n%s", want, stdout)
		}
	}
}
