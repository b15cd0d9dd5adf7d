package weights

import (
	"fmt"
	"os"
	"strconv"
)

// LoadDiTConfig reads the configuration beside a transformer, or infers it from the tensors when there is none.
// The second result is the file, or "inferred".
func LoadDiTConfig(p Part, c *Checkpoint) (DiTConfig, string, error) {
	return loadConfig(p, c, ParseDiTConfig, InferDiT)
}

// LoadVAEConfig is LoadDiTConfig for the autoencoder.
func LoadVAEConfig(p Part, c *Checkpoint) (VAEConfig, string, error) {
	return loadConfig(p, c, ParseVAEConfig, InferVAE)
}

// LoadQwenConfig is LoadDiTConfig for Qwen2.5-VL.
func LoadQwenConfig(p Part, c *Checkpoint) (QwenConfig, string, error) {
	return loadConfig(p, c, ParseQwenConfig, InferQwen)
}

// LoadCLIPConfig is LoadDiTConfig for CLIP.
func LoadCLIPConfig(p Part, c *Checkpoint) (CLIPConfig, string, error) {
	return loadConfig(p, c, ParseCLIPConfig, InferCLIP)
}

func loadConfig[T any](p Part, c *Checkpoint, parse func([]byte) (T, error), infer func(*Checkpoint) (T, error)) (T, string, error) {
	var zero T
	if p.Config == "" {
		cfg, err := infer(c)
		return cfg, "inferred", err
	}
	data, err := p.readConfig()
	if err != nil {
		return zero, p.Config, fmt.Errorf("weights: read config: %w", err)
	}
	cfg, err := parse(data)
	if err != nil {
		return zero, p.Config, fmt.Errorf("%s: %w", p.Config, err)
	}
	return cfg, p.Config, nil
}

// extents collects shapes for inference and remembers the first tensor that is absent or has too few axes.
type extents struct {
	c   *Checkpoint
	err error
}

// at is the extent of one axis of a tensor, 0 when that cannot be had.
func (x *extents) at(name string, axis int) int {
	t, ok := x.c.Tensor(name)
	if !ok || len(t.Shape) <= axis {
		if x.err == nil {
			x.err = fmt.Errorf("weights: %s: cannot infer the configuration without tensor %q (is this the right checkpoint? a config.json beside it would help)",
				x.c.Path(), name)
		}
		return 0
	}
	if q, quantized, err := x.c.NF4(name); quantized {
		return q.Shape()[min(axis, 1)]
	} else if err != nil && x.err == nil {
		x.err = err
	}
	return t.Shape[axis]
}

// count is how many consecutive numbers, from 0, give the name of a tensor.
func (x *extents) count(format string) int {
	n := 0
	for {
		if _, ok := x.c.Tensor(fmt.Sprintf(format, n)); !ok {
			return n
		}
		n++
	}
}

// InferDiT works out a transformer's configuration from its shapes. The patch is taken as (1, 2, 2), and the rotary
// axes as published for head widths 64 and 128 and in the same proportion (1/4, 3/8, 3/8) for others.
func InferDiT(c *Checkpoint) (DiTConfig, error) {
	x := extents{c: c}
	cfg := DiTConfig{PatchSize: [3]int{1, 2, 2}}
	cfg.ModelDim, cfg.InTextDim = x.at("text_embeddings.in_layer.weight", 0), x.at("text_embeddings.in_layer.weight", 1)
	cfg.TimeDim, cfg.InTextDim2 = x.at("pooled_text_embeddings.in_layer.weight", 0), x.at("pooled_text_embeddings.in_layer.weight", 1)
	cfg.FFDim = x.at("visual_transformer_blocks.0.feed_forward.in_layer.weight", 0)
	cfg.OutVisualDim = x.at("out_layer.out_layer.weight", 0) / 4
	channels := x.at("visual_embeddings.in_layer.weight", 1) / 4
	cfg.NumTextBlocks = x.count("text_transformer_blocks.%d.feed_forward.in_layer.weight")
	cfg.NumVisualBlocks = x.count("visual_transformer_blocks.%d.feed_forward.in_layer.weight")
	head := x.at("visual_transformer_blocks.0.self_attention.query_norm.weight", 0)
	if x.err != nil {
		return cfg, x.err
	}
	cfg.AxesDims = [3]int{head / 4, head * 3 / 8, head * 3 / 8}
	cfg.InVisualDim = channels
	if channels == 2*cfg.OutVisualDim+1 {
		cfg.InVisualDim, cfg.VisualCond = cfg.OutVisualDim, true
	}
	return cfg, cfg.Validate()
}

