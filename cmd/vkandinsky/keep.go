package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// keepFlags say what is kept of a run that does not come to its end.
type keepFlags struct {
	every       int
	resume      string
	keep        bool
	onInterrupt string
	state       *kandinsky5.State // what --resume read
}

// stateSuffix ends the name of a state, which lies beside the output.
const stateSuffix = ".state"

// What Ctrl-C does after the step.
const (
	interruptSave    = "save"
	interruptDecode  = "decode"
	interruptDiscard = "discard"
)

func (k *keepFlags) register(f *pflag.FlagSet) {
	f.StringVar(&k.resume, "resume", "", "continue the run that `FILE`.state was saved of, or the many clips of FILE.batch: no other flags are needed")
	f.IntVar(&k.every, "checkpoint-every", 0, "save the run's state beside the output, in OUTPUT.state, after every so many `STEPS` (default: only when it is interrupted or fails)")
	f.StringVar(&k.onInterrupt, "on-interrupt", interruptSave, "what Ctrl-C does when the step is finished, `DO`: save the state, decode the clip as it is predicted then, or discard the run at once; a second Ctrl-C stops at once")
	f.BoolVar(&k.keep, "keep-state", false, "leave the state when the video is written")
}

func (k *keepFlags) check() error {
	if k.every < 0 {
		return badInputf("--checkpoint-every %d: use 1 or more", k.every)
	}
	switch k.onInterrupt {
	case interruptSave, interruptDecode, interruptDiscard:
		return nil
	}
	return badInputf("--on-interrupt %q: use save, decode or discard", k.onInterrupt)
}

// keeper saves the states of a run: of one clip, or of one clip after the other.
type keeper struct {
	flags  keepFlags
	path   string            // of the state file
	notes  map[string]string // what goes into every file beside the run
	log    *slog.Logger
	signal *interrupts
	number int // of the clip among many
	from   int // step of the state that it was begun with; -1: none
	draft  int // steps of a draft, whose clip is made as they predict it; 0: all steps

	mu          sync.Mutex // guards what follows: Ctrl-C comes on a goroutine of its own
	stage       kandinsky5.Stage
	newest      *kandinsky5.State // nil before the first step
	drafted     *kandinsky5.State // after a draft's last step
	saved       int               // step of the state in the file; -1: none
	interrupted bool              // Ctrl-C while steps are made
	decoding    bool              // the clip is made of fewer steps than asked for
	last        bool              // Ctrl-C, and the clip is finished all the same: no other is to be begun
}

// newKeeper prepares to save beside the output, or to the file that is continued.
func newKeeper(ctx context.Context, k keepFlags, output string, notes map[string]string, log *slog.Logger) *keeper {
	out := &keeper{flags: k, path: output + stateSuffix, notes: notes, log: log, signal: interruptsOf(ctx), saved: -1}
	if k.state != nil {
		out.path, out.newest, out.saved = k.resume, k.state, k.state.Step
		log.Info("continuing", "step", fmt.Sprintf("%d of %d", k.state.Step, k.state.Settings.Steps), "prompt", k.state.Settings.Prompt)
	} else {
		warnOfState(out.path, log)
	}
	out.signal.handle(out.interrupt)
	return out
}

// newManyKeeper prepares to save beside one output after the other: see begin.
func newManyKeeper(ctx context.Context, k keepFlags, log *slog.Logger) *keeper {
	out := &keeper{flags: k, log: log, signal: interruptsOf(ctx), saved: -1, number: -1}
	out.signal.handle(out.interrupt)
	return out
}

// warnOfState tells that a new run replaces a state that lies there.
func warnOfState(path string, log *slog.Logger) {
	if old, err := kandinsky5.ReadState(path); err == nil {
		log.Warn(fmt.Sprintf("%s has a run that stands at step %d of %d (vkandinsky generate --resume continues it); this new run will replace it", path, old.Step, old.Settings.Steps))
	}
}

