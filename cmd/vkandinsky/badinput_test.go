package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every mistake is one line on standard error, says what is wrong, and ends with status 2 before any work.
func TestMistakesAreOneLineAndStatus2(t *testing.T) {
	dir := t.TempDir()
	notAPicture := filepath.Join(dir, "picture.png")
	if err := os.WriteFile(notAPicture, []byte("\x89PNG\r\n\x1a\nbroken"), 0o600); err != nil {
		t.Fatal(err)
	}
	badConfig := filepath.Join(dir, "bad_t2v.yaml")
	if err := os.WriteFile(badConfig, []byte("model:\n  colour: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t2v := []string{"--config", "k5_lite_t2v_5s_sft_sd", "--prompt", "fox", "-o", filepath.Join(dir, "fox.mp4")}
	i2v := []string{"--config", "k5_lite_i2v_5s_sft_sd", "--prompt", "fox", "-o", filepath.Join(dir, "fox.mp4")}
	with := func(base []string, more ...string) []string { return append(append([]string{}, base...), more...) }
	for _, c := range []struct {
		name string
		args []string
		want string // part of the line
	}{
		{"unknown command", []string{"paint"}, `unknown command "paint"`},
		{"unknown flag", []string{"--colour", "red"}, "unknown flag: --colour"},
		{"a mistyped command", []string{"genreate"}, `unknown command "genreate": did you mean generate? vkandinsky help lists them`},
		{"a command like no other", []string{"paint"}, `unknown command "paint": vkandinsky help lists them`},
		{"a mistyped flag", []string{"--promt", "fox"}, "unknown flag: --promt: did you mean --prompt? (vkandinsky generate --help"},
		{"a mistyped flag of the reference's", []string{"--blocks_in_memroy", "2"}, "did you mean --blocks-in-memory?"},
		{"an unknown short flag", []string{"-x"}, "unknown shorthand flag: 'x' in -x (vkandinsky"},
		{"seconds that are no number", with(t2v, "--video_duration", "1e9"), `--video-duration "1e9": use a whole number (`},
		{"a seed below zero", with(t2v, "--seed", "-1"), `--seed "-1": use a whole number from 0 on (`},
		{"more steps than a number holds", with(t2v, "--sample_steps", "99999999999999999999"), "the number is too large"},
		{"a weight that is a word", with(t2v, "--guidance_weight", "much"), `--guidance-weight "much": use a number (`},
		{"a switch with a value", with(t2v, "--offload=maybe"), `--offload "maybe": write true or false`},
		{"a word that is no flag", with(t2v, "fox"), `unexpected argument "fox"`},
		{"no prompt for the model in the program", []string{"generate"}, "--prompt"},
		{"too many blocks of the model in the program", []string{"--prompt", "a red circle", "--blocks-in-memory", "9"}, "8 visual blocks"},
		{"no picture for the model in the program", []string{"--prompt", "a red circle", "--image", filepath.Join(dir, "none.png")}, "none.png"},
		{"the model in the program has no ratios for MagCache", []string{"--prompt", "a red circle", "--magcache"}, "mag_ratios"},
		{"no such configuration", []string{"--config", "nope.yaml", "--prompt", "fox"}, "nope.yaml"},
		{"a mistake in the configuration names its line", []string{"--config", badConfig, "--prompt", "fox"}, "bad_t2v.yaml:"},
		{"empty prompt", []string{"--config", "k5_lite_t2v_5s_sft_sd", "--prompt", "  "}, "prompt is empty"},
		{"no checkpoint", t2v, "not found"},
		{"no picture", i2v, "--image"},
		{"picture missing", with(i2v, "--image", filepath.Join(dir, "none.png")), "none.png"},
		{"picture broken", with(i2v, "--image", notAPicture), "picture.png"},
		{"an expanded prompt without expansion", with(t2v, "--print-prompt", "--expand_prompt", "0"), "--expand-prompt 0 turns off"},
		{"prompt expansion of another kind", with(t2v, "--expand_prompt", "2"), "--expand-prompt 2"},
		{"quantised text encoder without checkpoint", with(t2v, "--qwen_quantization"), "not found"},
		{"sage attention in fp32", with(t2v, "--attention_engine", "sage", "--precision", "f32"), "--attention-engine sage needs --precision mixed"},
		{"unknown attention", with(t2v, "--attention_engine", "magic"), "magic"},
		{"zero steps", with(t2v, "--sample_steps", "0"), "--sample-steps 0"},
		{"too many steps", with(t2v, "--sample_steps", "1000000"), "1000000"},
		{"negative guidance", with(t2v, "--guidance_weight", "-1"), "--guidance-weight -1"},
		{"guidance that is no number", with(t2v, "--guidance_weight", "nan"), "NaN"},
		{"zero scale", with(t2v, "--scheduler_scale", "0"), "--scheduler-scale 0"},
		{"infinite scale", with(t2v, "--scheduler_scale", "inf"), "scheduler scale"},
		{"absurd size", with(t2v, "--width", "100000", "--height", "512"), "512x100000"},
		{"crooked size", with(t2v, "--width", "500", "--height", "500"), "500x500"},
		{"zero width", with(t2v, "--width", "0"), "width"},
		{"half a size", with(t2v, "--width", "512"), "width and height"},
		{"negative duration", with(t2v, "--video_duration", "-1"), "-1"},
		{"absurd duration", with(t2v, "--video_duration", "9999"), "9999"},
		{"negative seed", with(t2v, "--seed", "-1"), "--seed"},
		{"unknown output", with(t2v, "-o", filepath.Join(dir, "x.avi")), ".avi"},
		{"an output that is a folder", with(t2v, "-o", dir), "is a folder: name a file in it"},
		{"output nowhere", with(t2v, "-o", filepath.Join(dir, "no", "x.mp4")), "no"},
		{"frames nowhere", with(t2v, "--frames-dir", filepath.Join(dir, "no", "frames")), "--frames-dir"},
		{"a sheet that is no PNG", with(t2v, "--contact-sheet", filepath.Join(dir, "x.jpg")), "--contact-sheet"},
		{"size without a unit that is one", with(t2v, "--vram-budget", "24 apples"), "24 apples"},
		{"unknown kernels", with(t2v, "--kernels", "fast"), "fast"},
		{"unknown precision", with(t2v, "--precision", "f16"), "--precision"},
		{"unknown log level", with(t2v, "--log-level", "shout"), "shout"},
		{"quiet and verbose", with(t2v, "--quiet", "--verbose"), "--quiet"},
		{"negative text encoder layers", with(t2v, "--qwen-layers-in-memory", "-1"), "--qwen-layers-in-memory -1"},
		{"MagCache without ratios", []string{"--config", "config_5s_i2v_pro_20b", "--prompt", "x", "--image", filepath.Join("testdata", "first.png"), "--magcache", "-o", filepath.Join(dir, "x.mp4")}, "mag_ratios"},

		{"inspect without a path", []string{"inspect"}, "name one folder or file"},
		{"inspect of nothing", []string{"inspect", filepath.Join(dir, "none")}, "none"},
		{"inspect of a picture", []string{"inspect", notAPicture}, "picture.png"},
		{"verify of nothing", []string{"verify", filepath.Join(dir, "none.safetensors")}, "none.safetensors"},
		{"verify of a picture", []string{"verify", notAPicture}, "picture.png"},
		{"verify in an unknown precision", []string{"verify", "--precision", "half"}, "--precision"},
		{"synth of nothing", []string{"synth"}, "--preset"},
		{"synth to nowhere", []string{"synth", "--preset", "tiny"}, "--output"},
		{"synth of an unknown model", []string{"synth", "--preset", "huge", "--output", filepath.Join(dir, "m")}, "huge"},
		{"synth into a full folder", []string{"synth", "--preset", "tiny", "--output", dir}, "not empty"},
		{"synth of an unknown type", []string{"synth", "--preset", "tiny", "--dtype", "i8", "--output", filepath.Join(dir, "m")}, "i8"},
		{"bench without a model", []string{"bench", "--synthetic"}, "--config"},
		{"bench of no passes", []string{"bench", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--passes", "0"}, "--passes 0"},
		{"bench resident and swapping", []string{"bench", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--resident", "--blocks-in-memory", "2"}, "--resident"},
		{"bench without weights", []string{"bench", "--config", "k5_lite_t2v_5s_sft_sd"}, "not found"},
		{"help for nothing", []string{"help", "paint"}, "paint"},
		{"bench of an unknown thing", []string{"bench", "paint"}, "vkandinsky help bench lists"},
		{"bench of a mistyped thing", []string{"bench", "matmull"}, `unknown measurement "matmull": did you mean matmul? vkandinsky help bench lists`},
		{"help for an unknown thing of bench", []string{"help", "bench", "paint"}, "bench paint"},
		{"bench with a word too many", []string{"bench", "copy", "fast"}, `"fast"`},
		{"bench of fewer blocks than one", []string{"bench", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--blocks", "-3"}, "--blocks -3"},
		{"bench of more blocks than there are", []string{"bench", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--blocks", "33"}, "--blocks 33"},
		{"bench of some blocks of a checkpoint", []string{"bench", "--config", "k5_lite_t2v_5s_sft_sd", "--blocks", "3"}, "--synthetic"},
		{"bench with a timeline and without timestamps", []string{"bench", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--no-timings", "--trace", "t.json"}, "--no-timings"},
		{"a timeline that is no SVG", with(t2v, "--timeline", filepath.Join(dir, "t.png")), ".svg"},
		{"a trace that is no JSON", with(t2v, "--trace", filepath.Join(dir, "t.svg")), ".json"},
		{"a timeline nowhere", with(t2v, "--timeline", filepath.Join(dir, "no", "t.svg")), "no"},
		{"a shape of too few numbers", []string{"bench", "matmul", "--shape", "64x64"}, "MxNxK"},
		{"a shape of nothing", []string{"bench", "matmul", "--shape", "64x0x64"}, "64x0x64"},
		{"a shape of words", []string{"bench", "conv", "--shape", "axbxcxdxe"}, "axbxcxdxe"},
		{"heads of crooked size", []string{"bench", "attention", "--shape", "2x64x64x63"}, "multiple of 4"},
		{"a measurement that takes no time", []string{"bench", "matmul", "--least", "1us"}, "--least"},
		{"a decode of a crooked number of frames", []string{"bench", "vae", "--frames", "6"}, "--frames 6"},
		{"a decode of a crooked size", []string{"bench", "vae", "--width", "100"}, "100×512"},
		{"no decode", []string{"bench", "vae", "--rounds", "0"}, "--rounds 0"},
		{"copies of nothing", []string{"bench", "copy", "--size", "0"}, "--size"},
		{"copies that are too large", []string{"bench", "copy", "--size", "8GiB"}, "8GiB"},
		{"copies from an unknown memory", []string{"bench", "copy", "--memory", "paper"}, "paper"},
		{"bench swap without swapping", []string{"bench", "swap", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd"}, "nothing is swapped"},
		{"bench swap of one pass", []string{"bench", "swap", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--blocks-in-memory", "2", "--passes", "1"}, "--passes 1"},
		{"a bus rate without time", []string{"bench", "swap", "--synthetic", "--config", "k5_lite_t2v_5s_sft_sd", "--blocks-in-memory", "2", "--bus-rate", "12GB"}, "12GB/s"},
		{"unknown device", []string{"verify", "--device", "99"}, "no device 99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, stdout, stderr := invoke(t, c.args...)
			if status != exitBadInput {
				t.Errorf("status %d, want %d", status, exitBadInput)
			}
			if stdout != "" {
				t.Errorf("standard output has %q", stdout)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "vkandinsky: ") || !strings.Contains(stderr, c.want) {
				t.Errorf("standard error has %q, want one line with %q", stderr, c.want)
			}
		})
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("mistakes left files behind: %v", entries)
	}
}

func TestAttentionLibrariesAreAcceptedAndSaidToBeReplaced(t *testing.T) {
	for _, name := range []string{"auto", "sdpa", "flash_attention_2", "flash_attention_3", "sage"} {
		_, _, stderr := invoke(t, "--config", "k5_lite_t2v_5s_sft_sd", "--prompt", "fox", "--attention_engine", name, "-o", filepath.Join(t.TempDir(), "x.mp4"))
		if strings.Contains(stderr, "attention-engine") || !strings.Contains(stderr, "not found") { // goes on to look for the checkpoint
			t.Errorf("%s: %s", name, stderr)
		}
		if replaced := strings.Contains(stderr, "own kernels"); replaced != strings.HasPrefix(name, "flash") {
			t.Errorf("%s: a line about replacing it: %v", name, replaced)
		}
	}
}
