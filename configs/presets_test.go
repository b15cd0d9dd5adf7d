package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// published is the table of the published video configurations.
var published = []struct {
	name       string
	pro        bool
	pipeline   Pipeline
	checkpoint string
	steps      int
	guidance   float64
	scheduler  float64
	p          float64 // 0: full attention
	scale      float64
	resolution int
	ratios     string // SHA-256 of the 98 numbers, joined by commas as published; empty: none
}{
	{"config_5s_i2v_pro_20b", true, I2V, "Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers/transformer/diffusion_pytorch_model.safetensors", 50, 5, 0, 0, 2, 512, ""},
	{"k5_lite_i2v_5s_sft_sd", false, I2V, "./weights/model/kandinsky5lite_i2v_5s.safetensors", 50, 5, 10, 0, 2, 512, "fa9657bebca175b5151b36493e0371790cc2cfb27f4f6d690143bf1e4bc03d8c"},
	{"k5_lite_t2v_10s_distil_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_distilled16steps_10s.safetensors", 16, 1, 10, 0.9, 2, 512, ""},
	{"k5_lite_t2v_10s_nocfg_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_sft_10s.safetensors", 50, 1, 10, 0.9, 2, 512, "9b2b5358ad31be5cf49ac4597ab380cb3b6f013e80e662c1d2e29cc74b7a4e97"},
	{"k5_lite_t2v_10s_pretrain_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_pretrain_10s.safetensors", 50, 5, 10, 0.9, 2, 512, ""},
	{"k5_lite_t2v_10s_sft_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_sft_10s.safetensors", 50, 5, 10, 0.9, 2, 512, "9aad34dc578f75cc471546b95d6b4e37534122e18c1e79589d0b9b9278093242"},
	{"k5_lite_t2v_5s_distil_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_distilled16steps_5s.safetensors", 16, 1, 5, 0, 2, 512, ""},
	{"k5_lite_t2v_5s_nocfg_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_nocfg_5s.safetensors", 50, 1, 0, 0, 2, 512, "d1c79e6bfec97102b62dfecad472250376fed211d1069ec84e4e0499b18bc00d"},
	{"k5_lite_t2v_5s_pretrain_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_pretrain_5s.safetensors", 50, 5, 0, 0, 2, 512, ""},
	{"k5_lite_t2v_5s_sft_sd", false, T2V, "./weights/model/kandinsky5lite_t2v_sft_5s.safetensors", 50, 5, 0, 0, 2, 512, "e6e75b3665b79d2f013060d635ecbeb696c430a0105a1912512805d08defc8c6"},
	{"k5_pro_i2v_5s_sft_hd", true, I2V, "./weights/model/kandinsky5pro_i2v_sft_5s.safetensors", 50, 5, 5, 0.8, 3.16, 1024, "f7541dcbe167ff4a13ae650d83e49bc119d45d12d3f7b7d72c37dc6531752ec2"},
	{"k5_pro_i2v_5s_sft_sd", true, I2V, "./weights/model/kandinsky5pro_i2v_sft_5s.safetensors", 50, 5, 10, 0, 2, 512, "fcb21b626643d56515798339454e6881bee11e96942ec5a8bb7b765945934ca8"},
	{"k5_pro_t2v_10s_sft_hd", true, T2V, "./weights/model/kandinsky5pro_t2v_sft_10s.safetensors", 50, 5, 0, 0.7, 3.16, 1024, "a5125c32ef1f1fc0fbb8b6d61d36511c6bc7d35fa2838371425496de257503f6"},
	{"k5_pro_t2v_10s_sft_sd", true, T2V, "./weights/model/kandinsky5pro_t2v_sft_10s.safetensors", 50, 5, 0, 0.9, 2, 512, "efa6f267ff69d62c50882f2dce6a8e1f3ed43509a166607a7313fceff2a9ead9"},
	{"k5_pro_t2v_5s_sft_hd", true, T2V, "./weights/model/kandinsky5pro_t2v_sft_5s.safetensors", 50, 5, 0, 0.8, 3.16, 1024, "52f9f35672e5a19ec86fadbbc1a1b588dd4226eaed00db3b34dd96d225d997c4"},
	{"k5_pro_t2v_5s_sft_sd", true, T2V, "./weights/model/kandinsky5pro_t2v_sft_5s.safetensors", 50, 5, 0, 0, 2, 512, "82a5ee079057d1a605f7d03b8388aed57d766b9330a4cdf5d71176920d81c34f"},
}