// begin turns to another clip of many, from a state where that is not nil. A clip that it was at already, as after a lost
// device, goes on from its newest state.
func (k *keeper) begin(number int, path string, notes map[string]string, state *kandinsky5.State, draft int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drafted, k.decoding, k.draft = nil, false, draft
	if k.number == number && k.path == path {
		return
	}
	k.number, k.path, k.notes, k.newest, k.saved = number, path, notes, state, -1
	if k.from = -1; state != nil {
		k.from, k.saved = state.Step, state.Step
		k.log.Info("continuing", "step", fmt.Sprintf("%d of %d", state.Step, state.Settings.Steps), "prompt", state.Settings.Prompt, "seed", state.Settings.Seed)
	}
}

// watch learns from the run's progress which stage it is in.
func (k *keeper) watch(next func(kandinsky5.Progress)) func(kandinsky5.Progress) {
	return func(p kandinsky5.Progress) {
		k.mu.Lock()
		k.stage = p.Stage
		if k.interrupted && !k.decoding && p.Stage != kandinsky5.StageDenoise { // no step came after Ctrl-C
			k.interrupted = false
			if k.flags.onInterrupt == interruptSave {
				k.signal.stop()
			}
		}
		k.mu.Unlock()
		if next != nil {
			next(p)
		}
	}
}

// at says whether the keeper has a state of this clip of many.
func (k *keeper) at(number int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.number == number && k.newest != nil
}

// enough says whether Ctrl-C came and no other clip is to be begun.
func (k *keeper) enough() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// saveDraft saves the state of a draft that has been looked at.
func (k *keeper) saveDraft() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newest = k.drafted
	return k.save()
}

// unhandle gives Ctrl-C back to the program.
func (k *keeper) unhandle() {
	if k != nil {
		k.signal.handle(nil)
	}
}

// clipWritten ends a clip of many: its state has done its work.
func (k *keeper) clipWritten() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove()
	k.number, k.newest, k.saved = -1, nil, -1
}

// interrupt is the first Ctrl-C. A step is worth finishing; whatever else is under way is not.
func (k *keeper) interrupt() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.flags.onInterrupt == interruptDecode && k.stage == kandinsky5.StageDecode:
		k.last = true
		k.log.Warn("the clip is being made; Ctrl-C again stops at once")
		return true
	case k.flags.onInterrupt == interruptDiscard, k.stage != kandinsky5.StageDenoise:
		return false
	}
	k.interrupted, k.last = true, true
	then := map[string]string{interruptSave: "the run's state is saved", interruptDecode: "the clip is made of what is there"}[k.flags.onInterrupt]
	k.log.Warn("interrupted: the step is finished, then " + then + "; Ctrl-C again stops at once")
	return true
}

// afterStep saves what is due and ends an interrupted run. A state that cannot be saved does not end a run.
func (k *keeper) afterStep(f kandinsky5.Finished) (kandinsky5.Decision, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.draft > 0 && f.Step >= k.draft {
		// The state is saved when the draft has been looked at: until then the one before is what a draft goes on from.
		k.drafted, k.decoding = f.State, true
		return kandinsky5.Decode, nil
	}
	k.newest = f.State
	if k.interrupted && k.flags.onInterrupt == interruptDecode {
		k.decoding = true
		return kandinsky5.Decode, nil
	}
	due := k.flags.every > 0 && (f.Step%k.flags.every == 0 || f.Step == f.Steps) || k.flags.keep && f.Step == f.Steps
	if !due && !k.interrupted {
		return kandinsky5.Go, nil
	}
	switch err := k.save(); {
	case err != nil && k.interrupted:
		k.log.Warn("the state cannot be saved, so the run goes on and tries again after each step; Ctrl-C again stops at once and loses it", "error", err)
	case err != nil:
		k.log.Warn("the state cannot be saved; the run goes on", "step", f.Step, "error", err)
	case k.interrupted:
		return kandinsky5.Stop, nil
	}
	return kandinsky5.Go, nil
}

