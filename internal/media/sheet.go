package media

import (
	"context"
	"fmt"
)

// Layout of a contact sheet, in pixels.
const (
	sheetGap        = 4
	sheetBackground = 24
)

// SheetOptions lays out a contact sheet. The zero value is 12 frames in 4 columns of 256 pixels.
type SheetOptions struct {
	Frames  int // how many frames, at most all
	Columns int
	Width   int // of one frame, in pixels; frames are never enlarged
}

// ContactSheet puts evenly spaced frames, the first and the last among them, on one picture, in reading order.
func ContactSheet(clip *Clip, opt SheetOptions) (*Image, error) {
	if err := clip.check(); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		value    *int
		standard int
	}{{&opt.Frames, 12}, {&opt.Columns, 4}, {&opt.Width, 256}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
		if *d.value < 1 {
			return nil, fmt.Errorf("contact sheet: frames, columns and width must be positive, got %d", *d.value)
		}
	}
	n := min(opt.Frames, clip.Frames)
	columns := min(opt.Columns, n)
	lines := (n + columns - 1) / columns
	w := min(opt.Width, clip.Width)
	h := max(1, (clip.Height*w+clip.Width/2)/clip.Width)
	width, height := columns*(w+sheetGap)+sheetGap, lines*(h+sheetGap)+sheetGap
	if err := checkSize(width, height); err != nil {
		return nil, fmt.Errorf("contact sheet: %w", err)
	}
	sheet := NewImage(height, width)
	for i := range sheet.Pix {
		sheet.Pix[i] = sheetBackground
	}
	for i, frame := range SpacedFrames(clip.Frames, n) {
		cell := ResizeBilinearAntialias(clip.Frame(frame), h, w)
		top, left := sheetGap+i/columns*(h+sheetGap), sheetGap+i%columns*(w+sheetGap)
		for y := range h {
			copy(sheet.Pix[3*(width*(top+y)+left):], cell.Pix[3*w*y:3*w*(y+1)])
		}
	}
	return sheet, nil
}

// SpacedFrames returns n frame numbers out of total, as evenly spaced as whole numbers can be, first and last among
// them when n is at least 2.
func SpacedFrames(total, n int) []int {
	n = min(n, total)
	frames := make([]int, n)
	for i := range frames {
		if n > 1 {
			frames[i] = (2*i*(total-1) + n - 1) / (2 * (n - 1))
		}
	}
	return frames
}

// WriteContactSheet writes a ContactSheet as PNG.
func WriteContactSheet(ctx context.Context, path string, clip *Clip, opt SheetOptions) error {
	sheet, err := ContactSheet(clip, opt)
	if err != nil {
		return err
	}
	return WritePNG(ctx, path, sheet)
}