func TestPresets(t *testing.T) {
	if got := Presets(); len(got) != len(published)+1 || got[len(published)] != "tiny_i2v" {
		t.Fatalf("presets %v, want the %d of the table and tiny_i2v", got, len(published))
	}
	lite := DiTParams{InVisualDim: 16, OutVisualDim: 16, InTextDim: 3584, InTextDim2: 768, TimeDim: 512, PatchSize: [3]int{1, 2, 2},
		ModelDim: 1792, FFDim: 7168, NumTextBlocks: 2, NumVisualBlocks: 32, AxesDims: [3]int{16, 24, 24}, VisualCond: true}
	pro := DiTParams{InVisualDim: 16, OutVisualDim: 16, InTextDim: 3584, InTextDim2: 768, TimeDim: 1024, PatchSize: [3]int{1, 2, 2},
		ModelDim: 4096, FFDim: 16384, NumTextBlocks: 4, NumVisualBlocks: 60, AxesDims: [3]int{32, 48, 48}, VisualCond: true}
	for i, w := range published {
		t.Run(w.name+" is as published", func(t *testing.T) {
			if Presets()[i] != w.name {
				t.Fatalf("Presets()[%d] = %q", i, Presets()[i])
			}
			c, err := Preset(w.name)
			if err != nil {
				t.Fatal(err)
			}
			dit := lite
			if w.pro {
				dit = pro
			}
			dit.AttentionEngine = c.Model.DiT.AttentionEngine
			attention := Attention{}
			if w.p > 0 {
				attention = Attention{Nabla: true, P: w.p, WT: 11, WH: 3, WW: 3}
			}
			m := c.Model
			if c.Name != w.name || c.Pipeline != w.pipeline || m.CheckpointPath != w.checkpoint || m.NumSteps != w.steps ||
				m.GuidanceWeight != w.guidance || m.DiT != dit || m.Attention != attention || m.VAE.Name != "hunyuan" ||
				m.Qwen.MaxLength != 256 || m.CLIP.MaxLength != 77 {
				t.Errorf("got %+v", c)
			}
			if want := (Metrics{w.resolution, [3]float64{1, w.scale, w.scale}, w.scheduler, 0}); c.Metrics != want {
				t.Errorf("metrics %+v, want %+v", c.Metrics, want)
			}
			checkRatios(t, c.MagRatios, w.ratios)
		})
	}
}

func checkRatios(t *testing.T, ratios []float64, sum string) {
	t.Helper()
	if sum == "" {
		if ratios != nil {
			t.Errorf("%d mag_ratios where none are published", len(ratios))
		}
		return
	}
	if len(ratios) != 98 {
		t.Fatalf("%d mag_ratios, want 98", len(ratios))
	}
	words := make([]string, len(ratios))
	for i, v := range ratios {
		words[i] = strconv.FormatFloat(v, 'f', -1, 64)
	}
	got := sha256.Sum256([]byte(strings.Join(words, ",")))
	if hex.EncodeToString(got[:]) != sum {
		t.Errorf("mag_ratios differ from the published ones: %x", got)
	}
}

func TestThe20BPresetSwapsBlocksAndNamesItsTokenizers(t *testing.T) {
	c, err := Load("./configs/config_5s_i2v_pro_20b.yaml") // does not exist below this folder
	if err != nil {
		t.Fatal(err)
	}
	if c.BlockSwap != (BlockSwap{Enabled: true, BlocksInMemory: 6}) {
		t.Errorf("block_swap: %+v", c.BlockSwap)
	}
	const root = "Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers/"
	if want := (TextEmbedder{root + "text_encoder", root + "tokenizer", 256}); c.Model.Qwen != want {
		t.Errorf("qwen: %+v", c.Model.Qwen)
	}
	if want := (TextEmbedder{root + "text_encoder_2", root + "tokenizer_2", 77}); c.Model.CLIP != want {
		t.Errorf("clip: %+v", c.Model.CLIP)
	}
	if c.Dir != "" || c.Model.DiT.AttentionEngine != "sdpa" {
		t.Errorf("Dir %q, engine %q", c.Dir, c.Model.DiT.AttentionEngine)
	}
}

func TestLoadPrefersTheFile(t *testing.T) {
	source, err := PresetSource("k5_lite_i2v_5s_sft_sd")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "k5_lite_i2v_5s_sft_sd.yaml")
	edited := strings.Replace(string(source), "num_steps: 50", "num_steps: 7", 1)
	if err := os.WriteFile(path, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Model.NumSteps != 7 || c.Dir != dir || c.File != path {
		t.Errorf("steps %d, Dir %q, File %q", c.Model.NumSteps, c.Dir, c.File)
	}
}

func TestLoadFallsBackToAPresetByBaseName(t *testing.T) {
	for _, path := range []string{"k5_pro_t2v_5s_sft_hd", "nowhere/k5_pro_t2v_5s_sft_hd.yaml", `C:\configs\k5_pro_t2v_5s_sft_hd.yaml`} {
		c, err := Load(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		} else if c.Name != "k5_pro_t2v_5s_sft_hd" {
			t.Errorf("%s gave %s", path, c.Name)
		}
	}
	if _, err := Load("nowhere/none.yaml"); err == nil || !strings.Contains(err.Error(), "k5_pro_i2v_5s_sft_hd") {
		t.Errorf("an unknown name should list the presets, got %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder was loaded")
	}
}

func TestPipelineOf(t *testing.T) {
	for name, want := range map[string]Pipeline{
		"k5_lite_t2v_5s_sft_sd": T2V, "config_5s_sft": T2V, "my_I2V_model.yaml": I2V, "i2v_t2v": I2V,
		"config_t2i": "", "k5_lite_i2i_sft_hd": "", "t2i_i2v": "", "configs_i2v/plain.yaml": T2V,
	} {
		if got := PipelineOf(name); got != want {
			t.Errorf("PipelineOf(%q) = %q, want %q", name, got, want)
		}
	}
}
