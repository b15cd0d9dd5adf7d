package weights

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
)

func TestSpecsHaveThePublishedParameterCounts(t *testing.T) {
	cases := []struct {
		name    string
		spec    Spec
		params  int64
		tensors int
	}{
		{"Pro video transformer", DiTSpec(ProVideoDiT()), 19_311_325_248, 1514},
		{"Lite video transformer", DiTSpec(LiteVideoDiT()), 2_007_702_848, 18 + 2*14 + 32*24},
		{"Lite image transformer", DiTSpec(LiteImageDiT()), 6_022_080_576, 18 + 2*14 + 50*24},
		{"Lite image editing transformer", DiTSpec(LiteImageEditDiT()), 6_022_254_656, 18 + 2*14 + 50*24},
		{"one Pro visual block", DiTVisualBlockSpec(ProVideoDiT(), 0), 306_254_336, 24},
		{"one Pro text block", DiTTextBlockSpec(ProVideoDiT(), 0), 226_533_632, 14},
		{"one Lite visual block", DiTVisualBlockSpec(LiteVideoDiT(), 0), 59_668_480, 24},
		{"one Lite text block", DiTTextBlockSpec(LiteVideoDiT(), 0), 44_058_240, 14},
		{"autoencoder", VAESpec(HunyuanVAE()), 246_478_803, 0},
		{"autoencoder's encoder", VAESpec(HunyuanVAE()).Filter(func(n string) bool { return strings.HasPrefix(n, "encoder.") }), 100_341_408, 0},
		{"autoencoder's decoder", VAESpec(HunyuanVAE()).Filter(func(n string) bool { return strings.HasPrefix(n, "decoder.") }), 146_136_067, 0},
		{"Qwen2.5-VL 7B", QwenSpec(Qwen7B()), 8_292_166_656, 729},
		{"CLIP text tower", CLIPSpec(CLIPViTL14()), 123_060_480, 12*16 + 4},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.spec.Parameters(); got != c.params {
				t.Errorf("%d parameters, want %d", got, c.params)
			}
			if c.tensors != 0 && len(c.spec) != c.tensors {
				t.Errorf("%d tensors, want %d", len(c.spec), c.tensors)
			}
			seen := map[string]bool{}
			for _, e := range c.spec {
				if seen[e.Name] {
					t.Errorf("%s listed twice", e.Name)
				}
				seen[e.Name] = true
			}
		})
	}
}

// goldenCheckpoint opens the weights of a golden case.
func goldenCheckpoint(t *testing.T, name string, c Component) *Checkpoint {
	t.Helper()
	f, err := Open(testdata.Shared(t, "golden/"+name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	ckpt, err := NewCheckpoint([]*File{f}, OpenOptions{Component: c, Prefix: "weights."})
	if err != nil {
		t.Fatal(err)
	}
	return ckpt
}

// goldenSpec parses a golden case's configuration and returns the tensors it calls for.
func goldenSpec(t *testing.T, ckpt *Checkpoint, c Component) Spec {
	t.Helper()
	meta := ckpt.Files()[0].Metadata()
	var spec Spec
	var err error
	switch c {
	case DiT:
		var cfg DiTConfig
		cfg, err = ParseDiTConfig([]byte(meta["config"]))
		spec = DiTSpec(cfg)
	case VAE:
		var cfg VAEConfig
		cfg, err = ParseVAEConfig([]byte(meta["config"]))
		spec = VAESpec(cfg)
	case Qwen:
		var cfg QwenConfig
		cfg, err = ParseQwenConfig([]byte(fmt.Sprintf(`{"text_config":%s,"vision_config":%s}`, meta["text_config"], meta["vision_config"])))
		spec = QwenSpec(cfg)
	case CLIP:
		var cfg CLIPConfig
		cfg, err = ParseCLIPConfig([]byte(meta["config"]))
		spec = CLIPSpec(cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestSpecsDescribeEveryGoldenNetworkExactly(t *testing.T) {
	cases := map[string]Component{
		"dit_full_lite": DiT, "dit_full_pro": DiT, "dit_nabla": DiT, "dit_t2v_lite": DiT,
		"sampler_cfg": DiT, "sampler_nocfg": DiT, "sampler_magcache": DiT, "vae": VAE, "qwen": Qwen, "clip": CLIP,
	}
	for name, component := range cases {
		t.Run(name, func(t *testing.T) {
			ckpt := goldenCheckpoint(t, name+".safetensors", component)
			r := Check(ckpt, goldenSpec(t, ckpt, component))
			if err := r.Err(); err != nil {
				t.Error(err)
			}
			if len(r.Unexpected) != 0 {
				t.Errorf("unexpected: %v", r.Unexpected)
			}
		})
	}
}

func TestCheckReportsEachKindOfFault(t *testing.T) {
	spec := Spec{{"ok", []int{1}}, {"shape", []int{2, 1}}, {"type", []int{4}}, {"z.missing", []int{3}}, {"a.missing", []int{3}}}
	f, err := OpenBytes("dir/m.safetensors", raw(`{"extra":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"ok":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},`+
		`"shape":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]},"type":{"dtype":"I8","shape":[4],"data_offsets":[12,16]}}`, make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	ckpt, err := NewCheckpoint([]*File{f}, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := Check(ckpt, spec)
	if r.OK() || len(r.Missing) != 2 || r.Missing[0].Name != "a.missing" || len(r.WrongShape) != 1 || r.WrongShape[0].Name != "shape" ||
		len(r.WrongDType) != 1 || r.WrongDType[0].Name != "type" || len(r.Unexpected) != 1 || r.Unexpected[0] != "extra" {
		t.Errorf("report %+v", r)
	}
	if msg := r.Err().Error(); !strings.Contains(msg, filepath.FromSlash("dir/m.safetensors")) || !strings.Contains(msg, `"shape"`) || !strings.Contains(msg, "3 more") {
		t.Errorf("error %q", msg)
	}
	r.WrongShape = nil
	if msg := r.Err().Error(); !strings.Contains(msg, `"type"`) || !strings.Contains(msg, "I8") {
		t.Errorf("error %q", msg)
	}
	if err := Check(ckpt, spec[:1]).Err(); err != nil {
		t.Errorf("unexpected tensors alone are no error: %v", err)
	}
}
