package main

import (
	"bytes"
	"image/gif"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		p.offer(kandinsky5.Finished{Step: step, Steps: 9, Preview: func() *kandinsky5.Clip {
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
	p.close()
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
		p.work <- func() *kandinsky5.Clip { return media.NewClip(1, 2, 2) }
	}
	p.close()
	if n := strings.Count(log.String(), "the preview cannot be drawn"); n != 1 {
		t.Errorf("warned %d times: %s", n, log.String())
	}
	if _, err := newPreviewer(previewFlags{every: 1}, filepath.Join(dir, "x.mp4"), &console{err: &out}, slog.Default()); err == nil {
		t.Error("a folder that is not there is no mistake")
	}
}
