package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

const (
	// shorterBy is how much less a dispatch and a submit do after each loss: drivers that reset a device do so because it
	// was busy for too long. Beyond shortest that is not the reason.
	shorterBy = 4
	shortest  = 64
	// openTries and openPause are how often and with what pauses a lost device is opened again: drivers take seconds to
	// reset one.
	openTries = 5
	openPause = 2 * time.Second
)

// onDevice opens the device and works with it. When it is lost it is opened again and the run goes on from its newest
// state, with shorter submits, which change no bit. The same step losing it twice ends the run.
func (j *job) onDevice(ctx context.Context, log *slog.Logger, work func(*engine.Device) error) error {
	d, err := engine.Open(ctx, j.engine)
	if err != nil {
		return err
	}
	j.loseInSteps()
	type place struct{ clip, step int }
	lostAt := place{-1, -1}
	for {
		err := useDevice(d, work)
		if !errors.Is(err, vk.ErrDeviceLost) || errors.Is(err, errValidation) || ctx.Err() != nil {
			return err
		}
		where := "before the first step was done"
		if s := j.keeper.state(); s != nil {
			where = fmt.Sprintf("after step %d of %d", s.Step, s.Settings.Steps)
			j.request.Resume = s
		}
		var at place
		if at.clip, at.step = j.keeper.place(); at == lostAt {
			return fmt.Errorf("%w, twice %s: try --kernels base, a smaller --vram-budget, or another driver (vkandinsky doctor examines it)", err, where)
		}
		lostAt = at
		j.engine.Shorter = min(shortest, shorterBy*max(1, j.engine.Shorter))
		log.Warn(fmt.Sprintf("the device was lost %s: it is opened again, and the run goes on from there with shorter submits", where), "error", err)
		if d, err = j.openAgain(ctx); err != nil {
			return fmt.Errorf("the device was lost %s and cannot be opened again: %w", where, err)
		}
	}
}

// openAgain waits for a driver that resets its device. What was made to fail has failed; the new device works, but for
// losses of later steps.
func (j *job) openAgain(ctx context.Context) (d *engine.Device, err error) {
	if j.engine.Faults != nil {
		j.engine.Faults = &engine.Faults{}
	}
	for try := range openTries {
		if d, err = engine.Open(ctx, j.engine); err == nil || ctx.Err() != nil || try == openTries-1 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(openPause):
		}
	}
	return d, err
}

// loseInSteps arms the losses of --fault step=N: each happens once, at the second submit of its step.
func (j *job) loseInSteps() {
	if len(j.loseAt) == 0 {
		return
	}
	next := j.request.Progress
	j.request.Progress = func(p kandinsky5.Progress) {
		if at := slices.Index(j.loseAt, p.Done+1); p.Stage == kandinsky5.StageDenoise && p.Total > 0 && at >= 0 {
			j.loseAt = slices.Delete(j.loseAt, at, at+1)
			j.engine.Faults.LoseAfter(2)
		}
		if next != nil {
			next(p)
		}
	}
}
