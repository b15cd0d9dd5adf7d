package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/engine"
)

// deviceFlags choose and limit the device.
type deviceFlags struct {
	bytes                            bool // kernels may want matrices of signed bytes
	device, kernels, cacheDir, fault string
	vram, ram                        byteSize
	pinnedFrom                       string
	validate                         bool
	loseAt                           []int // steps in which the device is lost on purpose
}

func (d *deviceFlags) register(f *pflag.FlagSet) {
	f.StringVar(&d.device, "device", "", "`NUMBER` or part of the name as vkandinsky devices lists it; the best one by default")
	f.Var(&d.vram, "vram-budget", "device memory that is never exceeded, such as 24GiB; what the driver says is free by default")
	f.Var(&d.ram, "ram-budget", "pinned host memory that is never exceeded; by default what is free, at most 80 % of the heap")
	f.StringVar(&d.pinnedFrom, "pinned-from", "auto", "`SOURCE` of large pieces of pinned memory: imported (the system's huge pages, which the driver imports), driver, or auto (imported where that works)")
	f.StringVar(&d.kernels, "kernels", "auto", "kernel `TIER`: auto, base (fp32 arithmetic, runs anywhere), fp16, matrix or matrix2 (matrix units)")
	f.BoolVar(&d.validate, "validate", false, "run under the Vulkan validation layer; any message makes the command fail")
	f.StringVar(&d.cacheDir, "cache-dir", defaultCacheDir(), "`FOLDER` where compiled kernels are kept; empty: nowhere")
	f.StringVar(&d.fault, "fault", "", "fail a driver call on purpose: alloc=N, alloc-from=N (all from then on), submit=N; step=N loses the device in the N-th step, step=N,step=N twice")
	_ = f.MarkHidden("fault") // known: registered in the line above
}

// defaultCacheDir is empty where the system has no folder for caches.
func defaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "vkandinsky")
}

// options checks the flags.
func (d *deviceFlags) options(log *slog.Logger) (engine.Options, error) {
	o := engine.Options{
		Device: d.device, Validate: d.validate, DeviceBudget: int64(d.vram), HostBudget: int64(d.ram), CacheDir: d.cacheDir, Log: log,
		ByteFragments: d.bytes,
	}
	switch from := engine.PinnedFrom(d.pinnedFrom); from {
	case "auto":
	case engine.PinnedDriver, engine.PinnedImported:
		o.PinnedFrom = from
	default:
		return o, badInput(fmt.Errorf("--pinned-from %q: use auto, %s or %s", from, engine.PinnedImported, engine.PinnedDriver))
	}
	var err error
	if o.Tier, err = engine.ParseTier(d.kernels); err != nil {
		return o, badInput(err)
	}
	o.Faults, d.loseAt, err = parseFaults(d.fault)
	return o, badInput(err)
}

// parseFaults reads "alloc=N,alloc-from=N,submit=N,step=N".
func parseFaults(s string) (faults *engine.Faults, steps []int, err error) {
	if s == "" {
		return nil, nil, nil
	}
	faults = &engine.Faults{}
	for _, part := range strings.Split(s, ",") {
		kind, number, _ := strings.Cut(part, "=")
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 1 {
			return nil, nil, fmt.Errorf("--fault %q: write alloc=N, alloc-from=N, submit=N or step=N with N from 1", part)
		}
		switch kind {
		case "alloc":
			faults.AllocateAt = n
		case "alloc-from":
			faults.AllocateFrom = n
		case "submit":
			faults.SubmitAt = n
		case "step":
			steps = append(steps, int(n))
		default:
			return nil, nil, fmt.Errorf("--fault %q: write alloc=N, alloc-from=N, submit=N or step=N", part)
		}
	}
	return faults, steps, nil
}

// withDevice opens a device, works with it and closes it. Leaks and, under the validation layer, messages are errors, also
// after a failure of the work.
func withDevice(ctx context.Context, o engine.Options, work func(d *engine.Device) error) error {
	d, err := engine.Open(ctx, o)
	if err != nil {
		return err
	}
	return useDevice(d, work)
}

func useDevice(d *engine.Device, work func(d *engine.Device) error) error {
	err := work(d)
	return errors.Join(err, validationError(d), d.Close())
}

// errValidation is what an error about messages of the validation layer wraps.
var errValidation = errors.New("the validation layer")

// validationError sums up what the validation layer said.
func validationError(d *engine.Device) error {
	version, messages := d.Validation(0)
	if len(messages) == 0 {
		return nil
	}
	return fmt.Errorf("%w %s reported %d messages, the first: %s", errValidation, version, len(messages), messages[0].Text)
}
