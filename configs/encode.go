package configs

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// YAML returns the configuration as the text of a file that Load reads again to the same values. The file's name
// chooses the pipeline, as always.
func (c *Config) YAML() ([]byte, error) {
	m := &c.Model
	top := pairs(
		"metrics", c.Metrics.yaml(),
		"model", pairs(
			"checkpoint_path", m.CheckpointPath, "num_steps", m.NumSteps, "guidance_weight", m.GuidanceWeight,
			"dit_params", m.DiT.yaml(), "attention", m.Attention.yaml(),
			"vae", pairs("name", m.VAE.Name, "checkpoint_path", m.VAE.CheckpointPath),
			"text_embedder", pairs(
				"qwen", m.Qwen.yaml("processor_path", m.DiT.InTextDim),
				"clip", m.CLIP.yaml("tokenizer_path", m.DiT.InTextDim2),
			),
		),
	)
	if m.KeepPrompt {
		add(top.Content[3], "expand_prompt", false)
	}
	if c.MagRatios != nil {
		add(top, "magcache", pairs("mag_ratios", c.MagRatios))
	}
	if c.BlockSwap != (BlockSwap{}) {
		swap := pairs("enabled", c.BlockSwap.Enabled)
		if c.BlockSwap.BlocksInMemory > 0 {
			add(swap, "blocks_in_memory", c.BlockSwap.BlocksInMemory)
		}
		add(top, "block_swap", swap)
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(top); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", c.Name, err)
	}
	return out.Bytes(), nil
}

func (m *Metrics) yaml() *yaml.Node {
	n := pairs("scale_factor", m.ScaleFactor[:], "resolution", m.Resolution)
	if m.SchedulerScale > 0 {
		add(n, "scheduler_scale", m.SchedulerScale)
	}
	if m.VideoDuration > 0 {
		add(n, "video_duration", m.VideoDuration)
	}
	return n
}

func (d *DiTParams) yaml() *yaml.Node {
	n := pairs(
		"in_visual_dim", d.InVisualDim, "out_visual_dim", d.OutVisualDim, "in_text_dim", d.InTextDim, "in_text_dim2", d.InTextDim2,
		"time_dim", d.TimeDim, "patch_size", d.PatchSize[:], "model_dim", d.ModelDim, "ff_dim", d.FFDim,
		"num_text_blocks", d.NumTextBlocks, "num_visual_blocks", d.NumVisualBlocks, "axes_dims", d.AxesDims[:], "visual_cond", d.VisualCond,
	)
	if d.AttentionEngine != "" {
		add(n, "attention_engine", d.AttentionEngine)
	}
	return n
}

func (a *Attention) yaml() *yaml.Node {
	if !a.Nabla {
		return pairs("type", "flash")
	}
	return pairs("type", "nabla", "P", a.P, "wT", a.WT, "wH", a.WH, "wW", a.WW)
}

func (t *TextEmbedder) yaml(tokenizerKey string, width int) *yaml.Node {
	n := pairs("emb_size", width, "checkpoint_path", t.CheckpointPath)
	if t.TokenizerPath != t.CheckpointPath {
		add(n, tokenizerKey, t.TokenizerPath)
	}
	add(n, "max_length", t.MaxLength)
	return n
}

// pairs makes a mapping of keys and values in turn, in this order.
func pairs(keysAndValues ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for k := 0; k < len(keysAndValues); k += 2 {
		add(n, keysAndValues[k].(string), keysAndValues[k+1])
	}
	return n
}

// add appends a key and a value, a list on one line.
func add(n *yaml.Node, key string, value any) {
	v, ok := value.(*yaml.Node)
	if !ok {
		v = &yaml.Node{}
		if err := v.Encode(value); err != nil { // plain numbers, strings and lists of numbers
			panic(fmt.Sprintf("configs: %s: %v", key, err))
		}
		if v.Kind == yaml.SequenceNode {
			v.Style = yaml.FlowStyle
		}
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, v)
}
