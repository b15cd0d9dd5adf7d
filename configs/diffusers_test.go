package configs

import (
	"errors"
	"strings"
	"testing"
)

const proJSON = `{
  "_class_name": "Kandinsky5Transformer3DModel",
  "_diffusers_version": "0.33.0.dev0",
  "in_visual_dim": 16,
  "out_visual_dim": 16,
  "time_dim": 1024,
  "patch_size": [1, 2, 2],
  "model_dim": 4096,
  "ff_dim": 16384,
  "num_text_blocks": 4,
  "num_visual_blocks": 60,
  "axes_dims": [32, 48, 48],
  "visual_cond": true,
  "in_text_dim": 3584,
  "in_text_dim2": 768,
  "attention_type": "nabla",
  "attention_chunk": false,
  "attention_causal": null,
  "attention_window": 3,
  "attention_method": "topcdf",
  "attention_P": 0.8,
  "attention_add_sta": true,
  "attention_wT": 11,
  "attention_wW": 3,
  "attention_wH": 3
}`

const proPath = "models/Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers/transformer/config.json"

func TestFromDiffusersAgreesWithTheYaml(t *testing.T) {
	c, err := FromDiffusers(proPath, []byte(proJSON))
	if err != nil {
		t.Fatal(err)
	}
	y := preset(t, "k5_pro_i2v_5s_sft_hd")
	if c.Model.DiT != y.Model.DiT || c.Model.Attention != y.Model.Attention || c.Pipeline != I2V || c.Model.NumSteps != y.Model.NumSteps {
		t.Errorf("got %+v", c)
	}
	if c.Dir != "models/Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers" || c.Model.Qwen.TokenizerPath != "tokenizer" {
		t.Errorf("got %+v", c)
	}
	full := strings.Replace(proJSON, `"nabla"`, `"regular"`, 1)
	if c, err := FromDiffusers(proPath, []byte(full)); err != nil || c.Model.Attention.Nabla {
		t.Errorf("regular attention: %+v, %v", c, err)
	}
	t2v := strings.Replace(proPath, "I2V", "T2V", 1)
	if c, err := FromDiffusers(t2v, []byte(proJSON)); err != nil || c.Pipeline != T2V {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFromDiffusersRefusesMistakesWithTheirLine(t *testing.T) {
	for _, tc := range []struct {
		name, old, new, key, msg string
		line                     int
	}{
		{"another model", "Kandinsky5Transformer3DModel", "WanTransformer3DModel", "", "_class_name", 2},
		{"an unknown key", `"ff_dim"`, `"ff_dims"`, "ff_dims", "did you mean ff_dim", 9},
		{"an unknown attention key", `"attention_window"`, `"attention_windows"`, "attention_windows", "did you mean attention_window?", 19},
		{"a repeated key", `"time_dim": 1024`, `"in_visual_dim": 16`, "in_visual_dim", "twice", 6},
		{"text for a number", "16384", `"16384"`, "ff_dim", "whole number", 9},
		{"P above one", "0.8", "1.8", "attention_P", "from 0 to 1", 21},
		{"heads that do not divide", "[32, 48, 48]", "[32, 48, 50]", "axes_dims", "does not divide", 12},
		{"a nested list", "[32, 48, 48]", "[[32], 48, 48]", "", "lists in lists", 12},
		{"a cut file", `"attention_wH": 3`, ``, "", "not valid json", 0},
		{"something behind", "3\n}", "3\n} 4", "", "follows", 26},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(proJSON, tc.old) {
				t.Fatalf("%q is not in the json", tc.old)
			}
			text := strings.Replace(proJSON, tc.old, tc.new, 1)
			if tc.name == "a cut file" {
				text = text[:len(text)-4]
			}
			_, err := FromDiffusers(proPath, []byte(text))
			var e *Error
			if !errors.As(err, &e) || e.Key != tc.key || !strings.Contains(e.Msg, tc.msg) || (tc.line > 0 && e.Line != tc.line) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestParseDiTParams(t *testing.T) {
	const text = `{"in_visual_dim": 16, "out_visual_dim": 16, "in_text_dim": 96, "in_text_dim2": 48, "time_dim": 64, "patch_size": [1, 2, 2], "model_dim": 128, "ff_dim": 256, "num_text_blocks": 2, "num_visual_blocks": 3, "axes_dims": [16, 24, 24], "visual_cond": true}`
	d, err := ParseDiTParams("case", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := DiTParams{16, 16, 96, 48, 64, [3]int{1, 2, 2}, 128, 256, 2, 3, [3]int{16, 24, 24}, true, ""}
	if d != want {
		t.Errorf("got %+v", d)
	}
	for _, bad := range []string{"", "[]", "{}", `{"in_visual_dim": 16}`, strings.Replace(text, "128", "100", 1), text + text, strings.Replace(text, "true", `"attention_P": 1`, 1)} {
		if d, err := ParseDiTParams("case", []byte(bad)); err == nil {
			t.Errorf("%q gave %+v", bad, d)
		}
	}
}

func FuzzFromDiffusers(f *testing.F) {
	f.Add([]byte(proJSON))
	f.Add([]byte(`{"a":[[[1]]]}`))
	f.Add([]byte(`{"model_dim": 1e400, "axes_dims": []}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := FromDiffusers(proPath, data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("error of several lines: %q", err)
			}
			return
		}
		if c.Model.DiT.Parameters() <= 0 || c.Model.DiT.Heads() < 1 {
			t.Fatalf("accepted %+v", c)
		}
	})
}
