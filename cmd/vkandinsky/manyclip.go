package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// clip is one of many, checked.
type clip struct {
	order
	index   int // in the batch
	options *generateOptions
	job     *job
	notes   map[string]string // of its states
	resumed bool              // it has a state that it goes on from
	alike   string            // the same for clips that take the same memory
}

// pictureCache is the picture that was read last, as clips in a row often begin with the same, and its digest.
type pictureCache struct {
	image *kandinsky5.Image
	sum   string
}

// check turns every order that is to be carried out into a clip. Nothing has been done when one of them is refused.
func (m *many) check(o *generateOptions, f *flags) error {
	chosen, err := m.choose()
	if err != nil {
		return err
	}
	files := map[string]string{} // to where they were asked for
	for path, from := range map[string]string{m.sheet.file: "the contact sheet", m.path: "the batch"} {
		if whole, err := filepath.Abs(path); path != "" && err == nil {
			files[whole] = from
		}
	}
	for _, index := range chosen {
		var shared *job
		if len(m.clips) > 0 {
			shared = m.clips[0].job
		}
		cl, err := m.clip(o, f, index, shared)
		if err == nil {
			err = cl.claim(files)
		}
		if err != nil {
			return badInputf("%s: %w", m.batch.Clips[index].Where, err)
		}
		m.clips = append(m.clips, cl)
	}
	return m.sameConfig()
}

// clip reads the command line anew, with an order's values in it.
func (m *many) clip(o *generateOptions, f *flags, index int, shared *job) (clip, error) {
	log, entry := m.log, &m.batch.Clips[index]
	if shared != nil {
		log = slog.New(slog.DiscardHandler) // what is to be said about all was said of the first
	}
	cl := clip{order: order{entry.Where, entry.Values, entry.Suffix, entry.Number}, index: index}
	set, err := cl.read(f, entry.Output, log)
	if err != nil {
		return cl, err
	}
	own := cl.options
	if shared != nil {
		own.lora.checked = shared.options.LoRA
	}
	if m.resumed {
		if cl.resumed, err = m.resume(own, *entry); err != nil {
			return cl, err
		}
	}
	if err := own.checkOutput(); err != nil {
		return cl, err
	}
	if cl.job, err = own.check(set, log, shared); err != nil {
		return cl, err
	}
	if err := m.checkDraft(cl); err != nil {
		return cl, err
	}
	if err := entry.sameAdapters(cl.job.options.LoRA); err != nil {
		return cl, err
	}
	if cl.notes, err = own.remember(set); err != nil {
		return cl, err
	}
	cl.notes[noteBatch], cl.alike = m.batch.ID, planKey(own, cl.job.request)
	cl.job.files = own.output.files
	if own.request.picture != nil {
		cl.job.request.Image = nil // there may be many: it is read again when its turn comes, as the state is
	}
	cl.job.request.Resume, own.keep.state = nil, nil
	own.repeat = nil // nothing to be compared with: this is another clip
	return cl, entry.fill(own)
}

// read sets the clip's own flags. output is its file's name where that is known from before.
func (cl *clip) read(f *flags, output string, log *slog.Logger) (*flags, error) {
	own, set := &generateOptions{}, &flags{}
	own.model.tinyDefault = true
	own.register(set)
	for _, g := range f.given {
		if err := set.set(g[0], g[1]); err != nil {
			return nil, err
		}
	}
	named := false
	for _, v := range cl.values {
		name, value := string(dashes(nil, v.Name)), v.Text
		switch v.Name {
		case "output":
			own.output.file, named = value, true
			continue
		case "lora":
			if own.lora.replace(); value == "" {
				set.lookup(name).Changed = true // to none
				continue
			}
		case "expand_prompt":
			value = map[string]string{"true": "1", "false": "0"}[value]
		}
		if err := set.set(name, value); err != nil {
			return nil, err
		}
	}
	if own.from != "" {
		if err := own.openRepeat(set, log); err != nil {
			return nil, err
		}
	}
	if own.many.seeds != "" {
		own.output.sheet = "" // there is one over all
	}
	if output != "" {
		own.output.file, named = output, true
	}
	own.name(cl.suffix, named)
	cl.options = own
	return set, nil
}

// resume looks for the clip's state, which then decides about all that the clip is.
func (m *many) resume(own *generateOptions, entry batchClip) (bool, error) {
	s, err := m.batch.state(entry)
	switch {
	case err != nil:
		return false, err
	case s == nil && entry.Status == clipDrafted:
		return false, fmt.Errorf("the draft's state %s is gone, or is that of another run: make the draft again", entry.statePath())
	}
	own.keep.state = s
	return s != nil, nil
}

