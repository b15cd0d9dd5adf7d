package kandinsky5

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Checkpoint is where the parts of a model lie, and its configuration. It holds no file open.
type Checkpoint struct {
	Config *configs.Config
	Layout weights.Layout

	madeUp *weights.SynthOptions // the networks, where their tensors are made up while they are read
}

// MadeUp returns a model of these networks without files: its tensors are made up while they are read (load.Synthetic), and
// its tokenizers know bytes. For measuring a whole run where no checkpoint is. It expands no prompts.
func MadeUp(config *configs.Config, networks weights.SynthOptions) (*Checkpoint, error) {
	layout, err := weights.SynthLayout(networks)
	if err != nil {
		return nil, err
	}
	return &Checkpoint{Config: config, Layout: layout, madeUp: &networks}, nil
}

// OpenCheckpoint finds the networks that a configuration names: the transformer's file or folder and the folders of the
// VAE and of the text encoders. Relative paths are looked for in the working directory, beside the configuration file
// and in dir, which may be empty. Where dir is a whole model in the Diffusers layout, its parts are taken instead. An
// error lists what is missing.
func OpenCheckpoint(config *configs.Config, dir string) (*Checkpoint, error) {
	if dir != "" {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("checkpoint folder: %w", err)
		}
		if layout, err := weights.FindLayout(dir); err == nil && layout.Kind == weights.DiffusersLayout {
			return newCheckpoint(config, layout)
		}
	}
	var missing []error
	locate := func(path string) string {
		found, err := config.Locate(path, dir)
		if err != nil {
			missing = append(missing, err)
		}
		return found
	}
	m := config.Model
	paths := weights.Paths{DiT: locate(m.CheckpointPath), VAE: locate(m.VAE.CheckpointPath), Qwen: locate(m.Qwen.CheckpointPath), CLIP: locate(m.CLIP.CheckpointPath)}
	if m.Qwen.TokenizerPath != "" {
		paths.QwenTokenizer = locate(m.Qwen.TokenizerPath)
	}
	if m.CLIP.TokenizerPath != "" {
		paths.CLIPTokenizer = locate(m.CLIP.TokenizerPath)
	}
	if n := len(missing); n > 1 {
		return nil, fmt.Errorf("%w (and %d more parts of the model)", missing[0], n-1)
	} else if n == 1 {
		return nil, missing[0]
	}
	layout, err := weights.LayoutOf(paths)
	if err != nil {
		return nil, err
	}
	return newCheckpoint(config, layout)
}

// OpenDiffusers opens a folder in the Diffusers layout by itself; the configuration comes from its
// transformer/config.json.
func OpenDiffusers(dir string) (*Checkpoint, error) {
	layout, err := weights.FindLayout(dir)
	if err != nil {
		return nil, err
	}
	if layout.Kind != weights.DiffusersLayout {
		return nil, fmt.Errorf("%s is no folder in the Diffusers layout (model_index.json, transformer/, …): name a configuration with --config", dir)
	}
	file := filepath.Join(dir, "transformer", "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config, err := configs.FromDiffusers(file, data)
	if err != nil {
		return nil, err
	}
	return newCheckpoint(config, layout)
}

// CheckpointIn opens a model in the Diffusers layout that lies in a file system and not on disk, such as files embedded
// in the program; see weights.LayoutIn.
func CheckpointIn(config *configs.Config, files fs.FS) (*Checkpoint, error) {
	layout, err := weights.LayoutIn(files)
	if err != nil {
		return nil, err
	}
	return newCheckpoint(config, layout)
}

func newCheckpoint(config *configs.Config, layout weights.Layout) (*Checkpoint, error) {
	if err := layout.Require(weights.DiT, weights.VAE, weights.Qwen, weights.CLIP); err != nil {
		return nil, err
	}
	return &Checkpoint{Config: config, Layout: layout}, nil
}

// open opens a network's tensors and checks them against what its configuration needs.
func (c *Checkpoint) open(part weights.Component, spec weights.Spec) (*weights.Checkpoint, error) {
	ckpt, err := c.Layout.Part(part).Open(part)
	if err != nil {
		return nil, err
	}
	if err := weights.Check(ckpt, spec).Err(); err != nil {
		return nil, oneline.Join(err, ckpt.Close())
	}
	return ckpt, nil
}

// ditConfig is the transformer's shape as the configuration gives it.
func (c *Checkpoint) ditConfig() dit.Config { return DiTConfig(c.Config) }

// DiTConfig turns a configuration's description of the transformer into the network's own.
func DiTConfig(config *configs.Config) dit.Config {
	p, a := config.Model.DiT, config.Model.Attention
	out := dit.Config{DiTConfig: weights.DiTConfig{
		InVisualDim: p.InVisualDim, OutVisualDim: p.OutVisualDim, InTextDim: p.InTextDim, InTextDim2: p.InTextDim2, TimeDim: p.TimeDim,
		PatchSize: p.PatchSize, ModelDim: p.ModelDim, FFDim: p.FFDim, NumTextBlocks: p.NumTextBlocks, NumVisualBlocks: p.NumVisualBlocks,
		AxesDims: p.AxesDims, VisualCond: p.VisualCond,
	}}
	if a.Nabla {
		out.Nabla = &dit.Nabla{P: float32(a.P), Window: [3]int{a.WT, a.WH, a.WW}}
	}
	return out
}

// RopeScale returns the divisors of the visual rotary angles.
func RopeScale(config *configs.Config) [3]float32 {
	var out [3]float32
	for k, s := range config.Metrics.ScaleFactor {
		out[k] = float32(s)
	}
	return out
}
