package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/progress"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// run works on the device with a pipeline, showing progress if wanted.
func (j *job) run(ctx context.Context, c *console, log *slog.Logger, show bool, work func(*engine.Device, *kandinsky5.Pipeline) error) (err error) {
	if show {
		reporter, done := c.progress()
		defer done()
		stream := &promptStream{log: log}
		if progress.IsTerminal(c.err) {
			stream.out = c.err
		}
		defer stream.end()
		j.request.Expanding, j.request.Progress, j.request.Waiting = stream.told, showProgress(reporter, stream), showWaiting(reporter)
		defer func() {
			if err == nil {
				reporter.Done()
			}
		}()
	}
	if j.keeper != nil {
		j.request.Progress = j.keeper.watch(j.request.Progress)
	}
	return j.onDevice(ctx, log, func(d *engine.Device) error {
		if err := j.files.check(d); err != nil {
			return err
		}
		log.Info("device", "name", d.Summary.Physical.Info.Name, "kernels", d.Caps().Tier)
		return j.withPipeline(ctx, d, work)
	})
}

// showWaiting says on the terminal what a run waits for.
func showWaiting(r *progress.Reporter) func(kandinsky5.Waiting) {
	return func(w kandinsky5.Waiting) { r.Note(waitingFor(w)) }
}

// waitingFor is what a run waits for in words, "" for nothing.
func waitingFor(w kandinsky5.Waiting) string {
	var parts []string
	if w.ToRead > 0 {
		parts = append(parts, fmt.Sprintf("reading %s of %s", memory.Size(w.Read), memory.Size(w.ToRead)))
	}
	switch w.Compiling {
	case 0:
	case 1:
		parts = append(parts, "compiling 1 kernel")
	default:
		parts = append(parts, fmt.Sprintf("compiling %d kernels", w.Compiling))
	}
	return strings.Join(parts, ", ")
}

// showProgress passes what the pipeline tells on to the terminal. A text that appears as it is written shows its own
// progress.
func showProgress(r *progress.Reporter, s *promptStream) func(kandinsky5.Progress) {
	stage, begun := kandinsky5.Stage(""), false
	return func(p kandinsky5.Progress) {
		r.Memory(p.DeviceBytes)
		if p.Stage == kandinsky5.StageExpand && s.out != nil {
			return
		}
		if p.Stage != kandinsky5.StageExpand {
			s.end()
		}
		if p.Stage != stage || p.Done == 0 && p.Total == 0 { // another clip may begin with the stage that was over
			stage = p.Stage
			r.Stage(string(p.Stage), p.Total)
			begun = false
		}
		r.Total(p.Total)
		if p.Stage == kandinsky5.StageDenoise && !begun && p.Total > 0 {
			begun = true
			r.From(p.Done)
		}
		r.Step(p.Done)
	}
}

// withPipeline makes a pipeline and works with it.
func (j *job) withPipeline(ctx context.Context, d *engine.Device, work func(*engine.Device, *kandinsky5.Pipeline) error) error {
	p, err := kandinsky5.New(ctx, d, j.checkpoint, j.options)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return badInput(err) // nothing but the checkpoint has been looked at
	}
	err = work(d, p)
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	return err
}
