package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// manyFlags ask for more clips than one.
type manyFlags struct{ promptFile, seeds string }

func (m *manyFlags) register(f *pflag.FlagSet) {
	f.StringVar(&m.promptFile, "prompt-file", "", "make a clip of every line of `FILE`, or of every entry of a .yaml list with settings of its own")
	f.StringVar(&m.seeds, "seeds", "", "make a clip of every seed of `LIST`, such as 1..8 or 3,7,20..22, and a contact sheet over all")
}

func (m *manyFlags) any() bool { return m.promptFile != "" || m.seeds != "" }

// order is one clip of many, as it was asked for.
type order struct {
	where  string // where it stands, for people
	values []promptfile.Value
	suffix string // of the names of its files
}

// orders lists the clips.
func (m *manyFlags) orders(f *flags) ([]order, error) {
	switch {
	case m.seeds != "" && m.promptFile != "":
		return nil, badInputf("--seeds and --prompt-file exclude each other: an entry of a .yaml prompt file may have a seed")
	case m.seeds != "":
		return seedOrders(f, m.seeds)
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
		out[k] = order{fmt.Sprintf("%s:%d", m.promptFile, j.Line), j.Values, fmt.Sprintf("%0*d", digits, k+1)}
	}
	return out, nil
}

// clip is one of many, checked.
type clip struct {
	order
	options *generateOptions
	job     *job
}

// many are clips made one after the other with one pipeline.
type many struct {
	clips []clip
	log   *slog.Logger
	// The picture that was read last, as clips in a row often begin with the same, and its digest.
	image *kandinsky5.Image
	last  string

	next int // the first that is not written: a lost device is opened again in mid-work

	sheet  string // over all clips; "" for none
	strips []*media.Image
}

// runMany makes all clips, after all of them have been checked.
func (o *generateOptions) runMany(ctx context.Context, c *console, cmd *command) error {
	log, err := o.log.logger(c)
	if err != nil {
		return err
	}
	if o.output.printPrompt {
		return badInputf("--print-prompt prints one prompt: leave --prompt-file and --seeds out")
	}
	if err := o.refuseForMany(); err != nil {
		return err
	}
	m := &many{log: log}
	if o.many.seeds != "" {
		if m.sheet, err = o.sheetOverAll(); err != nil {
			return err
		}
	}
	if err := m.check(o, &cmd.flags); err != nil {
		return err
	}
	list := []generated{}
	first := m.clips[0].job
	err = first.run(ctx, c, log, !o.log.quiet, func(d *engine.Device, p *kandinsky5.Pipeline) error {
		return m.make(ctx, c, d, p, !o.log.quiet, func(g generated) error {
			list = append(list, g)
			switch {
			case !o.output.json:
				return o.output.report(c, g)
			case o.output.stats:
				return printStats(c, g.Stats, g.Plan)
			}
			return nil
		})
	})
	if o.output.json && len(list) > 0 { // also what was made before an error
		if printErr := c.printJSON(list); err == nil {
			err = printErr
		}
	}
	return err
}

// refuseForMany refuses what is about one clip.
func (o *generateOptions) refuseForMany() error {
	const remedy = "is about one clip: leave it, or --prompt-file and --seeds, out"
	switch {
	case o.keep.resume != "":
		return badInputf("--resume %s", remedy)
	case o.keep.every != 0:
		return badInputf("--checkpoint-every %s", remedy)
	case o.keep.keep:
		return badInputf("--keep-state %s", remedy)
	case o.keep.onInterrupt != interruptSave:
		return badInputf("--on-interrupt %s", remedy)
	case o.preview.every != 0:
		return badInputf("--preview %s", remedy)
	}
	return nil
}

// check turns every order into a clip. Nothing has been done when one of them is refused.
func (m *many) check(o *generateOptions, f *flags) error {
	orders, err := o.many.orders(f)
	if err != nil {
		return err
	}
	files := map[string]string{} // to where they were asked for
	if whole, err := filepath.Abs(m.sheet); m.sheet != "" && err == nil {
		files[whole] = "--seeds"
	}
	for _, order := range orders {
		var shared *job
		if len(m.clips) > 0 {
			shared = m.clips[0].job
		}
		cl, err := o.clip(f, order, shared, m.log)
		if err == nil {
			err = cl.claim(files)
		}
		if err != nil {
			return badInputf("%s: %w", order.where, err)
		}
		m.clips = append(m.clips, cl)
	}
	return nil
}

