package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func inspectCommand() *command {
	cmd := &command{
		name: "inspect", args: "DIR|FILE", summary: "say what a checkpoint holds, what is missing or has the wrong shape",
		about: "Looks at a model's folder, one network's folder or a single safetensors or GGUF file and compares its tensors with what the\n" +
			"network needs. Exit status 2 when something is missing or wrong.",
		examples: []string{
			"vkandinsky inspect Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers",
			"vkandinsky inspect --values weights/model/kandinsky5lite_i2v_5s.safetensors",
			"vkandinsky inspect --config k5_lite_i2v_5s_sft_sd weights",
		},
	}
	var asJSON bool
	var opt weights.InspectOptions
	var config string
	f := cmd.flags.group("What to look at")
	f.BoolVar(&opt.Values, "values", false, "also read every weight and look for NaN and infinities")
	f.StringVar(&config, "config", "", "also compare the transformer with this configuration (a `FILE` or a preset's name)")
	cmd.flags.group("Output").BoolVar(&asJSON, "json", false, "print JSON")
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if len(args) != 1 {
			return badInput(fmt.Errorf("inspect: name one folder or file, got %d", len(args)))
		}
		found, err := weights.InspectWith(ctx, args[0], opt)
		if err != nil {
			return badInput(err)
		}
		if config != "" {
			if err := compareConfig(&found, config); err != nil {
				return err
			}
		}
		if asJSON {
			err = c.printJSON(found)
		} else {
			err = printInspection(c.out, found)
		}
		if err != nil || found.OK() {
			return err
		}
		return badInput(errors.New(problemCount(found.Problems)))
	}
	return cmd
}

// problemCount names the first of some problems and counts the others.
func problemCount(problems []string) string {
	if len(problems) == 1 {
		return problems[0]
	}
	return fmt.Sprintf("%s (and %d more)", problems[0], len(problems)-1)
}

// compareConfig adds a problem when the transformer found is not the configuration's.
func compareConfig(found *weights.Inspection, name string) error {
	config, err := configs.Load(name)
	if err != nil {
		return badInput(err)
	}
	for _, part := range found.Components {
		have, ok := part.Config.(weights.DiTConfig)
		if part.Component != weights.DiT || !ok {
			continue
		}
		for _, d := range kandinsky5.DiTConfig(config).Differences(have) {
			found.Problems = append(found.Problems, fmt.Sprintf("%s: %s", part.Path, d))
		}
		return nil
	}
	return badInput(fmt.Errorf("%s holds no transformer to compare with configuration %s", found.Path, config.Name))
}

func printInspection(w io.Writer, i weights.Inspection) error {
	fmt.Fprintf(w, "%s: %s\n", i.Path, layoutText(i.Kind))
	var rows []string
	for _, c := range i.Components {
		rows = append(rows, fmt.Sprintf("  %s\t%s", c.Component, c.Path))
		if c.Tensors > 0 {
			rows = append(rows, fmt.Sprintf("  \t%d tensors, %s parameters, %s (%s) in %d files", c.Tensors, grouped(c.Parameters), memory.Size(c.Bytes), dtypeText(c.ByDType), len(c.Files)))
		}
		if n := len(c.Report.NF4); n > 0 {
			rows = append(rows, fmt.Sprintf("  \t%d matrices in 4 bits (bitsandbytes nf4)", n))
		}
		if c.ConfigFrom != "" {
			rows = append(rows, fmt.Sprintf("  \tconfiguration %s: %s", c.ConfigFrom, configText(c.Config)))
		}
		if len(c.Ignored) > 0 {
			rows = append(rows, fmt.Sprintf("  \t%d tensors not used here, such as %s", len(c.Ignored), c.Ignored[0]))
		}
		rows = append(rows, "  \t"+componentState(c))
	}
	for _, line := range []struct{ name, path string }{{"qwen tokenizer", i.QwenTokenizer}, {"clip tokenizer", i.CLIPTokenizer}, {"scheduler", i.Scheduler}} {
		if line.path != "" {
			rows = append(rows, fmt.Sprintf("  %s\t%s", line.name, line.path))
		}
	}
	if err := table(w, rows); err != nil {
		return err
	}
	for _, p := range i.Problems {
		fmt.Fprintln(w, "problem: "+oneLine(p))
	}
	if i.OK() {
		fmt.Fprintln(w, "nothing is missing or wrong")
	}
	return nil
}

func layoutText(k weights.LayoutKind) string {
	switch k {
	case weights.DiffusersLayout:
		return "a model in the Diffusers layout"
	case weights.UpstreamLayout:
		return "a model in the layout of the reference program"
	}
	return "one network"
}

func componentState(c weights.ComponentInspection) string {
	if c.Error != "" {
		return "NOT USABLE"
	}
	return "complete"
}

func dtypeText(by map[weights.DType]int64) string {
	var parts []string
	for t, n := range by {
		parts = append(parts, fmt.Sprintf("%s %s", t, memory.Size(n)))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// configText sums a network's configuration up.
func configText(config any) string {
	switch c := config.(type) {
	case weights.DiTConfig:
		attention := "full attention"
		if c.AttentionType == "nabla" {
			attention = "block-sparse attention"
		}
		return fmt.Sprintf("%d visual and %d text blocks of width %d, %d heads of %d, %s", c.NumVisualBlocks, c.NumTextBlocks, c.ModelDim, c.Heads(), c.HeadDim(), attention)
	case weights.VAEConfig:
		return fmt.Sprintf("%d latent channels, widths %v", c.LatentChannels, c.BlockOutChannels)
	case weights.QwenConfig:
		return fmt.Sprintf("%d layers of width %d, %d tokens", c.Text.NumHiddenLayers, c.Text.HiddenSize, c.Text.VocabSize)
	case weights.CLIPConfig:
		return fmt.Sprintf("%d layers of width %d, %d tokens", c.NumHiddenLayers, c.HiddenSize, c.VocabSize)
	}
	return fmt.Sprint(config)
}

// grouped writes a number with its thousands apart: 19,311,325,248.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for k := len(s) - 3; k > 0; k -= 3 {
		s = s[:k] + "," + s[k:]
	}
	return s
}
