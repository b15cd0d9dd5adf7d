package lora

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// wide makes a tensor of one number of 64 bits without axes.
func wide(name string, d weights.DType, bits uint64) weights.Tensor {
	return weights.Tensor{Name: name, DType: d, Data: binary.LittleEndian.AppendUint64(nil, bits)}
}

// flag makes a tensor of a truth value.
func flag(name string, value byte) weights.Tensor {
	return weights.Tensor{Name: name, DType: weights.BOOL, Data: []byte{value}}
}

// programFile is a whole adapter of two modules as a training program writes it.
type programFile struct {
	a, b     string // of MODULE, which stands for the module's name, or FLAT for the same with underscores
	dtype    weights.DType
	alpha    func(name string) weights.Tensor // nil: the file has none
	more     []weights.Tensor
	metadata map[string]string
	beside   map[string]string // files
	want     float64           // scale
}

func (p programFile) name(pattern, module string) string {
	return strings.NewReplacer("MODULE", module, "FLAT", strings.ReplaceAll(module, ".", "_")).Replace(pattern)
}

const programRank = 4

func (p programFile) write(t *testing.T) string {
	t.Helper()
	r, tensors := source(), slices.Clone(p.more)
	for _, m := range []struct {
		name string
		out  int
	}{{query, 8}, {feed, 12}} {
		tensors = append(tensors, pair(r, p.name(p.a, m.name), p.name(p.b, m.name), p.dtype, programRank, m.out, 8)...)
		if p.alpha != nil {
			tensors = append(tensors, p.alpha(m.name))
		}
	}
	path := save(t, p.metadata, tensors...)
	for name, text := range p.beside {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func flatAlpha(d weights.DType, bits uint64) func(string) weights.Tensor {
	return func(module string) weights.Tensor {
		return wide("lora_unet_"+strings.ReplaceAll(module, ".", "_")+".alpha", d, bits)
	}
}

func f32Alpha(prefix string, value float32) func(string) weights.Tensor {
	return func(module string) weights.Tensor {
		return tensor(prefix+module+".alpha", weights.F32, []float32{value})
	}
}

// TestFilesOfTrainingProgramsAreRead writes files in the layouts of programs that train this model: their names, types and
// places of alpha are those of the programs' own code.
func TestFilesOfTrainingProgramsAreRead(t *testing.T) {
	const flatA, flatB = "lora_unet_FLAT.lora_down.weight", "lora_unet_FLAT.lora_up.weight"
	for name, p := range map[string]programFile{
		"kandinsky's own":                {a: "base_model.model.MODULE.lora_A.default.weight", b: "base_model.model.MODULE.lora_B.default.weight", beside: map[string]string{"config_lora.json": `{"r":4,"lora_alpha":8,"peft_type":"LORA","bias":"none","init_lora_weights":true}`}, want: 2},
		"peft":                           {a: "base_model.model.MODULE.lora_A.weight", b: "base_model.model.MODULE.lora_B.weight", dtype: weights.BF16, beside: map[string]string{"adapter_config.json": `{"r":4,"lora_alpha":2,"init_lora_weights":"gaussian"}`}, want: 0.5},
		"peft, patterns":                 {a: "base_model.model.MODULE.lora_A.weight", b: "base_model.model.MODULE.lora_B.weight", beside: map[string]string{"adapter_config.json": `{"r":64,"lora_alpha":1,"rank_pattern":{"to_query":4,"in_layer":4},"alpha_pattern":{"to_query":12,"in_layer":12}}`}, want: 3},
		"peft, another adapter's name":   {a: "base_model.model.MODULE.lora_A.style.weight", b: "base_model.model.MODULE.lora_B.style.weight", want: 1},
		"diffusers":                      {a: "transformer.MODULE.lora_A.weight", b: "transformer.MODULE.lora_B.weight", dtype: weights.F16, metadata: map[string]string{"format": "pt", "lora_adapter_metadata": `{"transformer.r":4,"transformer.lora_alpha":6,"transformer.init_lora_weights":true}`}, want: 1.5},
		"diffusers, without metadata":    {a: "transformer.MODULE.lora_A.weight", b: "transformer.MODULE.lora_B.weight", want: 1},
		"comfyui, from diffusers' names": {a: "diffusion_model.MODULE.lora_A.weight", b: "diffusion_model.MODULE.lora_B.weight", dtype: weights.BF16, want: 1},
		"comfyui, extracted":             {a: "diffusion_model.MODULE.lora_down.weight", b: "diffusion_model.MODULE.lora_up.weight", dtype: weights.F16, want: 1},
		"musubi-tuner": {a: flatA, b: flatB, dtype: weights.BF16, alpha: func(m string) weights.Tensor {
			return tensor("lora_unet_"+strings.ReplaceAll(m, ".", "_")+".alpha", weights.BF16, []float32{1})
		}, metadata: map[string]string{"ss_network_module": "networks.lora_kandinsky", "ss_network_alpha": "99"}, want: 0.25},
		"musubi-tuner, converted to it":   {a: flatA, b: flatB, alpha: flatAlpha(weights.I64, programRank), want: 1},
		"musubi-tuner, alpha as F64":      {a: flatA, b: flatB, alpha: flatAlpha(weights.F64, math.Float64bits(2)), want: 0.5},
		"a fork of it, with rsLoRA":       {a: flatA, b: flatB, alpha: flatAlpha(weights.F64, math.Float64bits(2)), more: []weights.Tensor{flag("use_rslora_flag", 1), flag("use_dora_flag", 0)}, want: 1},
		"a fork of it, without":           {a: flatA, b: flatB, alpha: flatAlpha(weights.F64, math.Float64bits(2)), more: []weights.Tensor{flag("use_rslora_flag", 0)}, want: 0.5},
		"onetrainer":                      {a: "lora_transformer_FLAT.lora_down.weight", b: "lora_transformer_FLAT.lora_up.weight", want: 1},
		"onetrainer, with dots":           {a: "transformer.MODULE.lora_down.weight", b: "transformer.MODULE.lora_up.weight", alpha: f32Alpha("transformer.", 8), want: 2},
		"lycoris' plain lora":             {a: "lycoris_FLAT.lora_down.weight", b: "lycoris_FLAT.lora_up.weight", dtype: weights.F16, want: 1},
		"diffsynth":                       {a: "pipe.dit.MODULE.lora_A.default.weight", b: "pipe.dit.MODULE.lora_B.default.weight", dtype: weights.BF16, want: 1},
		"a module that torch compiled":    {a: "base_model.model._orig_mod.MODULE.lora_A.weight", b: "base_model.model._orig_mod.MODULE.lora_B.weight", want: 1},
		"the whole model's names (comfy)": {a: "model.diffusion_model.MODULE.lora_A.weight", b: "model.diffusion_model.MODULE.lora_B.weight", want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if p.dtype == weights.Invalid {
				p.dtype = weights.F32
			}
			a := open(t, p.write(t))
			if len(a.changes) != 2 {
				t.Fatalf("%d matrices are changed, want 2", len(a.changes))
			}
			r := source()
			for _, module := range []string{query, feed} {
				c := a.changes[module+".weight"]
				if c.scale != p.want || c.rank() != programRank {
					t.Errorf("%s: scale %g and rank %d, want %g and %d", module, c.scale, c.rank(), p.want, programRank)
				}
				want := pair(r, "a", "b", p.dtype, programRank, c.up.Shape[0], 8)
				if !slices.Equal(c.down.Float32s(), want[0].Float32s()) || !slices.Equal(c.up.Float32s(), want[1].Float32s()) {
					t.Errorf("%s: the factors are not the file's", module)
				}
			}
		})
	}
}

// TestOtherKindsOfAdaptersAreNamed has tensors of adapters that are no plain LoRA, under the names of PEFT, LyCORIS and
// musubi-tuner; the error says the kind.
func TestOtherKindsOfAdaptersAreNamed(t *testing.T) {
	good := pair(source(), query+".lora_A.weight", query+".lora_B.weight", weights.F32, 2, 8, 8)
	flat := "lora_unet_" + strings.ReplaceAll(query, ".", "_")
	for key, kind := range map[string]string{
		"base_model.model." + query + ".lora_magnitude_vector":   "DoRA",
		"transformer." + query + ".lora_magnitude_vector.weight": "DoRA",
		flat + ".dora_scale":                                           "DoRA",
		flat + ".dora_layer.weight":                                    "DoRA",
		flat + ".lokr_w1":                                              "LoKr",
		"base_model.model." + query + ".lokr_w2_a":                     "LoKr",
		flat + ".hada_w1_a":                                            "LoHa",
		"base_model.model." + query + ".hada_w2_b.default":             "LoHa",
		"base_model.model." + query + ".oft_r":                         "OFT",
		flat + ".lora_mid.weight":                                      "core tensor",
		"diffusion_model." + query + ".diff":                           "whole weights",
		"diffusion_model." + query + ".diff_b":                         "whole weights",
		"base_model.model." + query + ".lora_B.bias":                   "biases",
		"base_model.model." + query + ".modules_to_save.weight":        "whole modules",
		"base_model.model." + query + ".vera_lambda_b":                 "VeRA",
		"base_model.model.base_model.model." + query + ".ia3_l.weight": "IA³",
	} {
		_, err := Open(save(t, nil, append(slices.Clone(good), tensor(key, weights.F32, make([]float32, 8), 8))...), smallSpec())
		if err == nil || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s gives %v, want %q", key, err, kind)
		}
	}
	if _, err := Open(save(t, nil, append(slices.Clone(good), flag("use_dora_flag", 1))...), smallSpec()); err == nil || !strings.Contains(err.Error(), "DoRA") {
		t.Errorf("a flag for DoRA gives %v", err)
	}
}
