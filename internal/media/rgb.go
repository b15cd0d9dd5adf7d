package media

import (
	"fmt"
	"image"
	"image/color"
)

// toRGB converts a decoded picture the way the reference's imaging library does.
func toRGB(m image.Image, format string) (*Image, error) {
	b := m.Bounds()
	if err := checkSize(b.Dx(), b.Dy()); err != nil {
		return nil, err
	}
	out := NewImage(b.Dy(), b.Dx())
	switch m := m.(type) {
	case *image.YCbCr:
		return out, yccToRGB(out, m, format)
	case *image.NYCbCrA:
		return out, yccToRGB(out, &m.YCbCr, format)
	case *image.NRGBA:
		// Raw values: transparency is dropped, not blended.
		rows(out, func(y int, dst []uint8) {
			take(dst, m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):], 4)
		})
	case *image.RGBA: // opaque: the PNG decoder uses it for pictures without transparency, the JPEG one for RGB
		rows(out, func(y int, dst []uint8) {
			take(dst, m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):], 4)
		})
	case *image.Gray:
		rows(out, func(y int, dst []uint8) {
			src := m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.Width {
				dst[3*x], dst[3*x+1], dst[3*x+2] = src[x], src[x], src[x]
			}
		})
	case *image.Paletted:
		palette := make([][3]uint8, 256)
		for i, c := range m.Palette[:min(len(m.Palette), 256)] {
			palette[i] = rawRGB(c)
		}
		rows(out, func(y int, dst []uint8) {
			src := m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.Width {
				copy(dst[3*x:3*x+3], palette[src[x]][:])
			}
		})
	case *image.CMYK:
		rows(out, func(y int, dst []uint8) {
			src := m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.Width {
				cmykToRGB(dst[3*x:3*x+3], src[4*x:4*x+4])
			}
		})
	case *image.Gray16, *image.RGBA64, *image.NRGBA64:
		rows(out, func(y int, dst []uint8) {
			for x := range out.Width {
				c := rawRGB(m.At(b.Min.X+x, b.Min.Y+y))
				copy(dst[3*x:3*x+3], c[:])
			}
		})
	default:
		return nil, fmt.Errorf("pixel format %T is not supported", m)
	}
	return out, nil
}

func rows(im *Image, fill func(y int, dst []uint8)) {
	for y := range im.Height {
		fill(y, im.Pix[3*im.Width*y:3*im.Width*(y+1)])
	}
}

// take copies the first three of every n bytes.
func take(dst, src []uint8, n int) {
	for i, j := 0, 0; i < len(dst); i, j = i+3, j+n {
		dst[i], dst[i+1], dst[i+2] = src[j], src[j+1], src[j+2]
	}
}

// rawRGB returns a colour's stored values, of 16-bit ones the high byte, without multiplying by its transparency.
func rawRGB(c color.Color) [3]uint8 {
	switch c := c.(type) {
	case color.RGBA: // the PNG decoder stores opaque palette entries so
		return [3]uint8{c.R, c.G, c.B}
	case color.NRGBA:
		return [3]uint8{c.R, c.G, c.B}
	case color.NRGBA64:
		return [3]uint8{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8)}
	}
	r, g, b, _ := c.RGBA()
	return [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}
}

// cmykToRGB is Pillow's conversion (python-pillow/Pillow, src/libImaging/Convert.c, cmyk2rgb): 255−k less its
// product with each ink, with the exact rounded division by 255.
func cmykToRGB(dst, cmyk []uint8) {
	nk := 255 - int(cmyk[3])
	for i := range 3 {
		t := int(cmyk[i])*nk + 128
		dst[i] = uint8(max(0, nk-((t>>8+t)>>8)))
	}
}
