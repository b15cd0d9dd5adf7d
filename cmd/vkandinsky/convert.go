package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/convert"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func convertCommand() *command {
	cmd := &command{
		name: "convert", args: "IN OUT", summary: "write a network's checkpoint in another type: bf16, int8, fp8, GGUF, ...",
		about: "Writes the transformer of IN (a file, a network's folder or a model's folder) as the one file OUT, whose name ends in\n" +
			".safetensors (bf16, f16, f32, int8, fp8) or .gguf (bf16, f16, f32, q8_0, q5_1, q5_0, q4_1, q4_0). All these files are\n" +
			"read by every command. OUT appears when it is complete. Says how far the new values are from the old ones: rms is the\n" +
			"root mean square of the differences relative to that of the values, max the largest difference relative to the largest\n" +
			"value of its tensor. The SHA-256 is that of the whole file.",
		examples: []string{
			"vkandinsky convert weights/model/kandinsky5pro_i2v_sft_5s.safetensors pro_int8.safetensors --type int8",
			"vkandinsky convert Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers pro.gguf --type q8_0",
			"vkandinsky convert --component qwen weights/text_encoder qwen_fp8.safetensors --type fp8 --json",
		},
	}
	var o convertOptions
	f := cmd.flags.group("What to write")
	f.StringVar(&o.typeName, "type", "", "`TYPE` of the matrices: bf16, f16, f32, int8, fp8, q8_0, q5_1, q5_0, q4_1 or q4_0")
	f.StringVar(&o.component, "component", "", "`NETWORK` of a whole model: dit, vae, qwen or clip (default dit)")
	f.BoolVar(&o.Overwrite, "overwrite", false, "replace OUT if it exists")
	f.BoolVar(&o.Resume, "resume", false, "when interrupted, leave OUT.partial to go on from; go on from one that is there")
	g := cmd.flags.group("Output")
	g.BoolVar(&o.asJSON, "json", false, "print JSON")
	o.log.register(g)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := o.check(args); err != nil {
			return badInput(err)
		}
		if _, err := o.log.logger(c); err != nil {
			return err
		}
		report, err := runConvert(ctx, c, o.Options, o.log.quiet)
		switch {
		case errors.Is(err, convert.ErrInput):
			return badInput(err)
		case err != nil:
			return err
		case o.asJSON:
			return c.printJSON(report)
		}
		return printConverted(c.out, report)
	}
	return cmd
}

// convertOptions are the flags of convert.
type convertOptions struct {
	convert.Options
	typeName, component string
	asJSON              bool
	log                 logFlags
}

// check reads the names and what the flags say.
func (o *convertOptions) check(args []string) (err error) {
	if len(args) != 2 {
		return fmt.Errorf("convert: name the old and the new file, got %d names", len(args))
	}
	o.In, o.Out, o.Component = args[0], args[1], weights.Component(o.component)
	if o.component != "" && !slices.Contains(weights.Components(), o.Component) {
		return fmt.Errorf("--component %q: use dit, vae, qwen or clip", o.component)
	}
	if o.typeName == "" {
		return fmt.Errorf("say what to write: --type int8, for example")
	}
	if o.Type, err = convert.ParseType(o.typeName); err != nil {
		return fmt.Errorf("--type: %w", err)
	}
	return nil
}

// runConvert converts, with a line of progress.
func runConvert(ctx context.Context, c *console, o convert.Options, quiet bool) (convert.Report, error) {
	if !quiet {
		r, done := c.progress()
		defer done()
		begun := false
		o.Progress = func(done, total int64) {
			if !begun {
				r.Stage("write weights (MiB)", int(total>>20))
				begun = true
			}
			r.Step(int(done >> 20))
		}
	}
	return convert.Run(ctx, o)
}

func printConverted(w io.Writer, r convert.Report) error {
	rows := []string{
		fmt.Sprintf("%s\t%s, %s, %d tensors, %s parameters", r.Out, r.Component, r.Type, r.Tensors, grouped(r.Parameters)),
		fmt.Sprintf("size\t%s, from %s", memory.Size(r.Bytes), memory.Size(r.BytesIn)),
		fmt.Sprintf("error\trms %s, max %s", share(r.Error.RMS), share(r.Error.Max)),
	}
	if r.Resumed > 0 {
		rows = append(rows, fmt.Sprintf("resumed\tafter %s", memory.Size(r.Resumed)))
	}
	if r.Worst != "" {
		rows = append(rows, fmt.Sprintf("worst tensor\trms %s, max %s: %s", share(r.WorstError.RMS), share(r.WorstError.Max), r.Worst))
	}
	if text := r.LeftOutText(); text != "" {
		rows = append(rows, fmt.Sprintf("left out\t%s", text))
	}
	rows = append(rows, fmt.Sprintf("time\t%.1f s", r.Seconds), "sha256\t"+r.SHA256)
	return table(w, rows)
}

// share writes a fraction as a percentage with three digits; what did not change is exact.
func share(f float64) string {
	if f == 0 {
		return "0 (exact)"
	}
	return fmt.Sprintf("%.3g %%", 100*f)
}
