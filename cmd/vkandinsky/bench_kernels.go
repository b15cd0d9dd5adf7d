package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/models/bench"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// kernelOptions are the flags of bench matmul, attention and conv.
type kernelOptions struct {
	attention attentionFlag
	model     modelFlags
	size      sizeFlags
	shapes    []string
	least     leastFlag
	device    deviceFlags
	log       logFlags
	json      bool
}

// defaultBenchConfig is the model whose shapes are measured when none is named.
const defaultBenchConfig = "config_5s_i2v_pro_20b"

// kernelCommand makes a command that measures one kind of kernel: of the shapes given, or of a model's.
func kernelCommand(name, summary, about, shape string, examples []string, measure func(ctx context.Context, d *engine.Device, o *kernelOptions, k bench.KernelOptions) (*bench.KernelReport, error), check func(o *kernelOptions) error) *command {
	cmd := &command{name: name, summary: summary, examples: examples,
		about: about + "\nEvery rate stands beside the ceiling of the unit that computes it: a loop of the same products in registers alone."}
	var o kernelOptions
	f := cmd.flags.group("Work")
	f.StringArrayVar(&o.shapes, "shape", nil, "measure `"+shape+"` instead of the model's shapes; may be given several times")
	f.StringVar(&o.model.configName, "config", defaultBenchConfig, "take the shapes of this configuration: a yaml `FILE` or the name of a built-in one")
	o.size.register(f)
	f.StringVar(&o.model.precisionName, "precision", "mixed", "`HOW` exactly to compute: mixed (16-bit operands, fp32 sums) or f32")
	if o.model.linearName = "full"; name == "matmul" {
		f.StringVar(&o.model.linearName, "linear", "full", "`NUMBERS` to compute with: full (as --precision says) or int8 (8-bit integers; without the rounding of their operands)")
	}
	if name == "attention" {
		o.attention.register(f)
	}
	o.least.register(f)
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c, name, measure, check)
	}
	return cmd
}

func (o *kernelOptions) run(ctx context.Context, c *console, name string, measure func(ctx context.Context, d *engine.Device, o *kernelOptions, k bench.KernelOptions) (*bench.KernelReport, error), check func(o *kernelOptions) error) error {
	if err := o.least.check(); err != nil {
		return err
	}
	precision, err := o.model.precision()
	if err != nil {
		return err
	}
	linear, err := o.model.linear(precision)
	if err != nil {
		return err
	}
	o.device.bytes = o.attention.sage()
	attention, err := o.attention.checked(precision)
	if err != nil {
		return err
	}
	if err := check(o); err != nil {
		return err
	}
	var report *bench.KernelReport
	err = measuring(ctx, c, &o.device, &o.log, name, func(d *engine.Device, progress func(done, total int)) (err error) {
		report, err = measure(ctx, d, o, bench.KernelOptions{Precision: precision, Linear: linear, Attention: attention, Least: o.least.least, Progress: progress})
		return err
	})
	if err != nil {
		return err
	}
	if o.json {
		return c.printJSON(report)
	}
	return printKernelReport(c.out, report)
}

// geometry is the configuration with the size asked for.
func (o *kernelOptions) geometry() (*configs.Config, configs.Geometry, error) {
	config, err := o.model.config()
	if err != nil {
		return nil, configs.Geometry{}, err
	}
	g, err := o.size.geometry(config)
	return config, g, err
}

// numbers reads a shape of n numbers between 1 and 2²⁴, joined by x or ×.
func numbers(text string, n int, form string) ([]int, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == 'x' || r == '×' })
	out := make([]int, 0, n)
	for _, f := range fields {
		v, err := strconv.Atoi(f)
		if err != nil || v < 1 || v > 1<<24 {
			return nil, badInputf("--shape %q: write %s with numbers from 1 to %d", text, form, 1<<24)
		}
		out = append(out, v)
	}
	if len(out) != n {
		return nil, badInputf("--shape %q: write %s", text, form)
	}
	return out, nil
}

