package configs

import (
	"errors"
	"strings"
	"testing"
)

const liteName = "k5_lite_t2v_10s_sft_sd"

func source(t testing.TB, name string) string {
	t.Helper()
	data, err := PresetSource(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// lineOf returns the 1-based line of the first occurrence of text.
func lineOf(t *testing.T, in, text string) int {
	t.Helper()
	i := strings.Index(in, text)
	if i < 0 {
		t.Fatalf("%q is not in the file", text)
	}
	return 1 + strings.Count(in[:i], "\n")
}

func TestMistakesAreRefusedWithTheirLine(t *testing.T) {
	good := source(t, liteName)
	for _, tc := range []struct {
		name     string
		old, new string
		at       string // text that is on the line to be named
		key, msg string
	}{
		{"an unknown key", "num_steps: 50", "num_steps: 50\n  nun_steps: 3", "nun_steps", "model.nun_steps", "did you mean num_steps"},
		{"an unknown section", "magcache:", "swap_magic: {}\nmagcache:", "swap_magic", "swap_magic", "unknown key"},
		{"a misspelt key rather than the missing one", "ff_dim: 7168", "ffdim: 7168", "ffdim", "model.dit_params.ffdim", "did you mean ff_dim"},
		{"a missing key", "    ff_dim: 7168\n", "", "in_visual_dim", "model.dit_params.ff_dim", "missing"},
		{"a repeated key", "ff_dim: 7168", "ff_dim: 7168\n    ff_dim: 7168", "ff_dim: 7168\n    num", "model.dit_params.ff_dim", "given twice"},
		{"text for a number", "num_steps: 50", `num_steps: "50"`, "num_steps", "model.num_steps", "whole number"},
		{"a fraction for a count", "num_steps: 50", "num_steps: 50.5", "num_steps", "model.num_steps", "whole number"},
		{"a number beyond 64 bits", "num_steps: 50", "num_steps: 99999999999999999999999", "num_steps", "model.num_steps", "whole number"},
		{"nothing for a number", "num_steps: 50", "num_steps:", "num_steps", "model.num_steps", "got nothing"},
		{"a word for a truth value", "visual_cond: true", "visual_cond: maybe", "visual_cond", "model.dit_params.visual_cond", "true or false"},
		{"nothing for a truth value", "visual_cond: true", "visual_cond: ~", "visual_cond", "model.dit_params.visual_cond", "true or false"},
		{"infinity for a number", "guidance_weight: 5.0", "guidance_weight: .inf", "guidance_weight", "model.guidance_weight", "a number"},
		{"a list for a section", "  vae:\n    name: hunyuan\n    checkpoint_path: \"./weights/vae/\"", "  vae: [1]", "vae: [1]", "model.vae", "section"},
		{"a section for a number", "num_steps: 50", "num_steps: {a: 1}", "num_steps", "model.num_steps", "got a section"},
		{"two axes", "axes_dims: [16, 24, 24]", "axes_dims: [16, 24]", "axes_dims", "model.dit_params.axes_dims", "list of 3"},
		{"a list of words", "axes_dims: [16, 24, 24]", "axes_dims: [16, a, 24]", "axes_dims", "model.dit_params.axes_dims", "whole numbers"},
		{"heads that do not divide the width", "axes_dims: [16, 24, 24]", "axes_dims: [16, 24, 22]", "axes_dims", "model.dit_params.axes_dims", "does not divide model_dim 1792"},
		{"an odd axis", "axes_dims: [16, 24, 24]", "axes_dims: [15, 25, 24]", "axes_dims", "model.dit_params.axes_dims", "even"},
		{"a negative axis", "axes_dims: [16, 24, 24]", "axes_dims: [-16, 56, 24]", "axes_dims", "model.dit_params.axes_dims", "even"},
		{"another patch size", "patch_size: [1, 2, 2]", "patch_size: [2, 2, 2]", "patch_size", "model.dit_params.patch_size", "1, 2, 2"},
		{"no steps", "num_steps: 50", "num_steps: 0", "num_steps", "model.num_steps", "at least 1"},
		{"a negative width", "ff_dim: 7168", "ff_dim: -7168", "ff_dim", "model.dit_params.ff_dim", "at least 1"},
		{"an absurd width", "ff_dim: 7168", "ff_dim: 4000000000", "ff_dim", "model.dit_params.ff_dim", "at most"},
		{"different latent channels in and out", "out_visual_dim: 16", "out_visual_dim: 8", "out_visual_dim", "model.dit_params.out_visual_dim", "in_visual_dim"},
		{"no blocks", "num_visual_blocks: 32", "num_visual_blocks: 0", "num_visual_blocks", "model.dit_params.num_visual_blocks", "at least 1"},
		{"P above 1", "P: 0.9", "P: 1.1", "P: 1.1", "model.attention.P", "from 0 to 1"},
		{"P below 0", "P: 0.9", "P: -0.1", "P: -0.1", "model.attention.P", "from 0 to 1"},
		{"nabla without P", "    P: 0.9\n", "", "type: nabla", "model.attention.P", "missing"},
		{"an empty window", "wT: 11", "wT: 0", "wT", "model.attention.wT", "at least 1"},
		{"a negative guidance", "guidance_weight: 5.0", "guidance_weight: -1", "guidance_weight", "model.guidance_weight", "negative"},
		{"another resolution", "resolution: 512", "resolution: 768", "resolution", "metrics.resolution", "512 or 1024"},
		{"a small resolution between multiples", "resolution: 512", "resolution: 120", "resolution", "metrics.resolution", "multiple of 16"},
		{"a resolution of a few tokens", "resolution: 512", "resolution: 48", "resolution", "metrics.resolution", "from 64"},
		{"no duration", "resolution: 512", "resolution: 512\n  video_duration: 0", "video_duration", "metrics.video_duration", "at least 1"},
		{"too long a duration", "resolution: 512", "resolution: 512\n  video_duration: 22", "video_duration", "metrics.video_duration", "at most 21"},
		{"a scale of nought", "scale_factor: [1.0, 2.0, 2.0]", "scale_factor: [1.0, 0.0, 2.0]", "scale_factor", "metrics.scale_factor", "positive"},
		{"a negative scheduler scale", "scheduler_scale: 10", "scheduler_scale: -10", "scheduler_scale", "metrics.scheduler_scale", "positive"},
		{"too long a text", "max_length: 256", "max_length: 2000", "max_length", "model.text_embedder.qwen.max_length", "at most 1024"},
		{"no checkpoint", `checkpoint_path: "./weights/vae/"`, `checkpoint_path: ""`, `checkpoint_path: ""`, "model.vae.checkpoint_path", "must name"},
		{"an unknown VAE", "name: hunyuan", "name: wan", "name: wan", "model.vae.name", "must be hunyuan"},
		{"the image models' VAE", "name: hunyuan", "name: flux", "name: flux", "model.vae.name", "image models"},
		{"image editing", "visual_cond: true", "instruct_type: channel", "instruct_type", "model.dit_params.instruct_type", "image editing"},
		{"an unknown attention engine", "visual_cond: true", "attention_engine: warp", "attention_engine", "model.dit_params.attention_engine", "sdpa"},
		{"an odd count of ratios", "mag_ratios: [", "mag_ratios: [\n    1.0,", "mag_ratios", "magcache.mag_ratios", "pairs"},
		{"a negative ratio", "0.92261, 0.92261", "-0.92261, 0.92261", "mag_ratios", "magcache.mag_ratios", "negative"},
		{"a cache without ratios", "  mag_ratios: [", "  magratios: [", "magratios", "magcache.magratios", "did you mean"},
		{"more blocks in memory than there are", "magcache:", "block_swap: {enabled: true, blocks_in_memory: 33}\nmagcache:", "block_swap", "block_swap.blocks_in_memory", "at most 32"},
		{"no block in memory", "magcache:", "block_swap: {enabled: true, blocks_in_memory: 0}\nmagcache:", "block_swap", "block_swap.blocks_in_memory", "at least 1"},
		{"swapping without a count", "magcache:", "block_swap: {enabled: true}\nmagcache:", "block_swap", "block_swap.enabled", "blocks_in_memory"},
		{"broken yaml", "num_steps: 50", "num_steps: [50", "", "", "not valid yaml"},
		{"a second document", "magcache:", "---\nmagcache:", "", "", "more than one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(good, tc.old) {
				t.Fatalf("the preset does not contain %q", tc.old)
			}
			text := strings.Replace(good, tc.old, tc.new, 1)
			c, err := decode("some/file.yaml", liteName, []byte(text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, %v; want an *Error", c, err)
			}
			if e.Key != tc.key || !strings.Contains(e.Msg, tc.msg) || e.File != "some/file.yaml" || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if tc.at != "" && tc.name != "a repeated key" {
				if want := lineOf(t, text, tc.at); e.Line != want {
					t.Errorf("line %d, want %d: %v", e.Line, want, err)
				}
			}
			if e.Line < 1 {
				t.Errorf("no line: %v", err)
			}
		})
	}
}

func TestARepeatedKeyIsNamedWhereItComesAgain(t *testing.T) {
	text := strings.Replace(source(t, liteName), "ff_dim: 7168", "ff_dim: 7168\n    ff_dim: 7168", 1)
	_, err := decode("f.yaml", liteName, []byte(text))
	var e *Error
	if !errors.As(err, &e) || e.Line != lineOf(t, text, "ff_dim")+1 {
		t.Errorf("got %v", err)
	}
}

func TestKeysUpstreamNeverReadsAreAccepted(t *testing.T) {
	text := source(t, liteName)
	text = strings.Replace(text, "add_sta: true", "add_sta: false\n    chunk: false\n    causal: no\n    local: false\n    glob: false\n    window: 3", 1)
	if _, err := decode("f.yaml", liteName, []byte(text)); err != nil {
		t.Error(err)
	}
}

func TestFullAttentionWithoutASectionAndTextWidthsWithoutKeys(t *testing.T) {
	text := source(t, "config_5s_i2v_pro_20b")
	text = strings.Replace(text, "    in_text_dim: 3584\n    in_text_dim2: 768\n", "", 1)
	c, err := decode("f.yaml", "i2v", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.Model.Attention.Nabla || c.Model.DiT.InTextDim != 3584 || c.Model.DiT.InTextDim2 != 768 {
		t.Errorf("got %+v", c.Model)
	}
}

func TestEmptyFilesAreRefused(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "42", "[]", "null"} {
		if c, err := decode("f.yaml", "x", []byte(text)); err == nil {
			t.Errorf("%q gave %+v", text, c)
		}
	}
}

func TestImageModelsAreRefusedByName(t *testing.T) {
	for _, name := range []string{"config_t2i", "my_i2i_model"} {
		if _, err := decode("f.yaml", name, []byte(source(t, liteName))); err == nil || !strings.Contains(err.Error(), "only video models") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecode looks for panics, for errors of more than one line, and for accepted values that break the sizes
// computed from them.
func FuzzDecode(f *testing.F) {
	for _, name := range Presets() {
		f.Add([]byte(source(f, name)))
	}
	f.Add([]byte("a: &a [*a]\nmodel: *a"))
	f.Add([]byte("model: {<<: {x: 1}}"))
	f.Add([]byte("? [1]\n: 2"))
	f.Add([]byte("metrics: {resolution: 0x200, scale_factor: [1e0, 1_0, .5]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decode("fuzz.yaml", "i2v", data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("error of several lines: %q", err)
			}
			return
		}
		d := c.Model.DiT
		if d.Heads() < 1 || d.Heads()*d.HeadDim() != d.ModelDim || d.Parameters() <= 0 || c.Model.NumSteps < 1 {
			t.Fatalf("accepted %+v", c)
		}
	})
}
