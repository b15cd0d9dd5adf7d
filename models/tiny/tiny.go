// Package tiny is a trained model inside the program: a Kandinsky 5.0 of 5.7 million parameters in the published layout
// that makes clips of one coloured shape that moves as the prompt says. It lets the program show what it does without a
// download, and tests check videos instead of noise.
//
// The weights are read from the program's own memory, so nothing is unpacked and no folder must be writable. How the
// model was trained and what it knows: docs/tiny-model.md.
package tiny

import (
	"embed"
	"fmt"
	"io/fs"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

//go:embed checkpoint red-circle.png
var files embed.FS

// Names of what is inside the program.
const (
	ConfigName  = "tiny_i2v"       // of the built-in configuration
	PictureName = "red-circle.png" // of the first frame that comes with it
)

// Config returns the model's configuration.
func Config() (*configs.Config, error) { return configs.Preset(ConfigName) }

// Checkpoint opens the model inside the program.
func Checkpoint() (*kandinsky5.Checkpoint, error) {
	config, err := Config()
	if err != nil {
		return nil, err
	}
	model, err := fs.Sub(files, "checkpoint")
	if err != nil {
		return nil, err
	}
	return kandinsky5.CheckpointIn(config, model)
}

// Picture returns the first frame that comes with the model: a red circle on the left of a plain background.
func Picture() (*kandinsky5.Image, error) {
	data, err := files.ReadFile(PictureName)
	if err != nil {
		return nil, err
	}
	return media.DecodeImage(PictureName, data)
}

// Networks returns the shapes of the model's networks.
func Networks() (weights.SynthOptions, error) {
	var o weights.SynthOptions
	c, err := Checkpoint()
	if err != nil {
		return o, err
	}
	o.DiT = kandinsky5.DiTConfig(c.Config).DiTConfig
	for _, part := range []struct {
		name  string
		parse func(data []byte) error
	}{
		{"vae", func(data []byte) (err error) { o.VAE, err = weights.ParseVAEConfig(data); return }},
		{"text_encoder", func(data []byte) (err error) { o.Qwen, err = weights.ParseQwenConfig(data); return }},
		{"text_encoder_2", func(data []byte) (err error) { o.CLIP, err = weights.ParseCLIPConfig(data); return }},
	} {
		data, err := files.ReadFile("checkpoint/" + part.name + "/config.json")
		if err == nil {
			err = part.parse(data)
		}
		if err != nil {
			return o, fmt.Errorf("built-in model: %w", err)
		}
	}
	return o, nil
}
