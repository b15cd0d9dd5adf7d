package media

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPNGAndFrames(t *testing.T) {
	clip := patchClip(12)
	dir := t.TempDir()
	var logged string
	opt := VideoOptions{Log: func(f string, a ...any) { logged += fmt.Sprintf(f, a...) }}
	path := filepath.Join(dir, "one.png")
	if err := WriteVideo(t.Context(), path, clip, 24, opt); err != nil {
		t.Fatal(err)
	}
	if worst, _ := largest(t, load(t, path), clip.Frame(0)); worst != 0 || !strings.Contains(logged, "first of 12") {
		t.Errorf("differs by %d, logged %q", worst, logged)
	}
	frames := filepath.Join(dir, "a", "b", "frames")
	for range 2 { // the second time into a folder that has them
		if err := WriteFrames(t.Context(), frames, clip); err != nil {
			t.Fatal(err)
		}
		for i := range clip.Frames {
			if worst, _ := largest(t, load(t, filepath.Join(frames, fmt.Sprintf("frame_%05d.png", i))), clip.Frame(i)); worst != 0 {
				t.Errorf("frame %d differs by %d", i, worst)
			}
		}
		if err := os.WriteFile(filepath.Join(frames, "notes.txt"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteFrames(t.Context(), frames, patchClip(2)); err != nil {
		t.Fatal(err)
	}
	onlyFiles(t, frames, "frame_00000.png", "frame_00001.png", "notes.txt")
	onlyFiles(t, filepath.Join(dir, "a", "b"), "frames")
	if err := WriteFrames(t.Context(), path, clip); err == nil {
		t.Error("frames were written into a file")
	}
}

func TestContactSheet(t *testing.T) {
	clip := patchClip(25)
	sheet, err := ContactSheet(clip, SheetOptions{Frames: 6, Columns: 4})
	if err != nil {
		t.Fatal(err)
	}
	if sheet.Width != 4*(64+4)+4 || sheet.Height != 2*(32+4)+4 {
		t.Fatalf("%dx%d", sheet.Height, sheet.Width)
	}
	for cell, frame := range []int{0, 5, 10, 14, 19, 24} {
		y, x := 4+cell/4*36+8, 4+cell%4*68+8
		if got, want := sheet.Pix[3*(sheet.Width*y+x):][:3], clip.Frame(frame).Pix[3*(64*8+8):][:3]; !bytes.Equal(got, want) {
			t.Errorf("cell %d: %v, want frame %d's %v", cell, got, frame, want)
		}
	}
	one, err := ContactSheet(patchClip(1), SheetOptions{})
	if err != nil || one.Width != 72 {
		t.Errorf("one frame: %+v, %v", one, err)
	}
	path := filepath.Join(t.TempDir(), "sheet.png")
	if err := WriteContactSheet(t.Context(), path, clip, SheetOptions{Width: 16}); err != nil {
		t.Fatal(err)
	}
	if im := load(t, path); im.Width != 4*20+4 || im.Height != 3*12+4 {
		t.Errorf("%dx%d", im.Height, im.Width)
	}
	if _, err := ContactSheet(clip, SheetOptions{Columns: -1}); err == nil {
		t.Error("-1 columns were accepted")
	}
}

func TestOutputsAreRefusedBeforeWork(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"x", "x.avi", "x.jpg", filepath.Join("none", "x.mp4")} {
		if err := CheckOutput(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "d.mp4"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := CheckOutput(filepath.Join(dir, "d.mp4")); err == nil {
		t.Error("a folder was accepted")
	}
	if err := CheckOutput(filepath.Join(dir, "fine.gif")); err != nil {
		t.Error(err)
	}
	onlyFiles(t, dir, "d.mp4")
	for _, clip := range []*Clip{nil, {}, {Frames: 1, Height: 2, Width: 2, Pix: make([]uint8, 11)}} {
		if err := WriteVideo(t.Context(), filepath.Join(dir, "x.mp4"), clip, 24, VideoOptions{}); err == nil {
			t.Errorf("%+v was written", clip)
		}
	}
	if err := WriteVideo(t.Context(), filepath.Join(dir, "x.mp4"), NewClip(1, 15, 16), 24, VideoOptions{}); err == nil {
		t.Error("H.264 took an odd side")
	}
	if err := WriteVideo(t.Context(), filepath.Join(dir, "x.mp4"), patchClip(1), 0, VideoOptions{}); err == nil {
		t.Error("0 frames per second were accepted")
	}
}

func TestAnExistingFileSurvivesAFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gif")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteVideo(ctx, path, patchClip(2), 24, VideoOptions{}); err == nil {
		t.Fatal("no error")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
}