// save writes the newest state; the lock is held.
func (k *keeper) save() error {
	if k.saved == k.newest.Step {
		return nil
	}
	s := *k.newest
	s.Notes = k.notes
	if err := kandinsky5.WriteState(k.path, &s); err != nil {
		return err
	}
	k.saved = s.Step
	k.log.Debug("state saved", "step", s.Step, "file", k.path)
	return nil
}

// saveAnywhere is save at the end of a run that failed, perhaps because the disk is full that the state should go to: then it
// goes to the system's folder for temporary files, or to the user's for caches. The lock is held.
func (k *keeper) saveAnywhere() error {
	err := k.save()
	if err == nil {
		return nil
	}
	beside := k.path
	folders := []string{os.TempDir()}
	if cache, none := os.UserCacheDir(); none == nil {
		folders = append(folders, cache)
	}
	for _, folder := range folders {
		k.path = filepath.Join(folder, fmt.Sprintf("%s-%d.state", strings.TrimSuffix(filepath.Base(beside), ".state"), os.Getpid()))
		if k.save() == nil {
			k.log.Warn("the state cannot be saved beside the output, so it lies elsewhere", "file", k.path, "error", err)
			return nil
		}
	}
	k.path = beside
	return err
}

// failed makes of a run's error what the user is told, saving what there is to save.
func (k *keeper) failed(ctx context.Context, err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.rescue(err, k.saveAnywhere)
	cancelled := ctx.Err() != nil && errors.Is(err, context.Canceled)
	switch {
	case k.saved < 0, !cancelled && k.newest == k.flags.state:
		return err
	case cancelled || errors.Is(err, kandinsky5.ErrStopped):
		return interruption{fmt.Sprintf("interrupted; to go on after step %d of %d: %s", k.saved, k.newest.Settings.Steps, k.command())}
	}
	return fmt.Errorf("%w; to go on after step %d of %d: %s", err, k.saved, k.newest.Settings.Steps, k.command())
}

// rescue saves the newest state of a run that has failed, as far as it is wanted, and returns the run's error; the lock is
// held.
func (k *keeper) rescue(err error, save func() error) error {
	k.signal.handle(nil)
	if k.newest != nil && k.flags.onInterrupt == interruptSave && !k.signal.insisted() {
		if saveErr := save(); saveErr != nil {
			err = fmt.Errorf("%w; the run's state cannot be saved: %w", err, saveErr)
		}
	}
	return err
}

// place says where the run stands, so that two failures at one place can be told from two at different ones.
func (k *keeper) place() (number, step int) {
	if k == nil {
		return 0, 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.newest != nil {
		step = k.newest.Step
	}
	return k.number, step
}

// state returns the newest one, nil before the first step, also where there is no keeper.
func (k *keeper) state() *kandinsky5.State {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest
}

// early says whether the clip is made of fewer steps than its settings say, also where there is no keeper.
func (k *keeper) early() bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.decoding
}

// command is what continues the run.
func (k *keeper) command() string { return "vkandinsky generate --resume " + shellWord(k.path) }

// written ends a run whose video is on the disk: the state has done its work. A clip that was made of fewer steps leaves it.
func (k *keeper) written(output string) error {
	k.signal.handle(nil)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.decoding {
		text := fmt.Sprintf("interrupted: %s is the clip as step %d of %d predicts it", output, k.newest.Step, k.newest.Settings.Steps)
		if k.saved >= 0 {
			text += fmt.Sprintf("; to go on after step %d: %s", k.saved, k.command())
		}
		return interruption{text}
	}
	k.remove()
	return nil
}

// remove takes the state of a clip that is written from the disk, unless it is to be kept; the lock is held.
func (k *keeper) remove() {
	if k.saved < 0 || k.flags.keep {
		return
	}
	if err := os.Remove(k.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.Warn("the video is written, its state could not be removed", "error", err)
	}
}
