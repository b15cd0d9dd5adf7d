package main

import (
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/timeline"
	"github.com/vkandinsky/vkandinsky/swap"
)

// timelineFlags name files that show what ran when.
type timelineFlags struct{ picture, trace string }

func (t *timelineFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.picture, "timeline", "", "write a picture of what ran when on the compute and the copy queue: `FILE`.svg")
	f.StringVar(&t.trace, "trace", "", "write the same as a trace for Perfetto (ui.perfetto.dev) and Chrome: `FILE`.json")
}

// checkPaths refuses, before any work, files that could not be written.
func (t *timelineFlags) checkPaths() error {
	for _, f := range []struct{ flag, path, extension string }{{"timeline", t.picture, ".svg"}, {"trace", t.trace, ".json"}} {
		if f.path == "" {
			continue
		}
		if !strings.HasSuffix(strings.ToLower(f.path), f.extension) {
			return badInputf("--%s %s: the file is a %s", f.flag, f.path, f.extension)
		}
		if err := media.CheckFile(f.path); err != nil {
			return badInput(err)
		}
	}
	return nil
}

// check refuses devices that cannot measure.
func (t *timelineFlags) check(d *engine.Device) error {
	if t.picture == "" && t.trace == "" || d.Compute().Timed() {
		return nil
	}
	return badInputf("--timeline and --trace need timestamps: %w", engine.ErrNoTimestamps)
}

// write writes the files asked for.
func (t *timelineFlags) write(trace swap.Trace, title string, notes ...string) error {
	if t.picture != "" {
		if err := media.WriteFile(t.picture, trace.Chart(title, notes...).WriteSVG); err != nil {
			return err
		}
	}
	if t.trace == "" {
		return nil
	}
	return media.WriteFile(t.trace, func(w io.Writer) error { return timeline.WriteTrace(w, trace.Rows()) })
}
