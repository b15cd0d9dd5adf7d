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
	"sync"
	"time"

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
	f.IntVar(&p.every, "preview", 0, "after every so many `STEPS` (--preview alone: after each) draw the clip as it is predicted then, small and blurred, into OUTPUT.preview.gif, and in terminals that show pictures (Kitty, iTerm2, WezTerm; foot and others a frame by sixels); steps are left out where drawing would take more than 1 % of their time")
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

// previewShare is how much of the steps' time drawing may take, as if it took all cores from them.
const previewShare = 0.01

// previewStats say what previews cost.
type previewStats struct {
	Drawn   int           `json:"drawn"`
	LeftOut int           `json:"left_out"`   // due while an earlier one was drawn, or while all took more than their share
	Drawing time.Duration `json:"drawing_ns"` // beside steps; what is drawn beside decoding is not in it
	Held    time.Duration `json:"held_ns"`    // of the run's own time, between steps
	Steps   time.Duration `json:"steps_ns"`   // what the steps took meanwhile
}

// row is what --stats prints.
func (s previewStats) row() string {
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / max(s.Steps.Seconds(), 1e-9) }
	return fmt.Sprintf("previews\t%d drawn, %d left out; drawing took %s beside %s of steps (%.2f %%), the run waited %s for it (%.4f %%)",
		s.Drawn, s.LeftOut, seconds(s.Drawing), seconds(s.Steps), percent(s.Drawing), seconds(s.Held), percent(s.Held))
}

// previewer draws beside the run. It never makes it wait: a step that comes while an earlier one is drawn is left out, and so
// are steps until what was drawn is no more than previewShare of what they took.
type previewer struct {
	every    int
	until    int // the last step that is made where that is not the clip's; 0: the clip's
	path     string
	protocol termpic.Protocol
	out      *console
	log      *slog.Logger
	work     chan drawing
	done     chan struct{}
	over     sync.Once
	now      func() time.Time

	mu    sync.Mutex
	stats previewStats
	last  time.Duration // what the last drawing took
}

// drawing is a preview that is to be drawn.
type drawing struct {
	picture func() *kandinsky5.Clip
	free    bool // no step follows that it could slow
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
		work: make(chan drawing, 1), done: make(chan struct{}), now: time.Now}
	if err := media.CheckFile(out.path); err != nil {
		return nil, badInput(err)
	}
	if progress.IsTerminal(c.err) {
		out.protocol = termpic.Detect(os.Getenv)
	}
	go out.run()
	return out, nil
}

// offer takes a step's preview if it is due, nothing is being drawn, and drawing has not taken more than its share.
func (p *previewer) offer(f kandinsky5.Finished) {
	if p == nil {
		return
	}
	begin := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Steps += f.Took
	last := f.Step == f.Steps || f.Step == p.until
	if f.Step%p.every != 0 && !last {
		return
	}
	took := false
	if share := time.Duration(previewShare * float64(p.stats.Steps)); last || p.stats.Drawn == 0 || p.stats.Drawing+p.last <= share {
		select {
		case p.work <- drawing{f.Preview, last}:
			took = true
		default:
		}
	}
	if !took {
		p.stats.LeftOut++
	}
	p.stats.Held += p.now().Sub(begin)
}

// close waits for what is being drawn. It may be called again.
func (p *previewer) close() {
	if p != nil {
		p.over.Do(func() { close(p.work) })
		<-p.done
	}
}

// finish closes and tells what it has cost; nil where there were no previews.
func (p *previewer) finish() *previewStats {
	if p == nil {
		return nil
	}
	p.close()
	return &p.stats
}

func (p *previewer) run() {
	defer close(p.done)
	failed := false
	for d := range p.work {
		begin := p.now()
		text, err := p.draw(d.picture())
		p.drew(p.now().Sub(begin), d.free)
		if err == nil && text != "" {
			_, err = fmt.Fprintln(p.out, text) // a terminal may take its time, which is no work
		}
		if err != nil && !failed {
			failed = true
			p.log.Warn("the preview cannot be drawn; the run goes on", "error", err)
		}
	}
}

// drew counts a drawing.
func (p *previewer) drew(took time.Duration, free bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Drawn++
	if p.last = took; !free {
		p.stats.Drawing += took
	}
}

// draw writes the file and returns what shows it in the terminal.
func (p *previewer) draw(small *kandinsky5.Clip) (string, error) {
	clip := media.NewClip(small.Frames, previewScale*small.Height, previewScale*small.Width)
	for k := range small.Frames {
		copy(clip.Frame(k).Pix, media.ResizeBilinearAntialias(small.Frame(k), clip.Height, clip.Width).Pix)
	}
	if err := media.WriteVideo(context.Background(), p.path, clip, previewRate, media.VideoOptions{}); err != nil || p.protocol == termpic.None {
		return "", err
	}
	file, err := os.ReadFile(p.path)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	err = termpic.Write(&text, p.protocol, pictures(clip), file, 1000/previewRate)
	return text.String(), err
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
