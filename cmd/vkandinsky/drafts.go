package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// What --continue takes besides numbers.
const (
	pickAll  = "all"
	pickNone = "none"
)

// choose lists the clips of the batch that this run is to make.
func (m *many) choose() ([]int, error) {
	switch {
	case m.pick != "":
		return m.picked()
	case m.drafting > 0 && m.batch.count(clipOpen) == 0:
		return nil, badInputf("%s: all drafts are made: say with --continue %s which to finish, or all, or none", m.path, m.numbers(clipDrafted))
	}
	var out []int
	for k, c := range m.batch.Clips {
		if c.Status == clipOpen {
			out = append(out, k)
		}
	}
	return out, nil
}

// picked are the clips that --continue names, but for those that are done.
func (m *many) picked() ([]int, error) {
	at := map[uint64]int{}
	for k, c := range m.batch.Clips {
		at[c.Number] = k
	}
	var numbers []uint64
	if m.pick == pickAll {
		for _, c := range m.batch.Clips {
			if c.Status == clipDrafted {
				numbers = append(numbers, c.Number)
			}
		}
	} else {
		var err error
		if numbers, err = parseSeeds("continue", m.pick); err != nil {
			return nil, err
		}
	}
	var out []int
	for _, n := range numbers {
		k, ok := at[n]
		switch {
		case !ok:
			return nil, badInputf("--continue %d: %s has no such draft, but %s", n, m.path, m.numbers(clipDrafted))
		case m.batch.Clips[k].Status == clipOpen:
			return nil, badInputf("--continue %d: the draft is not made yet: vkandinsky generate --resume %s makes the rest of them", n, shellWord(m.path))
		case m.batch.Clips[k].Status == clipDone:
			m.log.Info("the clip is finished already", "from", m.batch.Clips[k].Where, "output", m.batch.Clips[k].Output)
			continue
		}
		out = append(out, k)
	}
	return out, nil
}

// numbers are those of the clips of a status, as --continue takes them.
func (m *many) numbers(status clipStatus) string {
	var out []string
	for _, c := range m.batch.Clips {
		if c.Status == status {
			out = append(out, strconv.FormatUint(c.Number, 10))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ",")
}

// checkDraft refuses a draft that would be the whole clip.
func (m *many) checkDraft(cl clip) error {
	if m.drafting == 0 {
		return nil
	}
	s, err := kandinsky5.Resolve(cl.job.checkpoint.Config, cl.job.request)
	if err != nil {
		return badInput(err)
	}
	if m.drafting >= s.Steps {
		return badInputf("--draft-steps %d: the clip has %d steps: use 1 to %d", m.drafting, s.Steps, s.Steps-1)
	}
	return nil
}

// drafted keeps a draft: first it goes on the sheet, then its state to the disk, then into the batch. A run that is killed in
// between finds out which of them was done.
func (m *many) drafted(ctx context.Context, cl clip, made *kandinsky5.Result) error {
	m.batch.Drafts = m.sheet.add(ctx, made.Clip, m.draftLabel(cl, made.Settings), m.log)
	if err := m.keeper.saveDraft(); err != nil {
		return fmt.Errorf("the draft's state cannot be saved: %w", err)
	}
	return m.enter(cl)
}

// draftIsThere takes a draft whose state was saved when an earlier run was killed: the sheet has it.
func (m *many) draftIsThere(cl clip) error {
	m.batch.Drafts = m.sheet.whole()
	return m.enter(cl)
}

func (m *many) enter(cl clip) error {
	m.entry(cl).Status, m.progress = clipDrafted, true
	return m.record()
}

// draftLabel is what stands over a draft on the sheet: how --continue names it comes first.
func (m *many) draftLabel(cl clip, s kandinsky5.Settings) string {
	label := fmt.Sprintf("%s, step %d of %d", cl.where, m.drafting, s.Steps)
	if !strings.HasPrefix(cl.where, "seed ") {
		label = fmt.Sprintf("%d: %s, step %d of %d", cl.number, s.Prompt, m.drafting, s.Steps)
	}
	return label
}

// draft is what --json prints of one.
type draft struct {
	Number uint64 `json:"number"` // what --continue names it by
	From   string `json:"from"`
	Output string `json:"output"` // what it will be
	State  string `json:"state"`
}

// draftsMade is what --json prints of all.
type draftsMade struct {
	Batch        string  `json:"batch"`
	ContactSheet string  `json:"contact_sheet"`
	Steps        int     `json:"draft_steps"`
	Drafts       []draft `json:"drafts"`
}

func (m *many) drafts() draftsMade {
	out := draftsMade{m.path, m.sheet.file, m.drafting, []draft{}}
	for _, c := range m.batch.Clips {
		if c.Status == clipDrafted {
			out.Drafts = append(out.Drafts, draft{c.Number, c.Where, c.Output, c.statePath()})
		}
	}
	return out
}

// drop removes the drafts that are left: their states, then the batch.
func (m *many) drop() error {
	if err := m.batch.removeStates(true); err != nil {
		return err
	}
	m.log.Info("the drafts that were left are removed", "drafts", m.numbers(clipDrafted))
	return os.Remove(m.path)
}

// close ends a run that has made all it was to make.
func (m *many) close() error {
	m.keeper.unhandle()
	if m.batch.count(clipDone) == len(m.batch.Clips) {
		if err := os.Remove(m.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.log.Warn("the clips are written, their batch could not be removed", "error", err)
		}
		return nil
	}
	switch left := m.numbers(clipDrafted); {
	case m.drafting > 0:
		m.log.Info("drafts are made; to finish some of " + left + ": vkandinsky generate --resume " + shellWord(m.path) + " --continue LIST")
	case m.pick != "" && left != "none":
		m.log.Info("drafts that are left stay for another --continue; --continue none removes them", "drafts", left)
	}
	return nil
}