// InferVAE works out the autoencoder's configuration from the shapes of its decoder. The number of groups of the norms leaves
// no trace in them: it is taken as published, 32, which must divide every level. Nor does the scaling factor, unless a GGUF
// file names it.
func InferVAE(c *Checkpoint) (VAEConfig, error) {
	x := extents{c: c}
	cfg := HunyuanVAE()
	const block = "decoder.up_blocks.%d.resnets.0.conv1.conv.weight"
	cfg.OutChannels = x.at("decoder.conv_out.conv.weight", 0)
	cfg.InChannels = cfg.OutChannels
	if !c.DecoderOnly() {
		cfg.InChannels = x.at("encoder.conv_in.conv.weight", 1)
	}
	cfg.LatentChannels = x.at("post_quant_conv.weight", 0)
	cfg.LayersPerBlock = x.count("decoder.up_blocks.0.resnets.%d.conv1.conv.weight") - 1
	levels := x.count(block)
	cfg.BlockOutChannels = nil
	for b := range levels {
		cfg.BlockOutChannels = append(cfg.BlockOutChannels, x.at(fmt.Sprintf(block, levels-1-b), 0))
	}
	if x.err != nil {
		return cfg, x.err
	}
	for _, f := range c.files {
		if v, err := strconv.ParseFloat(f.metadata[vae3dScaling], 64); err == nil {
			cfg.ScalingFactor = v
		}
	}
	return cfg, cfg.Validate()
}

// InferQwen works out Qwen2.5-VL's configuration from its shapes, with the published values for what leaves no trace
// in them: heads of 128 channels (80 in the vision tower), windows, rotary sections and token ids.
func InferQwen(c *Checkpoint) (QwenConfig, error) {
	x := extents{c: c}
	cfg := Qwen7B()
	t, v := &cfg.Text, &cfg.Vision
	t.VocabSize, t.HiddenSize = x.at("model.embed_tokens.weight", 0), x.at("model.embed_tokens.weight", 1)
	t.IntermediateSize = x.at("model.layers.0.mlp.gate_proj.weight", 0)
	t.NumHiddenLayers = x.count("model.layers.%d.input_layernorm.weight")
	t.NumAttentionHeads = t.HiddenSize / 128
	t.NumKeyValueHeads = x.at("model.layers.0.self_attn.k_proj.weight", 0) / 128
	_, hasHead := c.Tensor("lm_head.weight")
	cfg.TieWordEmbeddings = !hasHead
	if _, sees := c.Tensor("visual.patch_embed.proj.weight"); sees {
		v.HiddenSize, v.IntermediateSize = x.at("visual.patch_embed.proj.weight", 0), x.at("visual.blocks.0.mlp.gate_proj.weight", 0)
		v.Depth = x.count("visual.blocks.%d.norm1.weight")
		v.NumHeads = v.HiddenSize / 80
		v.OutHiddenSize = x.at("visual.merger.mlp.2.weight", 0)
	} else { // a text decoder alone, as in GGUF files
		v.OutHiddenSize = t.HiddenSize
	}
	if x.err != nil {
		return cfg, x.err
	}
	return cfg, cfg.Validate()
}

// InferCLIP works out the text tower's configuration from its shapes, with heads of 64 channels as published.
func InferCLIP(c *Checkpoint) (CLIPConfig, error) {
	x := extents{c: c}
	cfg := CLIPViTL14()
	const layer = "text_model.encoder.layers.%d.mlp.fc1.weight"
	cfg.VocabSize = x.at("text_model.embeddings.token_embedding.weight", 0)
	cfg.HiddenSize = x.at("text_model.embeddings.token_embedding.weight", 1)
	cfg.MaxPositionEmbeddings = x.at("text_model.embeddings.position_embedding.weight", 0)
	cfg.IntermediateSize = x.at(fmt.Sprintf(layer, 0), 0)
	cfg.NumHiddenLayers = x.count(layer)
	cfg.NumAttentionHeads = cfg.HiddenSize / 64
	if x.err != nil {
		return cfg, x.err
	}
	return cfg, cfg.Validate()
}

// guessComponent recognises a network by a tensor that only it has, after name mapping.
func guessComponent(path string) (Component, error) {
	marks := map[Component]string{
		DiT: "visual_embeddings.in_layer.weight", VAE: "post_quant_conv.weight",
		Qwen: "model.embed_tokens.weight", CLIP: "text_model.embeddings.token_embedding.weight",
	}
	for _, c := range Components() {
		ckpt, err := OpenComponent(path, c)
		if err != nil {
			return "", err
		}
		_, ok := ckpt.Tensor(marks[c])
		if err := ckpt.Close(); err != nil {
			return "", err
		}
		if ok {
			return c, nil
		}
	}
	return "", fmt.Errorf("weights: %s: none of the networks of this pipeline: no tensor called %q, %q, %q or %q: %w",
		path, marks[DiT], marks[VAE], marks[Qwen], marks[CLIP], os.ErrInvalid)
}
