package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// manyFlags ask for more clips than one.
type manyFlags struct {
	promptFile, seeds string
	draft             int    // steps
	pick              string // which drafts to finish
}

func (m *manyFlags) register(f *pflag.FlagSet) {
	f.StringVar(&m.promptFile, "prompt-file", "", "make a clip of every line of `FILE`, or of every entry of a .yaml list with settings of its own")
	f.StringVar(&m.seeds, "seeds", "", "make a clip of every seed of `LIST`, such as 1..8 or 3,7,20..22, and a contact sheet over all")
	f.IntVar(&m.draft, "draft-steps", 0, "with --seeds or --prompt-file: make the first `STEPS` of every clip's full schedule, save its state, and draw all as they are predicted then on a contact sheet; --continue finishes those that are liked")
	f.StringVar(&m.pick, "continue", "", "finish the drafts of these seeds (a prompt file's: of these entries, from 1) of `LIST`, or all, to the bytes of runs without a draft; none removes those that are left. --resume FILE.batch, or -o as it was given, names the drafts")
}

func (m *manyFlags) any() bool { return m.promptFile != "" || m.seeds != "" }

// manyAsked says whether the command line is about many clips.
func (o *generateOptions) manyAsked() bool {
	return o.many.any() || o.many.draft != 0 || o.many.pick != "" || strings.HasSuffix(o.keep.resume, batchSuffix)
}

// order is one clip of many, as it was asked for.
type order struct {
	where  string // where it stands, for people
	values []promptfile.Value
	suffix string // of the names of its files
	number uint64 // what --continue names it by
}

// orders lists the clips.
func (m *manyFlags) orders(f *flags) ([]order, error) {
	switch {
	case m.seeds != "" && m.promptFile != "":
		return nil, badInputf("--seeds and --prompt-file exclude each other: an entry of a .yaml prompt file may have a seed")
	case m.seeds != "":
		return seedOrders(f, m.seeds)
	case m.promptFile == "":
		return nil, badInputf("--draft-steps makes drafts of many clips: say with --seeds or --prompt-file of which")
	case f.changed("prompt"):
		return nil, badInputf("--prompt and --prompt-file exclude each other")
	}
	jobs, err := promptfile.Read(m.promptFile)
	if err != nil {
		return nil, badInput(err)
	}
	digits := max(3, len(fmt.Sprint(len(jobs))))
	out := make([]order, len(jobs))
	for k, j := range jobs {
		out[k] = order{fmt.Sprintf("%s:%d", m.promptFile, j.Line), j.Values, fmt.Sprintf("%0*d", digits, k+1), uint64(k + 1)}
	}
	return out, nil
}

// base is what the names of the files begin with where the command line does not say it.
func (o *generateOptions) base() string {
	switch {
	case o.output.file != "":
		return o.output.file
	case o.many.promptFile != "":
		base := filepath.Base(o.many.promptFile)
		return strings.TrimSuffix(base, filepath.Ext(base))
	}
	return "vkandinsky"
}

// many are clips made one after the other with one pipeline.
type many struct {
	log   *slog.Logger
	clips []clip // those that this run is to make
	image pictureCache

	batch    *batch
	path     string // of the batch's file
	resumed  bool   // it was there before
	begun    bool   // it is on the disk
	progress bool   // and this run has added to it
	drafting int    // steps of drafts; 0: clips are finished
	pick     string // what --continue has

	keeper   *keeper
	previews previewFlags
	stages   progressFuncs
	next     int   // of the clips, the first that is not written: a lost device is opened again in mid-work
	sheet    sheet // over all clips, or over all drafts
}

// progressFuncs are the ways of showing progress, the same for all clips.
type progressFuncs struct {
	expanding func(string)
	progress  func(kandinsky5.Progress)
	waiting   func(kandinsky5.Waiting)
}

// runMany makes all clips, after all of them have been checked.
func (o *generateOptions) runMany(ctx context.Context, c *console, cmd *command) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	if o.output.printPrompt {
		return o.printPrompts(ctx, c, &cmd.flags, log)
	}
	m := &many{log: log}
	if err := m.open(o, &cmd.flags); err != nil {
		return err
	}
	if o.many.pick == pickNone {
		return m.drop()
	}
	if err := m.check(o, &cmd.flags); err != nil {
		return err
	}
	if len(m.clips) == 0 {
		log.Info("all of these clips are there already")
		return m.close()
	}
	m.keeper = newManyKeeper(ctx, o.keep, log)
	list, err := m.run(ctx, c, o)
	if err != nil {
		err = m.failed(ctx, err)
	} else {
		err = m.close()
	}
	if printErr := m.report(o, c, list); err == nil {
		err = printErr
	}
	return err
}

// run makes the clips on the device and lists those that were made, also with an error.
func (m *many) run(ctx context.Context, c *console, o *generateOptions) ([]generated, error) {
	list := []generated{}
	j := *m.clips[0].job
	j.keeper = m.keeper
	err := j.run(ctx, c, m.log, !o.log.quiet, func(d *engine.Device, p *kandinsky5.Pipeline) error {
		m.stages = progressFuncs{j.request.Expanding, j.request.Progress, j.request.Waiting}
		return m.make(ctx, c, d, p, !o.log.quiet, func(g generated) error {
			list = append(list, g)
			switch {
			case m.drafting == 0 && !o.output.json:
				return o.output.report(c, g)
			case o.output.stats:
				return printStats(c, g)
			}
			return nil
		})
	})
	return list, err
}