// fill keeps what the clip's order has come to, or compares it with what it was.
func (c *batchClip) fill(own *generateOptions) (err error) {
	if c.Output, err = filepath.Abs(own.output.file); err != nil {
		return err
	}
	if p := own.request.picture; p != nil {
		if c.Picture != "" && c.Picture != p.SHA256 {
			return fmt.Errorf("the picture %s has changed since the batch was begun", p.Path)
		}
		c.Picture = p.SHA256
	}
	for k, v := range c.Values { // so that it may be continued from anywhere
		switch v.Name {
		case "image", "output":
			if c.Values[k].Text, err = filepath.Abs(v.Text); err != nil {
				return err
			}
		case "lora":
			c.Values[k].Text = absoluteLoRA(v.Text)
		}
	}
	return nil
}

// name gives the clip's files names of their own: name-001.mp4 for -o name.mp4, and so on.
func (o *generateOptions) name(suffix string, named bool) {
	out := &o.output
	if !named {
		if out.file == "" {
			out.file = o.base() + "." + o.request.extension()
		}
		out.file = numbered(out.file, suffix)
	}
	for _, path := range []*string{&out.frames, &out.sheet, &out.files.picture, &out.files.trace, &o.receipt.file} {
		if *path != "" {
			*path = numbered(*path, suffix)
		}
	}
}

// numbered puts a suffix before a path's extension.
func numbered(path, suffix string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + suffix + ext
}

// claim refuses files that another clip writes.
func (cl clip) claim(files map[string]string) error {
	out := &cl.options.output
	paths := []string{out.file, out.frames, out.sheet, out.files.picture, out.files.trace}
	if !cl.options.receipt.none {
		paths = append(paths, cl.options.receipt.file)
	}
	if cl.options.preview.every > 0 {
		paths = append(paths, previewPath(out.file))
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		whole, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if other, ok := files[whole]; ok {
			return fmt.Errorf("%s is written by %s too: name another output", path, other)
		}
		files[whole] = cl.where
	}
	return nil
}

// request is the k-th clip's, with its picture or its state.
func (m *many) request(k int) (r kandinsky5.Request, err error) {
	cl := m.clips[k]
	r = cl.job.request
	r.Expanding, r.Progress, r.Waiting, r.LoRA = m.stages.expanding, m.stages.progress, m.stages.waiting, &cl.job.options.LoRA
	was := cl.options.request.picture
	switch {
	case cl.resumed:
		if r.Resume, err = m.batch.state(*m.entry(cl)); err == nil && r.Resume == nil {
			err = errors.New("its state has been taken away since the start")
		}
		return r, err
	case was == nil:
		return r, nil
	}
	if m.image.sum != was.SHA256 {
		image, now, err := loadPicture(was.Path)
		if err != nil {
			return r, err
		}
		if now.SHA256 != was.SHA256 {
			return r, fmt.Errorf("%s: the picture %s has changed since the start", cl.where, was.Path)
		}
		m.image = pictureCache{image, was.SHA256}
	}
	r.Image = m.image.image
	return r, nil
}

// admit plans every clip, those that are alike once, and prints the choice for the first.
func (m *many) admit(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, show bool) error {
	planned := map[string]bool{}
	for k, cl := range m.clips {
		if planned[cl.alike] {
			continue
		}
		r, err := m.request(k)
		if err != nil {
			return err
		}
		j := *cl.job
		j.request, planned[cl.alike] = r, true
		j.stopAfter, j.clips = m.drafting, len(m.clips)
		if err := j.admit(ctx, c, d, p, show && k == 0); err != nil {
			return fmt.Errorf("%s: %w", cl.where, err)
		}
	}
	return nil
}

// planKey is the same for requests that take the same memory.
func planKey(own *generateOptions, r kandinsky5.Request) string {
	if r.Resume != nil {
		s := r.Resume.Settings
		return fmt.Sprint("resumed ", s.Geometry, s.Steps, s.Guidance, s.MagCache, own.lora.adapters)
	}
	key := fmt.Sprint(r.Width, r.Height, r.Seconds, r.Steps, r.Guidance, r.MagCache, r.ExpandPrompt, own.lora.adapters)
	if picture := own.request.picture; picture != nil {
		key += picture.SHA256
	}
	if r.ExpandPrompt {
		key += r.Prompt // its length decides
	}
	return key
}