func benchMatmulCommand() *command {
	const form = "MxNxK"
	var shapes []bench.MatmulShape
	return kernelCommand("matmul", "linear layers", "Measures linear layers, x [M, K] by wᵀ [K, N], as the transformer's visual blocks have them.", form,
		[]string{"vkandinsky bench matmul", "vkandinsky bench matmul --shape 47616x16384x4096 --shape 4096x4096x4096 --json"},
		func(ctx context.Context, d *engine.Device, o *kernelOptions, k bench.KernelOptions) (*bench.KernelReport, error) {
			return bench.Matmuls(ctx, d, k, shapes)
		},
		func(o *kernelOptions) error {
			if len(o.shapes) == 0 {
				config, g, err := o.geometry()
				if err == nil {
					shapes = bench.MatmulsOf(&config.Model.DiT, g.Tokens)
				}
				return err
			}
			for _, text := range o.shapes {
				n, err := numbers(text, 3, form)
				if err != nil {
					return err
				}
				if o.model.linearName == load.LinearInt8.String() && !ops.CanQuantize(n[2]) {
					return badInputf("--shape %q: layers in int8 have a K that 64 divides, at most 65536", text)
				}
				shapes = append(shapes, bench.MatmulShape{Name: "matmul", M: n[0], N: n[1], K: n[2]})
			}
			return nil
		})
}

func benchAttentionCommand() *command {
	const form = "HEADSxQUERIESxKEYSxSIZE"
	var shapes []bench.AttentionShape
	return kernelCommand("attention", "full attention", "Measures full attention of so many heads, queries, keys and channels a head, as the transformer's visual blocks have it.", form,
		[]string{"vkandinsky bench attention", "vkandinsky bench attention --shape 32x47616x47616x128 --json", "vkandinsky bench attention --attention-engine sage"},
		func(ctx context.Context, d *engine.Device, o *kernelOptions, k bench.KernelOptions) (*bench.KernelReport, error) {
			return bench.Attentions(ctx, d, k, shapes)
		},
		func(o *kernelOptions) error {
			if len(o.shapes) == 0 {
				config, g, err := o.geometry()
				if err == nil {
					shapes = bench.AttentionsOf(&config.Model.DiT, g.Tokens, config.Model.Qwen.MaxLength, config.Model.Attention.Nabla)
				}
				return err
			}
			for _, text := range o.shapes {
				n, err := numbers(text, 4, form)
				if err != nil {
					return err
				}
				if n[3]%4 != 0 || n[3] > 512 {
					return badInputf("--shape %q: heads have a multiple of 4 channels, at most 512", text)
				}
				if o.attention.sage() && n[3] > 128 {
					return badInputf("--shape %q: heads have at most 128 channels with --attention-engine sage", text)
				}
				shapes = append(shapes, bench.AttentionShape{Name: "attention", Heads: n[0], Queries: n[1], Keys: n[2], HeadDim: n[3]})
			}
			return nil
		})
}

func benchConvCommand() *command {
	const form = "FRAMESxHEIGHTxWIDTHxINxOUT"
	var shapes []bench.ConvShape
	return kernelCommand("conv", "convolutions of the autoencoder", "Measures causal 3×3×3 convolutions over frames of so many pixels, from so many channels to so many, as the levels of the\nautoencoder's decoder have them.", form,
		[]string{"vkandinsky bench conv", "vkandinsky bench conv --shape 5x512x768x128x128 --json"},
		func(ctx context.Context, d *engine.Device, o *kernelOptions, k bench.KernelOptions) (*bench.KernelReport, error) {
			return bench.Convs(ctx, d, k, shapes)
		},
		func(o *kernelOptions) error {
			if len(o.shapes) == 0 {
				_, g, err := o.geometry()
				if err == nil {
					shapes = bench.ConvsOf(g.Size)
				}
				return err
			}
			for _, text := range o.shapes {
				n, err := numbers(text, 5, form)
				if err != nil {
					return err
				}
				shapes = append(shapes, bench.ConvShape{Name: "convolution", Frames: n[0], Height: n[1], Width: n[2], In: n[3], Out: n[4]})
			}
			return nil
		})
}

func printKernelReport(w io.Writer, r *bench.KernelReport) error {
	rows := []string{fmt.Sprintf("device\t%s, %s, kernels %s, %s precision", r.Device, r.Driver, r.Kernels, r.Precision)}
	if r.Linear == load.LinearInt8.String() {
		rows = append(rows, "numbers\t8-bit integers, rounding them not included")
	}
	if r.Attention == load.AttentionSage.String() {
		rows = append(rows, "numbers\tscores of 8-bit integers, rounding them included; the ceiling is that of half the products each")
	}
	for _, c := range r.Ceilings {
		rows = append(rows, fmt.Sprintf("ceiling\t%s: %s", c.Unit, units.Rate(c.PerSecond, "FLOP/s")))
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = []string{"kernel\tshape\ttime\trate\tof the ceiling"}
	for _, k := range r.Runs {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", k.Name, k.Shape, seconds(k.Time), units.Rate(k.TFLOPS*1e12, "FLOP/s"), units.Percent(k.Share)))
	}
	return table(w, rows)
}
