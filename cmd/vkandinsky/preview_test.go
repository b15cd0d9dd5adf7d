package main

import (
	"bytes"
	"image/gif"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/termpic"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// previewFile reads a preview.
func previewFile(t *testing.T, path string) *gif.GIF {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := gif.DecodeAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestARunLeavesItsPreview(t *testing.T) {
	output, err := whole() // with --preview=4
	if err != nil {
		t.Fatal(err)
	}
	g := previewFile(t, strings.TrimSuffix(output, ".png")+".preview.gif")
	if len(g.Image) != 1 || g.Config.Width != 8 || g.Config.Height != 8 {
		t.Errorf("the preview of 16×16 pixels has %d frames of %d×%d", len(g.Image), g.Config.Width, g.Config.Height)
	}
	start(t, picture(output, "--preview=-1")...).wantLine(t, exitBadInput, "--preview=-1")
}

func TestPreviewsAreDrawnBesideTheRun(t *testing.T) {
	var out, log bytes.Buffer
	dir := t.TempDir()
	p, err := newPreviewer(previewFlags{every: 2}, filepath.Join(dir, "x.mp4"), &console{err: &out}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p.protocol = termpic.Kitty
	drawing, held := make(chan struct{}), make(chan struct{})
	asked := []int{}
	for step := 1; step <= 8; step++ {
		p.offer(kandinsky5.Finished{Step: step, Steps: 9, Took: time.Hour, Preview: func() *kandinsky5.Clip {
			if asked = append(asked, step); len(asked) == 1 {
				close(drawing)
				<-held
			}
			return media.NewClip(3, 2, 4)
		}})
		if step == 2 {
			<-drawing // it is at work from here on: of the others only the next that is due finds room
		}
	}
	close(held)
	stats := p.finish()
	if stats.Drawn != 2 || stats.LeftOut != 2 || stats.Steps != 8*time.Hour || stats.Held <= 0 || stats.Held > time.Minute {
		t.Errorf("the cost is %+v", stats)
	}
	if len(asked) != 2 || asked[0] != 2 || asked[1] != 4 {
		t.Errorf("drew after steps %v, want 2 and 4", asked)
	}
	if g := previewFile(t, filepath.Join(dir, "x.preview.gif")); len(g.Image) != 3 || g.Config.Width != 16 || g.Config.Height != 8 {
		t.Errorf("the preview has %d frames of %d×%d", len(g.Image), g.Config.Width, g.Config.Height)
	}
	if n := strings.Count(out.String(), "\x1b_Ga=T"); n != 2 || log.Len() > 0 {
		t.Errorf("%d pictures on the terminal, log %q", n, log.String())
	}
}

// TestPreviewsKeepToTheirShare has 500 steps of 10 ms, and a clock that only drawing moves, by 3 ms each: one in thirty steps
// may have one, and the last, which no step follows.
func TestPreviewsKeepToTheirShare(t *testing.T) {
	p, err := newPreviewer(previewFlags{every: 1}, filepath.Join(t.TempDir(), "x.mp4"), &console{err: &bytes.Buffer{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var clock atomic.Int64
	p.now = func() time.Time { return time.UnixMilli(clock.Load()) }
	draw := func() *kandinsky5.Clip {
		clock.Add(3)
		return media.NewClip(1, 2, 2)
	}
	const steps = 500
	settled := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.stats.Drawn + p.stats.LeftOut
	}
	for step := 1; step <= steps; step++ {
		p.offer(kandinsky5.Finished{Step: step, Steps: steps, Took: 10 * time.Millisecond, Preview: draw})
		for settled() < step {
			time.Sleep(50 * time.Microsecond)
		}
	}
	// 1 % of 5 s is 50 ms, which 16 drawings keep to; with steps so short the first one alone is before its time.
	s := *p.finish()
	if s.Drawn != 17 || s.LeftOut != steps-17 || s.Drawing != 48*time.Millisecond || s.Steps != 5*time.Second {
		t.Errorf("%+v", s)
	}
	if row := s.row(); !strings.Contains(row, "17 drawn, 483 left out") || !strings.Contains(row, "(0.96 %)") {
		t.Errorf("the row is %q", row)
	}
}

func TestAPreviewThatCannotBeWrittenIsAWarning(t *testing.T) {
	var out, log bytes.Buffer
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := newPreviewer(previewFlags{every: 1}, filepath.Join(dir, "x.mp4"), &console{err: &out}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= 3; step++ {
		p.work <- drawing{func() *kandinsky5.Clip { return media.NewClip(1, 2, 2) }, false}
	}
	p.close()
	if n := strings.Count(log.String(), "the preview cannot be drawn"); n != 1 {
		t.Errorf("warned %d times: %s", n, log.String())
	}
	if _, err := newPreviewer(previewFlags{every: 1}, filepath.Join(dir, "x.mp4"), &console{err: &out}, slog.Default()); err == nil {
		t.Error("a folder that is not there is no mistake")
	}
}

// BenchmarkPreview draws what a step of 5 s of 768×512 predicts: 31 frames of 96×64 latents.
func BenchmarkPreview(b *testing.B) {
	p, err := newPreviewer(previewFlags{every: 1}, filepath.Join(b.TempDir(), "x.mp4"), &console{err: &bytes.Buffer{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer p.close()
	small := media.NewClip(31, 64, 96)
	random := rand.New(rand.NewPCG(1, 2))
	for k := range small.Pix {
		small.Pix[k] = uint8(random.Uint32())
	}
	for b.Loop() {
		if _, err := p.draw(small); err != nil {
			b.Fatal(err)
		}
	}
}
