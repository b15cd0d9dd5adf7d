package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// open makes the batch, or reads the one that is continued, and says what this run does with it.
func (m *many) open(o *generateOptions, f *flags) error {
	if o.keep.resume == "" && o.many.pick != "" {
		o.keep.resume = o.base() + batchSuffix
	}
	var err error
	switch {
	case o.keep.resume == "":
		err = m.plan(o, f)
	case !strings.HasSuffix(o.keep.resume, batchSuffix):
		return badInputf("--resume %s continues one clip: leave --seeds, --prompt-file, --draft-steps and --continue out, or name a %s file", o.keep.resume, batchSuffix)
	default:
		err = m.reopen(o, f)
	}
	if err == nil {
		err = o.keep.check()
	}
	if err != nil {
		return err
	}
	m.pick, m.previews = o.many.pick, o.preview
	if m.pick == "" {
		m.drafting = o.many.draft
	}
	switch {
	case f.changed("draft-steps") && o.many.draft < 1:
		return badInputf("--draft-steps %d: use 1 or more", o.many.draft)
	case m.pick != "" && o.many.draft == 0:
		return badInputf("--continue: %s has no drafts: leave the flag out", m.path)
	case m.drafting > 0 && o.keep.onInterrupt == interruptDecode:
		return badInputf("--on-interrupt decode goes with whole clips: leave it, or --draft-steps, out")
	case o.preview.every < 0:
		return badInputf("--preview=%d: use 1 or more", o.preview.every)
	}
	return m.openSheet(o, f)
}

// plan makes a new batch.
func (m *many) plan(o *generateOptions, f *flags) error {
	orders, err := o.many.orders(f)
	if err != nil {
		return err
	}
	if m.path, err = filepath.Abs(o.base() + batchSuffix); err != nil {
		return err
	}
	if old, err := readBatch(m.path); err == nil {
		m.log.Warn(fmt.Sprintf("%s has a batch of which %s (vkandinsky generate --resume continues it); this new run will replace it", m.path, old.standing()))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return badInputf("the run's record would replace %s, which is none (%w): give the clips another name with -o", m.path, err)
	}
	if err := media.CheckFile(m.path); err != nil {
		return badInput(err)
	}
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	m.batch = newBatch(orders)
	m.batch.Folder, m.batch.Flags = folder, remembered(f, forgottenByBatch)
	m.batch.From, err = fromDigest(o.from)
	return err
}

// newBatch has clips of which nothing is done.
func newBatch(orders []order) *batch {
	b := &batch{Version: batchVersion, ID: newBatchID()}
	for _, w := range orders {
		b.Clips = append(b.Clips, batchClip{Where: w.where, Suffix: w.suffix, Number: w.number, Values: w.values})
	}
	return b
}

// reopen reads a batch and sets its flags.
func (m *many) reopen(o *generateOptions, f *flags) (err error) {
	if m.path, err = filepath.Abs(o.keep.resume); err != nil {
		return err
	}
	m.resumed = true
	if m.batch, err = readBatch(m.path); err != nil {
		return badInput(err)
	}
	if err := m.batch.restore(f, m.path); err != nil {
		return err
	}
	from, err := fromDigest(o.from)
	if err != nil {
		return badInput(err)
	}
	if from != m.batch.From {
		return badInputf("%s: the receipt %s has changed since the batch was begun", m.path, o.from)
	}
	if !o.keep.keep {
		err = m.batch.removeStates(false) // a run may have been killed before it came to it
	}
	m.log.Info("continuing a batch", "file", m.path, "of which", m.batch.standing())
	return err
}

// fromDigest is the SHA-256 of the receipt that --from names; "" without one. What is none is refused later.
func fromDigest(from string) (string, error) {
	if from == "" {
		return "", nil
	}
	sum, _, err := receipt.SumFile(receiptOf(from))
	if errors.Is(err, fs.ErrNotExist) {
		return "", badInput(err)
	}
	return sum, err
}

// record writes the batch to the disk. From then on it can be continued.
func (m *many) record() error {
	err := m.batch.write(m.path)
	m.begun = m.begun || err == nil
	return err
}

// standing says how far a batch is.
func (b *batch) standing() string {
	made := fmt.Sprintf("%d of %d clips are made", b.count(clipDone), len(b.Clips))
	if n := b.count(clipDrafted); n > 0 {
		made += fmt.Sprintf(" and %d drafts", n)
	}
	return made
}

// failed makes of an error what the user is told. The batch stays if there is anything to go on with.
func (m *many) failed(ctx context.Context, err error) error {
	k := m.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	stopped := errors.Is(err, kandinsky5.ErrStopped) || errors.Is(err, context.Canceled) && (k.last || ctx.Err() != nil)
	err = k.rescue(err, k.save) // beside the output, where the batch looks for it
	m.progress = m.progress || k.saved > k.from
	switch {
	case m.begun && !m.resumed && !m.progress && k.saved < 0:
		os.Remove(m.path)
		return err
	case !m.begun && !m.resumed, !stopped && !m.progress:
		return err
	}
	where := m.batch.standing()
	if k.decoding && m.drafting == 0 {
		where += fmt.Sprintf("; %s is the clip as step %d of %d predicts it", strings.TrimSuffix(k.path, stateSuffix), k.newest.Step, k.newest.Settings.Steps)
	} else if k.saved >= 0 {
		where += fmt.Sprintf(", one stands at step %d of %d", k.saved, k.newest.Settings.Steps)
	}
	command := "vkandinsky generate --resume " + shellWord(m.path)
	if m.pick != "" {
		command += " --continue " + m.pick
	}
	if stopped {
		return interruption{fmt.Sprintf("interrupted; %s; to go on: %s", where, command)}
	}
	return fmt.Errorf("%w; %s; to go on: %s", err, where, command)
}
