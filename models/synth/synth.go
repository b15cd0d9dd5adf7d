// Package synth writes random-weight models with the configurations to use them: small ones for demonstrations and
// tests, and any published configuration in full size.
//
// The networks are written by package weights; this package knows which sizes belong together and what a configuration
// beside them says. Nothing it makes was trained: the videos are noise that moves.
package synth

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/tiny"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Model is a model to be written.
type Model struct {
	Weights weights.SynthOptions
	Config  *configs.Config // its checkpoint paths are replaced by those of the layout that is written
}

// Small presets, besides the names of the configurations.
const (
	Tiny = "tiny" // as small as every part of the real model allows
	Demo = "demo" // makes a clip in a minute or two on a software driver, with enough blocks to swap
)

// Presets lists what Preset knows.
func Presets() []string { return append([]string{Tiny, Demo}, configs.Presets()...) }

// Preset returns a model by name: Tiny, Demo, or the name of an embedded configuration, whose networks then have the
// published sizes, and those of the model inside the program for its own (tiny.ConfigName).
func Preset(name string) (Model, error) {
	switch name {
	case Tiny:
		return small(name, weights.SmallSynth(), 4), nil
	case Demo:
		o := weights.SmallSynth()
		o.DiT.FFDim, o.DiT.NumVisualBlocks = 384, 8
		o.VAE.BlockOutChannels, o.VAE.NormNumGroups = []int{8, 16, 16, 16}, 4
		return small(name, o, 10), nil
	}
	config, err := configs.Preset(name)
	if err != nil {
		return Model{}, fmt.Errorf("no model named %q to synthesise (models: %s)", name, strings.Join(Presets(), ", "))
	}
	return Networks(config)
}

// Networks returns the model that a configuration describes, with the encoders and VAE that belong to it: the published ones, or
// those of the model inside the program for its own configuration.
func Networks(config *configs.Config) (Model, error) {
	if config.Name != tiny.ConfigName {
		return FromConfig(config), nil
	}
	networks, err := tiny.Networks()
	networks.DiT = kandinsky5.DiTConfig(config).DiTConfig // which may have been given fewer blocks
	return Model{Weights: networks, Config: config}, err
}

// FromConfig returns the model that a configuration describes: its transformer with the published text encoders and
// VAE.
func FromConfig(config *configs.Config) Model {
	return Model{
		Weights: weights.SynthOptions{
			DiT: kandinsky5.DiTConfig(config).DiTConfig, VAE: weights.HunyuanVAE(), Qwen: weights.Qwen7B(), CLIP: weights.CLIPViTL14(),
		},
		Config: config,
	}
}

// MadeUp returns the model without files, for measuring: see kandinsky5.MadeUp.
func (m Model) MadeUp() (*kandinsky5.Checkpoint, error) {
	return kandinsky5.MadeUp(m.Config, m.Weights)
}

// small makes a configuration for small networks: few steps, and two of the visual blocks on the device at a time.
func small(name string, o weights.SynthOptions, steps int) Model {
	d := o.DiT
	c := &configs.Config{Name: name, Metrics: configs.Metrics{Resolution: 512, ScaleFactor: [3]float64{1, 2, 2}}}
	c.Model = configs.Model{
		NumSteps: steps, GuidanceWeight: 5, KeepPrompt: true,
		DiT: configs.DiTParams{
			InVisualDim: d.InVisualDim, OutVisualDim: d.OutVisualDim, InTextDim: d.InTextDim, InTextDim2: d.InTextDim2, TimeDim: d.TimeDim,
			PatchSize: d.PatchSize, ModelDim: d.ModelDim, FFDim: d.FFDim, NumTextBlocks: d.NumTextBlocks, NumVisualBlocks: d.NumVisualBlocks,
			AxesDims: d.AxesDims, VisualCond: d.VisualCond,
		},
		VAE: configs.VAE{Name: "hunyuan"}, Qwen: configs.TextEmbedder{MaxLength: 256}, CLIP: configs.TextEmbedder{MaxLength: 77},
	}
	// A random model has no measured ratios; ones make MagCache skip as often as its rules allow.
	for range 2 * (steps - 1) {
		c.MagRatios = append(c.MagRatios, 1)
	}
	c.BlockSwap = configs.BlockSwap{Enabled: true, BlocksInMemory: 2}
	return Model{Weights: o, Config: c}
}

// ConfigFiles are the names of the configurations that Write leaves in the folder, one per pipeline: the same networks
// serve both.
func ConfigFiles() []string { return []string{"i2v.yaml", "t2v.yaml"} }

// Write writes the model to dir, which must not exist or be empty, in the Diffusers layout, and its configurations
// beside the networks. dir appears when the networks are whole.
func (m Model) Write(ctx context.Context, dir string) error {
	if err := weights.Synth(ctx, dir, m.Weights); err != nil {
		return err
	}
	text, err := m.published().YAML()
	if err != nil {
		return err
	}
	for _, name := range ConfigFiles() {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
	}
	return nil
}

// published returns the configuration with the paths of the Diffusers layout.
func (m Model) published() *configs.Config {
	c := *m.Config
	c.Model.CheckpointPath = "transformer/diffusion_pytorch_model.safetensors"
	c.Model.VAE.CheckpointPath = "vae"
	c.Model.Qwen.CheckpointPath, c.Model.Qwen.TokenizerPath = "text_encoder", "tokenizer"
	c.Model.CLIP.CheckpointPath, c.Model.CLIP.TokenizerPath = "text_encoder_2", "tokenizer_2"
	return &c
}

// Bytes returns how many bytes of weights Write writes.
func (m Model) Bytes() int64 {
	dtype := m.Weights.DType
	if dtype == weights.Invalid {
		dtype = weights.BF16
	}
	total := weights.DiTSpec(m.Weights.DiT).Parameters() + weights.VAESpec(m.Weights.VAE).Parameters() +
		weights.QwenSpec(m.Weights.Qwen).Parameters() + weights.CLIPSpec(m.Weights.CLIP).Parameters()
	return total * int64(dtype.Size())
}