// clip reads the command line anew, with an order's values in it.
func (o *generateOptions) clip(f *flags, order order, shared *job, log *slog.Logger) (clip, error) {
	if shared != nil {
		log = slog.New(slog.DiscardHandler) // what is to be said about all was said of the first
	}
	own := &generateOptions{}
	if shared != nil {
		own.lora.checked = shared.options.LoRA
	}
	var set flags
	own.register(&set)
	if _, err := set.parse("generate", f.args); err != nil {
		return clip{}, err
	}
	named := false
	for _, v := range order.values {
		name, value := string(dashes(nil, v.Name)), v.Text
		switch v.Name {
		case "output":
			own.output.file, named = value, true
			continue
		case "lora":
			if own.lora.replace(); value == "" {
				continue // an empty list: none
			}
		case "expand_prompt":
			value = map[string]string{"true": "1", "false": "0"}[value]
		}
		if err := set.set(name, value); err != nil {
			return clip{}, err
		}
	}
	if own.from != "" {
		if err := own.openRepeat(&set, log); err != nil {
			return clip{}, err
		}
	}
	if own.many.seeds != "" {
		own.output.sheet = "" // there is one over all
	}
	own.name(order.suffix, named)
	if err := own.checkOutput(); err != nil {
		return clip{}, err
	}
	j, err := own.check(&set, log, shared)
	if err != nil {
		return clip{}, err
	}
	j.files = own.output.files
	j.request.Image = nil // there may be many: it is read again when its turn comes
	own.repeat = nil      // nothing to be compared with: this is another clip
	return clip{order, own, j}, nil
}

// name gives the clip's files names of their own: name-001.mp4 for -o name.mp4, and so on.
func (o *generateOptions) name(suffix string, named bool) {
	out := &o.output
	if !named {
		if out.file == "" {
			base := "vkandinsky"
			if o.many.promptFile != "" {
				base = filepath.Base(o.many.promptFile)
				base = strings.TrimSuffix(base, filepath.Ext(base))
			}
			out.file = base + "." + o.request.extension()
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

// make makes the clips: their texts first, so that the text encoders are loaded once, then one after the other. Every clip
// is written before the next is begun.
func (m *many) make(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, show bool, told func(generated) error) error {
	if err := m.admit(ctx, c, d, p, show); err != nil {
		return err
	}
	begin := m.next
	prepared, err := p.Prepare(ctx, len(m.clips)-begin, func(k int) (kandinsky5.Request, error) { return m.request(begin + k) })
	if err != nil {
		return err
	}
	for ; m.next < len(m.clips); m.next++ {
		k := m.next
		cl := m.clips[k]
		if err := ctx.Err(); err != nil {
			return err
		}
		m.log.Info("clip", "number", fmt.Sprintf("%d of %d", k+1, len(m.clips)), "from", cl.where, "output", cl.options.output.file)
		g, err := m.one(ctx, c, d, p, k, prepared[k-begin])
		if err == nil {
			err = told(g)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", cl.where, err)
		}
		prepared[k-begin] = nil
	}
	return m.writeSheet(ctx)
}

func (m *many) one(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, k int, prepared *kandinsky5.Prepared) (g generated, err error) {
	cl := m.clips[k]
	j := *cl.job
	if j.request, err = m.request(k); err != nil {
		return g, err
	}
	j.request.Prepared = prepared
	made, err := cl.options.generate(ctx, d, p, &j, m.log)
	if err != nil {
		return g, err
	}
	if g, err = cl.options.write(ctx, c, &j, made, m.log); err != nil || m.sheet == "" {
		return g, err
	}
	strip, err := media.Strip(made.result.Clip, cl.where, media.SheetOptions{})
	m.strips = append(m.strips, strip)
	g.ContactSheet = m.sheet
	return g, err
}

// request is the k-th clip's, with its picture and the first clip's ways of showing progress.
func (m *many) request(k int) (kandinsky5.Request, error) {
	cl, first := m.clips[k], m.clips[0].job
	r := cl.job.request
	r.Expanding, r.Progress = first.request.Expanding, first.request.Progress
	r.LoRA = &cl.job.options.LoRA
	was := cl.options.request.picture
	if was == nil {
		return r, nil
	}
	if m.last != was.SHA256 {
		image, now, err := loadPicture(was.Path)
		if err != nil {
			return r, err
		}
		if now.SHA256 != was.SHA256 {
			return r, fmt.Errorf("%s: the picture %s has changed since the start", cl.where, was.Path)
		}
		m.image, m.last = image, was.SHA256
	}
	r.Image = m.image
	return r, nil
}

// admit plans every clip, those that are alike once, and prints the choice for the first.
func (m *many) admit(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, show bool) error {
	planned := map[string]bool{}
	for k, cl := range m.clips {
		r, err := m.request(k)
		if err != nil {
			return err
		}
		key := planKey(r, cl.options.request.picture)
		if planned[key] {
			continue
		}
		j := *cl.job
		j.request, planned[key] = r, true
		if err := j.admit(ctx, c, d, p, show && k == 0); err != nil {
			return fmt.Errorf("%s: %w", cl.where, err)
		}
	}
	return nil
}

// planKey is the same for requests that take the same memory.
func planKey(r kandinsky5.Request, picture *receipt.Picture) string {
	key := fmt.Sprint(r.Width, r.Height, r.Seconds, r.Steps, r.Guidance, r.MagCache, r.ExpandPrompt, *r.LoRA)
	if picture != nil {
		key += picture.SHA256
	}
	if r.ExpandPrompt {
		key += r.Prompt // its length decides
	}
	return key
}