// report prints what was made, also before an error.
func (m *many) report(o *generateOptions, c *console, list []generated) error {
	switch {
	case m.drafting > 0 && o.output.json:
		return c.printJSON(m.drafts())
	case m.drafting > 0 && m.sheet.height > 0:
		_, err := fmt.Fprintln(c.out, m.sheet.file)
		return err
	case m.drafting == 0 && o.output.json && len(list) > 0:
		return c.printJSON(list)
	}
	return nil
}

// make makes the clips: their texts first, so that the text encoders are loaded once, then one after the other. Every clip
// is written before the next is begun.
func (m *many) make(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, show bool, told func(generated) error) error {
	if err := m.admit(ctx, c, d, p, show); err != nil {
		return err
	}
	p.PrepareFingerprints()
	if m.batch.Weights != nil {
		if err := m.sameWeights(ctx, p); err != nil {
			return err
		}
	}
	prepared, err := m.prepare(ctx, p)
	if err != nil {
		return err
	}
	if err := m.sameWeights(ctx, p); err != nil {
		return err
	}
	if err := m.record(); err != nil {
		return err
	}
	for ; m.next < len(m.clips); m.next++ {
		k := m.next
		cl := m.clips[k]
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.keeper.enough() {
			return context.Canceled
		}
		m.log.Info("clip", "number", fmt.Sprintf("%d of %d", k+1, len(m.clips)), "from", cl.where, "output", cl.options.output.file)
		g, err := m.one(ctx, c, d, p, k, prepared[k])
		if err == nil {
			err = told(g)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", cl.where, err)
		}
		if m.drafting == 0 && m.keeper.early() {
			return kandinsky5.ErrStopped
		}
		delete(prepared, k)
	}
	return nil
}

// prepare encodes the texts of the clips that no state has them of.
func (m *many) prepare(ctx context.Context, p *kandinsky5.Pipeline) (map[int]*kandinsky5.Prepared, error) {
	var open []int
	for k := m.next; k < len(m.clips); k++ {
		if !m.clips[k].resumed && !m.keeper.at(m.clips[k].index) {
			open = append(open, k)
		}
	}
	list, err := p.Prepare(ctx, len(open), func(k int) (kandinsky5.Request, error) { return m.request(open[k]) })
	out := map[int]*kandinsky5.Prepared{}
	for k, prepared := range list {
		out[open[k]] = prepared
	}
	return out, err
}

// one makes a clip, or its draft.
func (m *many) one(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, k int, prepared *kandinsky5.Prepared) (g generated, err error) {
	cl := m.clips[k]
	j := *cl.job
	j.keeper = m.keeper
	if j.request, err = m.begin(k, prepared); err != nil {
		return g, err
	}
	if s := j.request.Resume; s != nil && m.drafting > 0 && s.Step >= m.drafting {
		return cl.options.output.generated(&kandinsky5.Result{Settings: s.Settings}), m.draftIsThere(cl)
	}
	if j.previews, err = newPreviewer(m.previews, cl.options.output.file, c, m.log); err != nil {
		return g, err
	}
	defer j.previews.close()
	if j.request.Preview = j.previews != nil; j.request.Preview {
		j.previews.until = m.drafting
	}
	j.request.AfterStep = func(f kandinsky5.Finished) (kandinsky5.Decision, error) {
		j.previews.offer(f)
		return m.keeper.afterStep(f)
	}
	made, err := cl.options.generate(ctx, d, p, &j, m.log)
	if err != nil {
		return g, err
	}
	if m.drafting > 0 {
		g = cl.options.output.generated(made.result)
		g.Previews = j.previews.finish()
		return g, m.drafted(ctx, cl, made.result)
	}
	if g, err = cl.options.write(ctx, c, &j, made, m.log); err != nil {
		return g, err
	}
	if m.sheet.file != "" {
		g.ContactSheet = m.sheet.file
	}
	return g, m.done(ctx, cl, made.result.Clip)
}

// begin turns the keeper to the k-th clip and returns what is to be done: from a state, or from prepared texts.
func (m *many) begin(k int, prepared *kandinsky5.Prepared) (kandinsky5.Request, error) {
	cl := m.clips[k]
	r, err := m.request(k)
	if err == nil {
		err = m.entry(cl).sameAdapters(cl.job.options.LoRA)
	}
	if err != nil {
		return r, err
	}
	path := m.entry(cl).statePath()
	if !cl.resumed && !m.keeper.at(cl.index) {
		warnOfState(path, m.log)
	}
	m.keeper.begin(cl.index, path, cl.notes, r.Resume, m.drafting)
	if r.Resume = m.keeper.state(); r.Resume == nil {
		r.Prepared = prepared
	}
	return r, nil
}

// done notes that a clip is written.
func (m *many) done(ctx context.Context, cl clip, frames *kandinsky5.Clip) error {
	if m.progress = true; m.keeper.early() {
		return nil // it is to be made again, whole
	}
	m.batch.Sheet = m.sheet.add(ctx, frames, cl.where, m.log)
	m.entry(cl).Status = clipDone
	if err := m.record(); err != nil {
		m.log.Warn("the batch's file cannot be written; the run goes on", "error", err)
	}
	m.keeper.clipWritten()
	return nil
}

// entry is the clip's in the batch.
func (m *many) entry(cl clip) *batchClip { return &m.batch.Clips[cl.index] }
