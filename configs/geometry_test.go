package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func preset(t *testing.T, name string) *Config {
	t.Helper()
	c, err := Preset(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClipLengths(t *testing.T) {
	for _, w := range []struct{ seconds, latent, frames int }{{0, 1, 1}, {1, 7, 25}, {5, 31, 121}, {10, 61, 241}} {
		if got := LatentFrames(w.seconds); got != w.latent || VideoFrames(got) != w.frames {
			t.Errorf("%d s: %d latent frames, %d frames; want %d, %d", w.seconds, got, VideoFrames(got), w.latent, w.frames)
		}
	}
}

func TestTokenCounts(t *testing.T) {
	for _, w := range []struct {
		preset         string
		seconds        int
		size           Size
		tokens, blocks int
	}{
		{"k5_pro_i2v_5s_sft_sd", 5, Size{512, 768}, 47616, 0},
		{"k5_pro_i2v_5s_sft_hd", 5, Size{1024, 1024}, 126976, 1984},
		{"k5_pro_t2v_10s_sft_hd", 10, Size{768, 1280}, 234240, 3660},
		{"k5_pro_t2v_10s_sft_sd", 5, Size{512, 768}, 47616, 744},
		{"k5_pro_t2v_5s_sft_sd", 0, Size{16, 16}, 1, 0},
	} {
		g, err := preset(t, w.preset).Geometry(w.seconds, w.size)
		if err != nil {
			t.Error(err)
		} else if g.Tokens != w.tokens || g.NablaBlocks != w.blocks || g.LatentNumbers != w.tokens*64 {
			t.Errorf("%s %v: %+v", w.preset, w.size, g)
		}
	}
}

func TestImpossibleClipsAreRefused(t *testing.T) {
	for _, w := range []struct {
		preset  string
		seconds int
		size    Size
	}{
		{"k5_pro_i2v_5s_sft_sd", -1, Size{512, 768}}, {"k5_pro_i2v_5s_sft_sd", 22, Size{512, 768}},
		{"k5_pro_i2v_5s_sft_sd", 5, Size{520, 768}}, {"k5_pro_i2v_5s_sft_sd", 5, Size{512, 0}},
		{"k5_pro_i2v_5s_sft_sd", 5, Size{-512, 768}}, {"k5_pro_i2v_5s_sft_sd", 5, Size{512, 2064}},
		{"k5_pro_i2v_5s_sft_hd", 5, Size{1024, 1040}}, {"k5_pro_i2v_5s_sft_hd", 1 << 60, Size{1024, 1024}},
	} {
		if g, err := preset(t, w.preset).Geometry(w.seconds, w.size); err == nil {
			t.Errorf("%s, %d s, %v: accepted as %+v", w.preset, w.seconds, w.size, g)
		}
	}
}

func TestEveryPublishedSizePasses(t *testing.T) {
	for _, name := range Presets() {
		c := preset(t, name)
		sizes := c.AllowedSizes()
		if want := map[int]int{64: 1, 512: 3, 1024: 7}[c.Metrics.Resolution]; len(sizes) != want {
			t.Errorf("%s: %d sizes, want %d", name, len(sizes), want)
		}
		for _, s := range sizes {
			if err := c.CheckSize(s); err != nil {
				t.Error(err)
			}
			if _, err := c.Geometry(10, s); err != nil {
				t.Error(err)
			}
			if err := c.CheckSize(Size{s.Height + 16, s.Width}); err == nil {
				t.Errorf("%s: %v and 16 rows more was accepted", name, s)
			}
		}
	}
}

func TestDefaultsOfEveryResolution(t *testing.T) {
	for _, w := range []struct {
		preset  string
		size    Size
		seconds int
	}{
		{"k5_pro_i2v_5s_sft_sd", Size{512, 768}, 5}, {"k5_lite_t2v_10s_sft_sd", Size{512, 768}, 5},
		{"k5_pro_t2v_5s_sft_hd", Size{1024, 1024}, 5}, {"tiny_i2v", Size{64, 64}, 1},
	} {
		c := preset(t, w.preset)
		if c.DefaultSize() != w.size || c.Seconds() != w.seconds {
			t.Errorf("%s: %v, %d s; want %v, %d s", w.preset, c.DefaultSize(), c.Seconds(), w.size, w.seconds)
		}
	}
}

func TestParameterCountsAreThePublishedOnes(t *testing.T) {
	for _, w := range []struct {
		preset                    string
		all, visual, text, others int64
	}{
		{"k5_lite_t2v_5s_sft_sd", 2_007_702_848, 59_668_480, 44_058_240, 10_195_008},
		{"config_5s_i2v_pro_20b", 19_311_325_248, 306_254_336, 226_533_632, 29_930_560},
	} {
		d := preset(t, w.preset).Model.DiT
		if d.Parameters() != w.all || d.VisualBlockParameters() != w.visual || d.TextBlockParameters() != w.text || d.OtherParameters() != w.others {
			t.Errorf("%s: %d parameters, %d a visual block, %d a text block, %d others", w.preset, d.Parameters(), d.VisualBlockParameters(), d.TextBlockParameters(), d.OtherParameters())
		}
	}
	d := preset(t, "config_5s_i2v_pro_20b").Model.DiT
	if d.Heads() != 32 || d.HeadDim() != 128 || d.InChannels() != 33 {
		t.Errorf("%d heads of %d, %d channels", d.Heads(), d.HeadDim(), d.InChannels())
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLocateLooksInTheWorkingFolderThenTheConfigsThenTheCheckpoints(t *testing.T) {
	root := t.TempDir()
	work, confDir, store := filepath.Join(root, "work"), filepath.Join(root, "конфиг dir"), filepath.Join(root, "store")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(work)
	const name = "./weights/model/a.safetensors"
	c := &Config{File: "x.yaml", Dir: confDir}
	if _, err := c.Locate(name, store); err == nil || !strings.Contains(err.Error(), "--checkpoint-dir") {
		t.Fatalf("found a file that is nowhere: %v", err)
	}
	// From the last place to the first: each new file must win over those before.
	for _, w := range []struct{ file, want string }{
		{filepath.Join(store, "a.safetensors"), ""},
		{filepath.Join(store, "model", "a.safetensors"), ""},
		{filepath.Join(store, "weights", "model", "a.safetensors"), ""},
		{filepath.Join(confDir, "weights", "model", "a.safetensors"), ""},
		{filepath.Join(work, "weights", "model", "a.safetensors"), filepath.Join("weights", "model", "a.safetensors")},
	} {
		touch(t, w.file)
		want := w.want
		if want == "" {
			want = w.file
		}
		if got, err := c.Locate(name, store); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestLocateGivesTheFolderOfAShardedCheckpoint(t *testing.T) {
	root := t.TempDir()
	touch(t, filepath.Join(root, "transformer", "diffusion_pytorch_model.safetensors.index.json"))
	c := preset(t, "config_5s_i2v_pro_20b")
	got, err := c.Locate(c.Model.CheckpointPath, root)
	if err != nil || got != filepath.Join(root, "transformer") {
		t.Errorf("got %q, %v", got, err)
	}
}
