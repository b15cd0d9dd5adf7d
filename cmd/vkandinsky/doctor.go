package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/models/doctor"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	device      deviceFlags
	log         logFlags
	quick, json bool
	html        string
	probe       string // hidden: carry out one probe and print its findings
	// hidden: how long the probe may measure, and how long it may take in all; 0: as long as it takes
	probeMeasure, probeLimit time.Duration
	inProcess                bool // hidden: no processes for the probes
}

func doctorCommand() *command {
	cmd := &command{
		name: "doctor", summary: "examine a device and its driver: are the numbers right, how fast is it, what is in the way",
		about: "Examines a device and its driver: every tier of kernels against float64 on the CPU, with error and speed; copies up, down\n" +
			"and beside computing; queues, heaps, resizable BAR, pinned memory; the longest dispatch against the watchdog; and what\n" +
			"other programs inject. Each examination runs in a process of its own, so that a driver that crashes ends only that.\n" +
			"What was found is printed also when it is interrupted or time runs out. Exit status 1 when one failed.",
		examples: []string{
			"vkandinsky doctor",
			"vkandinsky doctor --quick --json",
			"vkandinsky doctor --device 1 --html report.html",
		},
	}
	var o doctorOptions
	f := cmd.flags.group("What to examine")
	f.BoolVar(&o.quick, "quick", false, "smaller work, only the kernels that the program would take: 10 seconds, and what the driver needs to compile them")
	f.StringVar(&o.probe, "probe", "", "carry out one `PROBE` here and print what it found")
	f.DurationVar(&o.probeMeasure, "probe-measure", 0, "measure no longer than `TIME` in the probe")
	f.DurationVar(&o.probeLimit, "probe-limit", 0, "end the probe after `TIME`")
	f.BoolVar(&o.inProcess, "in-process", false, "carry all out in this process")
	for _, hidden := range []string{"probe", "probe-measure", "probe-limit", "in-process"} {
		_ = f.MarkHidden(hidden) // known: registered above
	}
	o.device.register(cmd.flags.group("Device"))
	f = cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.html, "html", "", "write a report with plots to `FILE` as well")
	o.log.register(f)
	cmd.run = func(ctx context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return o.run(ctx, c)
	}
	return cmd
}

func (o *doctorOptions) run(ctx context.Context, c *console) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	engineOptions, err := o.device.options(log)
	if err != nil {
		return err
	}
	options := doctor.Options{Engine: engineOptions, Quick: o.quick}
	if o.probe != "" {
		return o.runProbe(ctx, c, options)
	}
	if err := o.checkHTML(); err != nil {
		return badInput(err)
	}
	if !o.inProcess {
		options.Start = o.start
	}
	report, err := o.examine(ctx, c, options)
	if err != nil {
		if report != nil && len(report.Results) > 0 { // what was found before it was interrupted
			err = errors.Join(err, o.print(c, report))
		}
		return err
	}
	if o.html != "" {
		var page bytes.Buffer
		if err := report.WriteHTML(&page); err != nil {
			return err
		}
		if err := writeWhole(o.html, page.Bytes()); err != nil {
			return err
		}
	}
	if err := o.print(c, report); err != nil {
		return err
	}
	return report.Err()
}

func (o *doctorOptions) print(c *console, report *doctor.Report) error {
	if o.json {
		return c.printJSON(report)
	}
	return report.WriteText(c.out)
}

func (o *doctorOptions) examine(ctx context.Context, c *console, options doctor.Options) (*doctor.Report, error) {
	if !o.log.quiet {
		reporter, done := c.progress()
		defer done()
		options.Progress = func(title string, _, _ int) { reporter.Stage(title, 0) }
	}
	report, err := doctor.Examine(ctx, options)
	if report != nil {
		report.Program = versionLine(debug.ReadBuildInfo())
	}
	return report, err
}

// checkHTML finds out before the work whether the report can be written.
func (o *doctorOptions) checkHTML() error {
	if o.html == "" {
		return nil
	}
	if info, err := os.Stat(o.html); err == nil && info.IsDir() {
		return fmt.Errorf("--html %s: is a folder", o.html)
	}
	if info, err := os.Stat(filepath.Dir(o.html)); err != nil || !info.IsDir() {
		return fmt.Errorf("--html %s: there is no folder %s", o.html, filepath.Dir(o.html))
	}
	return nil
}

// writeWhole writes a file under another name and renames it, so that nobody sees half of it.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// runProbe carries out one probe for the process that started this one: it prints what was found so far as JSON, each time
// that is more, and last all of it.
func (o *doctorOptions) runProbe(ctx context.Context, c *console, options doctor.Options) error {
	if o.probeLimit > 0 {
		limited, cancel := context.WithTimeout(ctx, o.probeLimit)
		defer cancel()
		ctx = limited
	}
	out := json.NewEncoder(c.out)
	options.Measure = o.probeMeasure
	var broken error
	options.Partial = func(f doctor.Findings) { broken = errors.Join(broken, out.Encode(f)) }
	findings, err := doctor.Run(ctx, o.probe, options)
	if err != nil {
		return badInput(err)
	}
	return errors.Join(broken, out.Encode(findings))
}

// probeGrace is how long before a probe's process is ended it is told to end by itself.
const probeGrace = 300 * time.Millisecond

// start carries a probe out in a process of its own.
func (o *doctorOptions) start(ctx context.Context, probe string, measure time.Duration, environment []string) (f doctor.Findings, err error) {
	program, err := os.Executable()
	if err != nil {
		return f, err
	}
	args := append(o.probeArguments(probe), "--probe-measure", measure.String())
	if end, ok := ctx.Deadline(); ok {
		args = append(args, "--probe-limit", max(time.Until(end)-probeGrace, probeGrace).String())
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), environment...)
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return f, err // it could not be started
	}
	f, told := lastFindings(&out)
	if err != nil || !told {
		return f, &doctor.CrashError{Probe: probe, How: lastWords(errs.String(), err)}
	}
	return f, nil
}

// lastFindings reads what a probe's process printed: the last findings that it printed whole, false for none.
func lastFindings(out io.Reader) (f doctor.Findings, told bool) {
	for d := json.NewDecoder(out); ; told = true {
		var more doctor.Findings
		if d.Decode(&more) != nil {
			return f, told
		}
		f = more
	}
}

// probeArguments is the command line for one probe: the same device and limits.
func (o *doctorOptions) probeArguments(probe string) []string {
	d := o.device
	args := []string{"doctor", "--probe", probe, "--quiet", "--cache-dir", d.cacheDir}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	add("--device", d.device)
	add("--fault", d.fault)
	if d.vram > 0 {
		add("--vram-budget", fmt.Sprint(int64(d.vram)))
	}
	if d.ram > 0 {
		add("--ram-budget", fmt.Sprint(int64(d.ram)))
	}
	if d.validate {
		args = append(args, "--validate")
	}
	if o.quick {
		args = append(args, "--quick")
	}
	return args
}

// ending is how the Go runtime and Windows name what ended a process.
var ending = regexp.MustCompile(`(?m)^(SIG[A-Z]+: .*|Exception 0x[0-9a-f]+.*|fatal error: .*|panic: .*|vkandinsky: .*)$`)

// lastWords says in a few words why a process ended.
func lastWords(stderr string, err error) string {
	if found := ending.FindString(stderr); found != "" {
		return strings.TrimPrefix(oneLine(found), "vkandinsky: ")
	}
	if err != nil {
		return err.Error()
	}
	return "it said nothing"
}
