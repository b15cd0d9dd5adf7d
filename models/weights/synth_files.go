package weights

// ditFile is transformer/config.json with the keys Diffusers adds, and one that says not to write prompts out: a random
// model writes noise.
func ditFile(c DiTConfig) any {
	return struct {
		Class string `json:"_class_name"`
		DiTConfig
		ExpandPrompt bool `json:"expand_prompt"`
	}{"Kandinsky5Transformer3DModel", c, false}
}

// vaeFile is vae/config.json with the keys that Diffusers needs to build the network.
func vaeFile(c VAEConfig) any {
	repeat := func(name string) (out []string) {
		for range c.BlockOutChannels {
			out = append(out, name)
		}
		return out
	}
	return struct {
		Class string `json:"_class_name"`
		VAEConfig
		Act          string   `json:"act_fn"`
		Down         []string `json:"down_block_types"`
		Up           []string `json:"up_block_types"`
		MidAttention bool     `json:"mid_block_add_attention"`
	}{"AutoencoderKLHunyuanVideo", c, "silu", repeat("HunyuanVideoDownBlock3D"), repeat("HunyuanVideoUpBlock3D"), true}
}

func clipFile(c CLIPConfig) any {
	return struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
		Act           string   `json:"hidden_act"`
		CLIPConfig
	}{[]string{"CLIPTextModel"}, "clip_text_model", "quick_gelu", c}
}

// synthFiles are the small files of a Diffusers folder that belong to no network.
func synthFiles(o SynthOptions) []jsonFile {
	pipeline := "Kandinsky5T2VPipeline"
	if o.DiT.VisualCond {
		pipeline = "Kandinsky5I2VPipeline"
	}
	v := o.Qwen.Vision
	return []jsonFile{
		{"model_index.json", map[string]any{
			"_class_name":    pipeline,
			"transformer":    [2]string{"diffusers", "Kandinsky5Transformer3DModel"},
			"vae":            [2]string{"diffusers", "AutoencoderKLHunyuanVideo"},
			"scheduler":      [2]string{"diffusers", "FlowMatchEulerDiscreteScheduler"},
			"text_encoder":   [2]string{"transformers", "Qwen2_5_VLForConditionalGeneration"},
			"text_encoder_2": [2]string{"transformers", "CLIPTextModel"},
			"tokenizer":      [2]string{"transformers", "Qwen2VLProcessor"},
			"tokenizer_2":    [2]string{"transformers", "CLIPTokenizer"},
		}},
		{"scheduler/scheduler_config.json", map[string]any{
			"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 5.0,
		}},
		{"text_encoder/generation_config.json", map[string]any{
			"do_sample": true, "temperature": 1e-6, "repetition_penalty": 1.05,
			"bos_token_id": o.Qwen.BOSTokenID, "pad_token_id": o.Qwen.BOSTokenID, "eos_token_id": []int{o.Qwen.EOSTokenID, o.Qwen.BOSTokenID},
		}},
		{"tokenizer/preprocessor_config.json", map[string]any{
			"min_pixels": 3136, "max_pixels": 12845056, "patch_size": v.PatchSize, "temporal_patch_size": v.TemporalPatchSize,
			"merge_size": v.SpatialMergeSize, "image_mean": []float64{0.48145466, 0.4578275, 0.40821073},
			"image_std":            []float64{0.26862954, 0.26130258, 0.27577711},
			"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
		}},
	}
}
