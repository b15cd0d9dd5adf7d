package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/verify"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	device     deviceFlags
	log        logFlags
	precision  string
	linear     string
	attention  attentionFlag
	tokenizers string
	blocks     int
	json       bool
}

func verifyCommand() *command {
	cmd := &command{
		name: "verify", args: "[FILE…]", summary: "run golden cases on a device and judge the numbers",
		about: "Runs golden cases (small networks with what the reference program computed for them) on a device and prints, per\n" +
			"output, the relative error, its limit, and whether it passed. Without files it runs the cases inside the program.\n" +
			"This tells whether a driver computes correctly. Exit status 1 when an output fails.",
		examples: []string{
			"vkandinsky verify",
			"vkandinsky verify --device 1 --precision f32 --validate",
			"vkandinsky verify --json golden/*.safetensors",
		},
	}
	var o verifyOptions
	f := cmd.flags.group("How to compute")
	f.StringVar(&o.precision, "precision", "both", "`PRECISION`: mixed, f32 or both")
	f.StringVar(&o.linear, "linear", "full", "int8: judge the transformers' cases again with linear layers in 8-bit `NUMBERS`, by wider limits, beside mixed precision")
	f.Var(&o.attention, "attention-engine", "sage: judge the transformers' cases again with attention by `ENGINE` sage (queries and keys in 8-bit integers), by the limits of mixed precision")
	f.IntVar(&o.blocks, "blocks-in-memory", 0, "swap the transformers' blocks with so many `BLOCKS` on the device; results must not change")
	f.StringVar(&o.tokenizers, "tokenizers", "", "`FOLDER` with the published vocabularies for a tokenizer case (default ../tokenizers beside it)")
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error { return o.run(ctx, c, args) }
	return cmd
}

// judged is a verify.Result with the precision it was computed in.
type judged struct {
	Precision string  `json:"precision"`
	Case      string  `json:"case"`
	Component string  `json:"component"`
	Output    string  `json:"output"`
	Metric    string  `json:"metric"`
	Value     float64 `json:"value"` // −1 for what JSON cannot hold (NaN, infinities)
	Limit     float64 `json:"limit"`
	Pass      bool    `json:"pass"`
}

func judge(m computing, r verify.Result) judged {
	if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		r.Value = -1
	}
	return judged{m.String(), r.Case, r.Component, r.Output, r.Metric, r.Value, r.Limit, r.Pass}
}

// verifyReport is what verify prints as JSON.
type verifyReport struct {
	Device   string   `json:"device"`
	Driver   string   `json:"driver"`
	Kernels  string   `json:"kernels"`
	Passed   int      `json:"passed"`
	Failed   int      `json:"failed"`
	Messages []string `json:"validation_messages"`
	Results  []judged `json:"results"`
}

func (o *verifyOptions) run(ctx context.Context, c *console, files []string) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	o.device.bytes = o.attention.sage()
	engineOptions, err := o.device.options(log)
	if err != nil {
		return err
	}
	ways, err := o.ways()
	if err != nil {
		return badInput(err)
	}
	if o.blocks < 0 {
		return badInput(fmt.Errorf("--blocks-in-memory %d: use 1 or more", o.blocks))
	}
	cases, err := o.cases(files)
	if err != nil {
		return badInput(err)
	}
	report := verifyReport{Messages: []string{}}
	d, err := engine.Open(ctx, engineOptions)
	if err != nil {
		return err
	}
	err = o.judge(ctx, c, d, cases, ways, &report)
	_, messages := d.Validation(0)
	for _, m := range messages {
		report.Messages = append(report.Messages, m.Text)
	}
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	if o.json {
		err = c.printJSON(report)
	} else {
		err = report.print(c.out)
	}
	if err != nil {
		return err
	}
	return report.verdict()
}

// goldenCase runs one case.
type goldenCase struct {
	name string
	run  func(ctx context.Context, d *engine.Device, o verify.Options) ([]verify.Result, error)
}

