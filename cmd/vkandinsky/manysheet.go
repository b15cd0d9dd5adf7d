package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/media"
)

// sheet is a contact sheet with a row of frames for every clip, which grows with them: it is on the disk after each.
type sheet struct {
	file   string // "" for none
	height int    // rows of pixels that belong to clips that are done
	image  *media.Image
	broken bool // it cannot be written
}

// openSheet names the contact sheet over all clips, or over all drafts, and takes up what is drawn of it.
func (m *many) openSheet(o *generateOptions, f *flags) error {
	known, suffix := m.batch.Sheet, "-seeds.png"
	switch {
	case m.drafting > 0:
		known, suffix = m.batch.Drafts, "-drafts.png"
	case o.many.seeds == "":
		return nil
	}
	path := o.output.sheet
	if path == "" {
		base := o.base()
		path = strings.TrimSuffix(base, filepath.Ext(base)) + suffix
	}
	if !strings.EqualFold(filepath.Ext(path), ".png") {
		return badInputf("--contact-sheet %s: the sheet is a .png", path)
	}
	if err := media.CheckOutput(path); err != nil {
		return badInput(err)
	}
	m.sheet.file = path
	if m.drafting > 0 {
		m.batch.Drafts = m.sheet.known()
	} else {
		m.batch.Sheet = m.sheet.known()
	}
	if known.File == "" || m.pick == pickNone {
		return nil
	}
	if whole, err := filepath.Abs(path); err != nil || whole != known.File {
		return err // another is begun
	}
	return m.sheet.load(known, m.log)
}

// load reads what an earlier run has drawn. One that is gone is a warning.
func (s *sheet) load(known batchSheet, log *slog.Logger) error {
	image, err := media.LoadImage(known.File)
	if err != nil || image.Height < known.Height {
		if err == nil {
			err = errors.New("it is another picture")
		}
		if known.Height > 0 {
			log.Warn("the contact sheet lacks the clips of the run before", "file", known.File, "reason", err)
		}
		return nil
	}
	s.image, s.height = image, known.Height
	return nil
}

// add draws a row for a clip and writes the sheet. A sheet that cannot be written is a warning.
func (s *sheet) add(ctx context.Context, clip *media.Clip, label string, log *slog.Logger) batchSheet {
	if s.file == "" {
		return batchSheet{}
	}
	if err := s.draw(ctx, clip, label); err != nil && !s.broken {
		s.broken = true
		log.Warn("the contact sheet cannot be written; the run goes on", "file", s.file, "error", err)
	}
	return s.known()
}

func (s *sheet) draw(ctx context.Context, clip *media.Clip, label string) error {
	strip, err := media.Strip(clip, label, media.SheetOptions{})
	if err != nil {
		return err
	}
	rows := []*media.Image{strip}
	if s.height > 0 { // what is below was drawn by a run that was killed before it could say so
		done := &media.Image{Height: s.height, Width: s.image.Width, Pix: s.image.Pix[:3*s.height*s.image.Width]}
		rows = []*media.Image{done, strip}
	}
	image, err := media.Stack(rows)
	if err != nil {
		return err
	}
	if err := media.WritePNG(ctx, s.file, image); err != nil {
		return err
	}
	s.image, s.height = image, image.Height
	return nil
}

// whole takes all that is drawn for clips that are done.
func (s *sheet) whole() batchSheet {
	if s.image != nil {
		s.height = s.image.Height
	}
	return s.known()
}

func (s *sheet) known() batchSheet {
	path, err := filepath.Abs(s.file)
	if err != nil {
		path = s.file
	}
	return batchSheet{path, s.height}
}
