package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// printed is what --print-prompt --json prints of a clip.
type printed struct {
	Number   uint64 `json:"number,omitempty"` // its seed, or its place in the prompt file; none of a single clip
	From     string `json:"from,omitempty"`   // where it stands
	Prompt   string `json:"prompt"`
	Expanded string `json:"expanded_prompt"`
	Seed     uint64 `json:"seed"`
}

// printPrompt expands the prompt and prints nothing else.
func (o *generateOptions) printPrompt(ctx context.Context, c *console, j *job, log *slog.Logger) error {
	show := !o.log.quiet
	var text string
	err := j.run(ctx, c, log, show, func(d *engine.Device, p *kandinsky5.Pipeline) (err error) {
		if err := j.admit(ctx, c, d, p, show); err != nil {
			return err
		}
		text, err = p.ExpandPrompt(ctx, j.request)
		return err
	})
	switch {
	case err != nil:
		return err
	case o.output.json:
		return c.printJSON(printed{Prompt: j.request.Prompt, Expanded: text, Seed: j.request.Seed})
	}
	_, err = fmt.Fprintln(c.out, text)
	return err
}

// printPrompts expands the prompts of many clips. Each is printed as soon as it is written, as an entry of a prompt file that makes
// the clips of these prompts; with --json all are printed at the end, also those before an error.
func (o *generateOptions) printPrompts(ctx context.Context, c *console, f *flags, log *slog.Logger) error {
	if o.keep.resume != "" || o.many.pick != "" || o.many.draft != 0 {
		return badInputf("--print-prompt makes no clips: leave --resume, --continue and --draft-steps out")
	}
	orders, err := o.many.orders(f)
	if err != nil {
		return err
	}
	m := &many{log: log, batch: newBatch(orders)}
	if err := m.check(o, f); err != nil {
		return err
	}
	list := []printed{}
	err = m.expand(ctx, c, !o.log.quiet, func(cl clip, text string) error {
		if o.output.json {
			list = append(list, printed{cl.number, cl.where, cl.job.request.Prompt, text, cl.job.request.Seed})
			return nil
		}
		return promptfile.Write(c.out, m.entry(cl).expanded(text))
	})
	if o.output.json && (err == nil || len(list) > 0) {
		if printErr := c.printJSON(list); err == nil {
			err = printErr
		}
	}
	return err
}

// expand lets the text encoder write out the prompts of all clips.
func (m *many) expand(ctx context.Context, c *console, show bool, written func(clip, string) error) error {
	j := *m.clips[0].job
	return j.run(ctx, c, m.log, show, func(d *engine.Device, p *kandinsky5.Pipeline) error {
		m.stages = progressFuncs{j.request.Expanding, j.request.Progress, j.request.Waiting}
		if err := m.admit(ctx, c, d, p, show); err != nil {
			return err
		}
		_, err := p.ExpandPrompts(ctx, len(m.clips), m.request, func(k int, text string) error { return written(m.clips[k], text) })
		return err
	})
}

// expanded is the entry of a prompt file that makes the clip of a prompt that is written out already.
func (c *batchClip) expanded(text string) promptfile.Job {
	values := []promptfile.Value{{Name: "prompt", Text: printable(text)}}
	for _, v := range c.Values {
		if v.Name != "prompt" && v.Name != "expand_prompt" {
			values = append(values, v)
		}
	}
	return promptfile.Job{Values: append(values, promptfile.Value{Name: "expand_prompt", Text: "false"})}
}
