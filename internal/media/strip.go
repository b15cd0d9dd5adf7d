package media

import (
	"image"
	"image/color"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// Frames of a strip and their width in pixels, where the options do not say.
const (
	stripFrames = 6
	stripWidth  = 192
)

// Strip puts evenly spaced frames of a clip side by side under a label, as a row of a sheet over several clips. The zero
// options mean 6 frames of 192 pixels; Columns has no effect. Characters beyond ASCII are drawn as boxes.
func Strip(clip *Clip, label string, opt SheetOptions) (*Image, error) {
	if opt.Frames == 0 {
		opt.Frames = stripFrames
	}
	if opt.Width == 0 {
		opt.Width = stripWidth
	}
	opt.Columns = opt.Frames
	row, err := ContactSheet(clip, opt)
	if err != nil {
		return nil, err
	}
	face := basicfont.Face7x13
	out := NewImage(face.Height+2*sheetGap+row.Height, max(row.Width, 2*sheetGap+len(label)*face.Advance))
	for i := range out.Pix {
		out.Pix[i] = sheetBackground
	}
	out.put(row, face.Height+2*sheetGap, 0)
	mask := image.NewAlpha(image.Rect(0, 0, out.Width, face.Height))
	d := font.Drawer{Dst: mask, Src: image.NewUniform(color.Opaque), Face: face, Dot: fixed.P(sheetGap, face.Ascent)}
	d.DrawString(label)
	for k, a := range mask.Pix {
		if a > 0 {
			at := 3 * ((sheetGap+k/mask.Stride)*out.Width + k%mask.Stride)
			out.Pix[at], out.Pix[at+1], out.Pix[at+2] = 220, 220, 220
		}
	}
	return out, nil
}

// Stack puts pictures under each other, from the left. It needs at least one; more than a picture may hold is an error.
func Stack(pictures []*Image) (*Image, error) {
	width, height := 0, 0
	for _, p := range pictures {
		width, height = max(width, p.Width), height+p.Height
	}
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	out := NewImage(height, width)
	for i := range out.Pix {
		out.Pix[i] = sheetBackground
	}
	top := 0
	for _, p := range pictures {
		out.put(p, top, 0)
		top += p.Height
	}
	return out, nil
}

// put copies a picture into one that is large enough.
func (m *Image) put(p *Image, top, left int) {
	for y := range p.Height {
		copy(m.Pix[3*(m.Width*(top+y)+left):], p.Pix[3*p.Width*y:3*p.Width*(y+1)])
	}
}