// cases are the files, or those in the program when there are none.
func (o *verifyOptions) cases(files []string) ([]goldenCase, error) {
	var out []goldenCase
	for _, path := range files {
		if err := verify.Check(path); err != nil {
			return nil, err
		}
		out = append(out, goldenCase{filepath.Base(path), func(ctx context.Context, d *engine.Device, vo verify.Options) ([]verify.Result, error) {
			return verify.File(ctx, d, path, vo)
		}})
	}
	if len(files) > 0 {
		return out, nil
	}
	embedded, err := verify.Embedded()
	for _, e := range embedded {
		out = append(out, goldenCase{e.Name, func(ctx context.Context, d *engine.Device, vo verify.Options) ([]verify.Result, error) {
			return verify.Bytes(ctx, d, e.Name, e.Data, vo)
		}})
	}
	return out, err
}

// judge runs every case in every way.
func (o *verifyOptions) judge(ctx context.Context, c *console, d *engine.Device, cases []goldenCase, ways []computing, report *verifyReport) error {
	info := d.Summary.Physical.Info
	report.Device, report.Driver, report.Kernels = info.Name, info.Driver+" "+info.DriverInfo, d.Caps().Tier.String()
	if !o.log.quiet {
		reporter, done := c.progress()
		defer done()
		reporter.Stage("golden cases", len(cases)*len(ways))
		defer reporter.Done()
		defer func() { reporter.Step(len(cases) * len(ways)) }()
	}
	for _, way := range ways {
		for _, g := range cases {
			results, err := g.run(ctx, d, verify.Options{Precision: way.precision, Linear: way.linear, Attention: way.attention, Tokenizers: o.tokenizers, BlocksInMemory: o.blocks})
			if err != nil {
				return err
			}
			for _, r := range results {
				report.Results = append(report.Results, judge(way, r))
				if r.Pass {
					report.Passed++
				} else {
					report.Failed++
				}
			}
		}
	}
	return nil
}

// computing is a way in which cases are computed.
type computing struct {
	precision load.Precision
	linear    load.Linear
	attention load.Attention
}

func (c computing) String() string {
	if c.attention != load.AttentionOwn {
		return c.attention.String()
	}
	if c.linear == load.LinearFull {
		return c.precision.String()
	}
	return c.linear.String()
}

// ways are those that the flags ask for.
func (o *verifyOptions) ways() (out []computing, err error) {
	linear, err := load.ParseLinear(o.linear)
	if err != nil {
		return nil, fmt.Errorf("--linear: %w", err)
	}
	precisions, err := parsePrecisions(o.precision)
	if err != nil {
		return nil, err
	}
	sage := o.attention.sage()
	if linear == load.LinearInt8 || sage {
		if o.precision == load.Float32.String() {
			return nil, fmt.Errorf("--linear int8 and --attention-engine sage need --precision mixed")
		}
		out = append(out, computing{precision: load.Mixed})
		if linear == load.LinearInt8 {
			out = append(out, computing{precision: load.Mixed, linear: linear})
		}
		if sage {
			out = append(out, computing{precision: load.Mixed, attention: load.AttentionSage})
		}
		return out, nil
	}
	for _, p := range precisions {
		out = append(out, computing{precision: p})
	}
	return out, nil
}

func parsePrecisions(s string) ([]load.Precision, error) {
	if s == "both" {
		return []load.Precision{load.Float32, load.Mixed}, nil
	}
	p, err := load.ParsePrecision(s)
	if err != nil {
		return nil, fmt.Errorf("--precision %q: use both, mixed or f32", s)
	}
	return []load.Precision{p}, nil
}

func (r *verifyReport) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s, kernels %s\n", r.Device, r.Driver, r.Kernels)
	rows := []string{"precision\tcase\toutput\tmeasure\tvalue\tlimit\t"}
	for _, j := range r.Results {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", j.Precision, j.Case, j.Output, j.Metric, number(j.Value), number(j.Limit), passFail(j.Pass)))
	}
	if err := table(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d passed, %d failed\n", r.Passed, r.Failed)
	return err
}

// number prints an error or a count briefly.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e6 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2e", v)
}

func passFail(pass bool) string {
	if pass {
		return "pass"
	}
	return "FAIL"
}

// verdict is the error that the exit status follows from.
func (r *verifyReport) verdict() error {
	switch {
	case r.Failed > 0:
		return fmt.Errorf("%d of %d outputs failed on %s", r.Failed, r.Failed+r.Passed, r.Device)
	case len(r.Messages) > 0:
		return fmt.Errorf("the validation layer reported %d messages, the first: %s", len(r.Messages), r.Messages[0])
	case r.Passed == 0:
		return fmt.Errorf("no case was run")
	}
	return nil
}
