package weights

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseConfigsTakeThePublishedForms(t *testing.T) {
	t.Run("flat transformer/config.json", func(t *testing.T) {
		c, err := ParseDiTConfig([]byte(`{"_class_name":"Kandinsky5Transformer3DModel","attention_P":0.8,"attention_type":"nabla","attention_wH":3,
			"attention_wT":11,"attention_wW":3,"axes_dims":[32,48,48],"ff_dim":16384,"in_text_dim":3584,"in_text_dim2":768,"in_visual_dim":16,"model_dim":4096,
			"num_text_blocks":4,"num_visual_blocks":60,"out_visual_dim":16,"patch_size":[1,2,2],"time_dim":1024,"visual_cond":true,"attention_causal":null}`))
		want := ProVideoDiT()
		want.AttentionType, want.AttentionP, want.AttentionWT, want.AttentionWH, want.AttentionWW = "nabla", 0.8, 11, 3, 3
		if err != nil || c != want {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("published Qwen config with decoder keys at the top", func(t *testing.T) {
		c, err := ParseQwenConfig([]byte(`{"hidden_size":3584,"rope_scaling":{"type":"mrope","mrope_section":[16,24,24]},"rope_theta":1000000.0,
			"vision_config":{"depth":32,"in_chans":3,"hidden_size":1280,"fullatt_block_indexes":[7,15,23,31]},"vocab_size":152064,"sliding_window":32768}`))
		if err != nil || !reflect.DeepEqual(c, Qwen7B()) {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("newer Qwen config with text_config and rope_parameters", func(t *testing.T) {
		c, err := ParseQwenConfig([]byte(`{"text_config":{"hidden_size":512,"num_attention_heads":4,"num_key_value_heads":2,
			"rope_parameters":{"rope_theta":5000.0,"mrope_section":[16,24,24],"rope_type":"default"}},"vision_config":{"out_hidden_size":512}}`))
		if err != nil || c.Text.HiddenSize != 512 || c.Text.RopeTheta != 5000 || c.Vision.OutHiddenSize != 512 || c.Text.NumHiddenLayers != 28 {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("whole CLIP config with text_config", func(t *testing.T) {
		c, err := ParseCLIPConfig([]byte(`{"hidden_size":9,"projection_dim":768,"text_config":{"hidden_size":768,"eos_token_id":2},"vision_config":{"hidden_size":1024}}`))
		if err != nil || c != CLIPViTL14() {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("VAE config", func(t *testing.T) {
		c, err := ParseVAEConfig([]byte(`{"_class_name":"AutoencoderKLHunyuanVideo","block_out_channels":[128,256,512,512],"scaling_factor":0.476986}`))
		if err != nil || !reflect.DeepEqual(c, HunyuanVAE()) {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestConfigsSurviveARoundTrip(t *testing.T) {
	q, err := json.Marshal(Qwen7B())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseQwenConfig(q); err != nil || !reflect.DeepEqual(got, Qwen7B()) {
		t.Errorf("Qwen: %+v, %v", got, err)
	}
	d, err := json.Marshal(LiteImageEditDiT())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseDiTConfig(d); err != nil || got != LiteImageEditDiT() {
		t.Errorf("transformer: %+v, %v", got, err)
	}
}

func TestConfigsRefuseImpossibleValues(t *testing.T) {
	dit := func(s string) error { _, err := ParseDiTConfig([]byte(s)); return err }
	vae := func(s string) error { _, err := ParseVAEConfig([]byte(s)); return err }
	qwen := func(s string) error { _, err := ParseQwenConfig([]byte(s)); return err }
	clip := func(s string) error { _, err := ParseCLIPConfig([]byte(s)); return err }
	base := `"in_visual_dim":16,"out_visual_dim":16,"time_dim":64,"model_dim":128,"ff_dim":256,"num_text_blocks":1,"num_visual_blocks":1,"axes_dims":[16,24,24]`
	if err := dit("{" + base + "}"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		parse      func(string) error
		text, want string
	}{
		{dit, `{`, "JSON"}, {dit, `{}`, "in_visual_dim"}, {dit, `{` + base + `,"model_dim":100}`, "multiple"},
		{dit, `{` + base + `,"ff_dim":-1}`, "ff_dim"}, {dit, `{` + base + `,"ff_dim":1e40}`, "ff_dim"}, {dit, `{` + base + `,"model_dim":"x"}`, "model_dim"},
		{dit, `{` + base + `,"axes_dims":[15,25,24]}`, "even"}, {dit, `{` + base + `,"num_visual_blocks":100000}`, "num_visual_blocks"},
		{dit, `{` + base + `,"instruct_type":"odd"}`, "instruct_type"}, {dit, `{` + base + `,"attention_P":2}`, "attention_P"},
		{vae, `{"block_out_channels":[16,32]}`, "block_out_channels"}, {vae, `{"norm_num_groups":0}`, "norm_num_groups"},
		{vae, `{"block_out_channels":[128,256,512,500]}`, "multiple"}, {vae, `{"scaling_factor":0}`, "scaling_factor"}, {vae, `[]`, "VAE"},
		{qwen, `{"num_attention_heads":0}`, "num_attention_heads"}, {qwen, `{"num_key_value_heads":3}`, "evenly"},
		{qwen, `{"rope_scaling":{"mrope_section":[1,2,3]}}`, "mrope_section"}, {qwen, `{"vision_config":{"num_heads":7}}`, "heads"},
		{qwen, `{"vision_config":{"out_hidden_size":9}}`, "out_hidden_size"}, {qwen, `{"vision_config":{"fullatt_block_indexes":[99]}}`, "fullatt"},
		{qwen, `{"hidden_size":4000000000}`, "hidden_size"}, {qwen, `{"text_config":5}`, "text_config"},
		{clip, `{"num_attention_heads":5}`, "heads"}, {clip, `{"layer_norm_eps":-1}`, "layer_norm_eps"}, {clip, `null x`, "JSON"}, {vae, `null`, "object"}, {clip, `{"text_config":[]}`, "object"},
	} {
		if err := c.parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line that says %q", c.text, err, c.want)
		}
	}
}

func FuzzParseConfigs(f *testing.F) {
	f.Add([]byte(`{"block_out_channels":[16,32,32,32],"norm_num_groups":8}`))
	f.Add([]byte(`{"text_config":{"hidden_size":128,"num_attention_heads":4,"num_key_value_heads":2},"vision_config":{"depth":4}}`))
	f.Add([]byte(`{"in_visual_dim":16,"out_visual_dim":16,"time_dim":64,"model_dim":128,"ff_dim":256,"num_text_blocks":1,"num_visual_blocks":1,"axes_dims":[16,24,24]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		positive := func(n int64) {
			if n <= 0 {
				t.Fatalf("a valid config has %d parameters", n)
			}
		}
		if c, err := ParseDiTConfig(data); err == nil {
			c.NumVisualBlocks, c.NumTextBlocks = 1, 1
			positive(DiTSpec(c).Parameters())
		}
		if c, err := ParseVAEConfig(data); err == nil {
			positive(VAESpec(c).Parameters())
		}
		if c, err := ParseQwenConfig(data); err == nil {
			c.Text.NumHiddenLayers, c.Vision.Depth = 1, 1
			positive(QwenSpec(c).Parameters())
		}
		if c, err := ParseCLIPConfig(data); err == nil {
			c.NumHiddenLayers = 1
			positive(CLIPSpec(c).Parameters())
		}
	})
}
