package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/synth"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// synthOptions are the flags of synth.
type synthOptions struct {
	preset, config, output, dtype string
	seed                          uint64
	shard                         byteSize
	log                           logFlags
}

func synthCommand() *command {
	var o synthOptions
	cmd := &command{
		name: "synth", summary: "write a random-weight checkpoint in the published layout",
		about: "Writes a model of random weights in the layout of the published checkpoints, with small tokenizers, and the\n" +
			"configurations i2v.yaml and t2v.yaml to use it. --preset tiny and --preset demo are small enough for a software\n" +
			"driver; the name of a configuration gives its full size (43 GiB and more for the 20B model). Nothing here is trained:\n" +
			"the small trained model is inside the program and needs no files (vkandinsky generate --help).",
		examples: []string{
			"vkandinsky synth --preset demo --output random",
			"vkandinsky synth --preset k5_lite_i2v_5s_sft_sd --output /data/random-lite",
			"vkandinsky synth --config my_small_model_i2v.yaml --dtype f32 --seed 7 --output random",
		},
	}
	f := cmd.flags.group("What to write")
	f.StringVar(&o.preset, "preset", "", "tiny, demo, or the `NAME` of a configuration ("+strings.Join(configs.Presets(), ", ")+")")
	f.StringVar(&o.config, "config", "", "configuration `FILE` whose transformer is written, with the published encoders and VAE")
	f.StringVarP(&o.output, "output", "o", "", "new or empty `FOLDER`")
	f.StringVar(&o.dtype, "dtype", "bf16", "`TYPE` of every tensor: bf16, f16 or f32")
	f.Uint64Var(&o.seed, "seed", 0, "`NUMBER`; the same gives the same files")
	f.Var(&o.shard, "shard-size", "cut networks into files of at most this size, with an index")
	o.log.register(cmd.flags.group("Output"))
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c)
	}
	return cmd
}

func (o *synthOptions) run(ctx context.Context, c *console) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	m, err := o.model()
	if err != nil {
		return badInput(err)
	}
	log.Info("writing random weights", "to", o.output, "size", memory.Size(m.Bytes()))
	if !o.log.quiet {
		r, done := c.progress()
		defer done()
		r.Stage("write weights (MiB)", int(m.Bytes()>>20))
		m.Weights.Progress = func(done, _ int64) { r.Step(int(done >> 20)) }
	}
	if err := m.Write(ctx, o.output); err != nil {
		return err
	}
	for _, name := range synth.ConfigFiles() {
		fmt.Fprintln(c.out, filepath.Join(o.output, name))
	}
	return nil
}

// model checks the flags.
func (o *synthOptions) model() (m synth.Model, err error) {
	switch {
	case o.preset != "" && o.config != "":
		return m, fmt.Errorf("--preset and --config exclude each other")
	case o.preset == "" && o.config == "":
		return m, fmt.Errorf("say what to write: --preset tiny, --preset demo, --preset NAME or --config FILE")
	case o.output == "":
		return m, fmt.Errorf("say where to write: --output FOLDER")
	}
	if entries, err := os.ReadDir(o.output); err == nil && len(entries) > 0 {
		return m, fmt.Errorf("--output %s: the folder is not empty", o.output)
	} else if err != nil && !os.IsNotExist(err) {
		return m, fmt.Errorf("--output: %w", err)
	}
	if o.config != "" {
		config, err := configs.Load(o.config)
		if err != nil {
			return m, err
		}
		m = synth.FromConfig(config)
	} else if m, err = synth.Preset(o.preset); err != nil {
		return m, err
	}
	if m.Weights.DType, err = weights.ParseDType(strings.ToUpper(o.dtype)); err != nil || !m.Weights.DType.IsWeight() {
		return m, fmt.Errorf("--dtype %q: use bf16, f16 or f32", o.dtype)
	}
	m.Weights.Seed, m.Weights.MaxShardBytes = o.seed, int64(o.shard)
	return m, m.Weights.Validate()
}
