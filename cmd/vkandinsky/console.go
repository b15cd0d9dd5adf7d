package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/internal/progress"
)

// console is where a command prints: results to out, everything else to err.
type console struct {
	out, err io.Writer

	mu       sync.Mutex
	reporter *progress.Reporter // draws on err while there is one
}

// Write takes lines of the log; they go around a progress line that is on the screen.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	reporter := c.reporter
	if reporter == nil {
		defer c.mu.Unlock()
		return c.err.Write(p)
	}
	c.mu.Unlock() // a terminal may take its time for a line, and others have lines of their own
	reporter.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// progress starts to show progress on err; the returned function ends it.
func (c *console) progress() (*progress.Reporter, func()) {
	r := progress.New(progress.Options{Out: c.err})
	c.mu.Lock()
	c.reporter = r
	c.mu.Unlock()
	return r, func() {
		c.mu.Lock()
		c.reporter = nil
		c.mu.Unlock()
		r.Close()
	}
}

// printJSON writes a value to out, indented.
func (c *console) printJSON(v any) error { return writeJSON(c.out, v) }

// writeJSON writes a value for people and programs to read.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows with aligned columns, in one piece; cells are separated by tabs.
func table(w io.Writer, rows []string) error {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, row)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// logFlags choose how much is logged.
type logFlags struct {
	level          string
	quiet, verbose bool
}

func (l *logFlags) register(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	f.BoolVarP(&l.verbose, "verbose", "v", false, "log everything (--log-level debug)")
	f.BoolVarP(&l.quiet, "quiet", "q", false, "log errors only, show no progress")
}

// logger makes the log that the flags ask for.
func (l *logFlags) logger(c *console) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, badInput(fmt.Errorf("--log-level %q: use debug, info, warn or error", l.level))
	}
	switch {
	case l.quiet && l.verbose:
		return nil, badInput(fmt.Errorf("--quiet and --verbose exclude each other"))
	case l.quiet:
		level = slog.LevelError
	case l.verbose:
		level = slog.LevelDebug
	}
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})), nil
}
