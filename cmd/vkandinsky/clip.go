package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// made is a clip with all that its receipt says.
type made struct {
	result  *kandinsky5.Result
	device  receipt.Device
	weights []receipt.Weights
}

// generate makes the clip and collects what its receipt says.
func (o *generateOptions) generate(ctx context.Context, d *engine.Device, p *kandinsky5.Pipeline, j *job, log *slog.Logger) (m made, err error) {
	if j.request.Digests {
		p.PrepareFingerprints()
	}
	if o.repeat != nil {
		weights, err := fingerprints(ctx, p, log)
		if err != nil {
			return m, err
		}
		o.repeat.warn(log, weights)
		like := o.repeat.receipt.Known()
		j.request.Like = &like
	}
	if m.result, err = p.Generate(ctx, j.request); err != nil || !j.request.Digests {
		return m, err
	}
	m.device = describeDevice(d)
	m.weights, err = fingerprints(ctx, p, log)
	return m, err
}

// fingerprints are none, with a warning, where a file cannot be read again: a clip is worth more than its receipt.
func fingerprints(ctx context.Context, p *kandinsky5.Pipeline, log *slog.Logger) ([]receipt.Weights, error) {
	list, err := p.Fingerprints(ctx)
	if err != nil && ctx.Err() == nil {
		log.Warn("the receipt is without fingerprints of the weights", "reason", oneLine(err.Error()))
		return nil, nil
	}
	return list, err
}

// write writes the clip in all forms, and its receipt.
func (o *generateOptions) write(ctx context.Context, c *console, j *job, m made, log *slog.Logger) (g generated, err error) {
	if err := o.output.write(ctx, m.result.Clip, log); err != nil {
		return g, err
	}
	sentence := whereTheTimeWent(m.result.Stats)
	if err := o.output.files.write(m.result.Trace, o.output.file+": "+m.result.Settings.Prompt, sentence); err != nil {
		return g, err
	}
	if !o.log.quiet {
		fmt.Fprintln(c, sentence)
	}
	g = o.output.generated(m.result)
	g.Config, g.Previews = j.checkpoint.Config.Name, j.previews.finish()
	switch {
	case !j.request.Digests:
		return g, nil
	case j.keeper.early():
		log.Info("no receipt is written: the clip has fewer steps than its settings say")
		return g, nil
	}
	now, err := o.writeReceipt(j, m)
	if err == nil && o.repeat != nil {
		g.Repeats = o.repeat.judge(log, now)
	}
	g.Receipt = o.receipt.file
	return g, err
}

// extension is that of an output without a name.
func (r *requestFlags) extension() string {
	if r.size.seconds == 0 {
		return "png"
	}
	return "mp4"
}

// checkOutput fills in the names of the files and makes sure that all can be written.
func (o *generateOptions) checkOutput() error {
	if err := o.output.check(&o.request); err != nil || o.output.printPrompt {
		return err
	}
	from := ""
	if o.repeat != nil {
		from = o.repeat.file
	}
	return o.receipt.check(&o.output, from)
}

// decide fills in what a request leaves to the checkpoint and to other flags.
func (o *generateOptions) decide(j *job, f *flags, log *slog.Logger) (err error) {
	j.request.Digests = !o.receipt.none && !j.promptOnly
	if o.keep.state != nil {
		return nil // the state knows
	}
	if o.repeat != nil && o.repeat.written != "" && !j.promptOnly {
		j.request.ExpandPrompt, j.request.ExpandedPrompt = true, o.repeat.written
		return nil
	}
	j.request.ExpandPrompt, err = o.request.expands(f, j.checkpoint.Config, j.checkpoint, j.promptOnly, log)
	return err
}
