package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/progress"
	"github.com/vkandinsky/vkandinsky/internal/termpic"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// previewFlags ask for pictures of a clip in the making.
type previewFlags struct{ every int }

func (p *previewFlags) register(f *pflag.FlagSet) {
	f.IntVar(&p.every, "preview", 0, "after every so many `STEPS` (--preview alone: after each) draw the clip as it is predicted then, small and blurred, into OUTPUT.preview.gif, and in terminals that show pictures (Kitty, iTerm2, WezTerm; foot and others a frame by sixels)")
	f.Lookup("preview").NoOptDefVal = "1"
}

// previewPath is where an output's preview goes.
func previewPath(output string) string {
	return strings.TrimSuffix(output, filepath.Ext(output)) + ".preview.gif"
}

// previewScale is how many pixels a latent is drawn as in each direction; in the video it is eight.
const previewScale = 4

// previewRate is how many frames of latents make a second.
const previewRate = configs.FramesPerSecond / configs.TemporalStride

// previewer draws beside the run. It never makes it wait: a step that comes while an earlier one is drawn is left out.
type previewer struct {
	every    int
	path     string
	protocol termpic.Protocol
	out      *console
	log      *slog.Logger
	work     chan func() *kandinsky5.Clip
	done     chan struct{}
}

// newPreviewer checks that the picture can be written, beside the output. nil where no previews are asked for, which does
// nothing. It must be closed.
func newPreviewer(p previewFlags, output string, c *console, log *slog.Logger) (*previewer, error) {
	switch {
	case p.every < 0:
		return nil, badInputf("--preview=%d: use 1 or more", p.every)
	case p.every == 0:
		return nil, nil
	}
	out := &previewer{every: p.every, path: previewPath(output), out: c, log: log,
		work: make(chan func() *kandinsky5.Clip, 1), done: make(chan struct{})}
	if err := media.CheckFile(out.path); err != nil {
		return nil, badInput(err)
	}
	if progress.IsTerminal(c.err) {
		out.protocol = termpic.Detect(os.Getenv)
	}
	go out.run()
	return out, nil
}

// offer takes a step's preview if it is due and nothing is being drawn.
func (p *previewer) offer(f kandinsky5.Finished) {
	if p == nil || f.Step%p.every != 0 && f.Step != f.Steps {
		return
	}
	select {
	case p.work <- f.Preview:
	default:
	}
}

// close waits for what is being drawn.
func (p *previewer) close() {
	if p != nil {
		close(p.work)
		<-p.done
	}
}

func (p *previewer) run() {
	defer close(p.done)
	failed := false
	for preview := range p.work {
		if err := p.draw(preview()); err != nil && !failed {
			failed = true
			p.log.Warn("the preview cannot be drawn; the run goes on", "error", err)
		}
	}
}

// draw writes the file and shows it in the terminal.
func (p *previewer) draw(small *kandinsky5.Clip) error {
	clip := media.NewClip(small.Frames, previewScale*small.Height, previewScale*small.Width)
	for k := range small.Frames {
		copy(clip.Frame(k).Pix, media.ResizeBilinearAntialias(small.Frame(k), clip.Height, clip.Width).Pix)
	}
	if err := media.WriteVideo(context.Background(), p.path, clip, previewRate, media.VideoOptions{}); err != nil || p.protocol == termpic.None {
		return err
	}
	file, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := termpic.Write(&text, p.protocol, pictures(clip), file, 1000/previewRate); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "%s\n", text.Bytes())
	return err
}

// pictures are a clip's frames as the standard library has them.
func pictures(clip *kandinsky5.Clip) []*image.RGBA {
	out := make([]*image.RGBA, clip.Frames)
	for k := range out {
		out[k] = image.NewRGBA(image.Rect(0, 0, clip.Width, clip.Height))
		pix := clip.Frame(k).Pix
		for p := range clip.Width * clip.Height {
			copy(out[k].Pix[4*p:], pix[3*p:3*p+3])
			out[k].Pix[4*p+3] = 255
		}
	}
	return out
}
