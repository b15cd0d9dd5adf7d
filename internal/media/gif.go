package media

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"sync/atomic"
)

// writeGIF writes all frames with one palette made from the whole clip, so that colours do not jump between frames.
func writeGIF(ctx context.Context, path string, clip *Clip, fps int) error {
	if clip.Width > 65535 || clip.Height > 65535 {
		return fmt.Errorf("output %s: %d x %d pixels do not fit a GIF", path, clip.Width, clip.Height)
	}
	out, err := createOutput(path)
	if err != nil {
		return err
	}
	defer out.discard()
	colours := makePalette(clip)
	palette := make(color.Palette, len(colours))
	for i, c := range colours {
		palette[i] = color.RGBA{c[0], c[1], c[2], 255}
	}
	nearest := newLookup(colours)
	g := &gif.GIF{Image: make([]*image.Paletted, clip.Frames), Delay: gifDelays(clip.Frames, fps)}
	var stopped atomic.Bool
	inParallel(clip.Frames, func(i int) {
		if ctx.Err() != nil {
			stopped.Store(true)
			return
		}
		g.Image[i] = &image.Paletted{Pix: dither(clip.Frame(i), colours, nearest), Stride: clip.Width,
			Rect: image.Rect(0, 0, clip.Width, clip.Height), Palette: palette}
	})
	if stopped.Load() || ctx.Err() != nil {
		return fmt.Errorf("output %s: stopped: %w", path, context.Cause(ctx))
	}
	if err := gif.EncodeAll(out, g); err != nil {
		return fmt.Errorf("output %s: %w", path, err)
	}
	return out.commit()
}

// gifDelays returns each frame's duration in hundredths of a second. A 24th is 4⅙ of them: the durations alternate
// so that the clip as a whole keeps its speed. Viewers slow frames of less than two hundredths down, so none is.
func gifDelays(frames, fps int) []int {
	delays := make([]int, frames)
	at := func(i int) int { return (200*i + fps) / (2 * fps) }
	for i := range delays {
		delays[i] = max(2, at(i+1)-at(i))
	}
	return delays
}

// dither assigns palette entries by Floyd and Steinberg's error diffusion, in lines of alternating direction.
func dither(im *Image, colours [][3]uint8, l *lookup) []uint8 {
	w := im.Width
	out := make([]uint8, im.Height*w)
	// Errors in sixteenths, with a pixel of margin at both ends.
	here, next := make([][3]int32, w+2), make([][3]int32, w+2)
	for y := range im.Height {
		step, x := 1, 0
		if y%2 == 1 {
			step, x = -1, w-1
		}
		for range w {
			p := im.Pix[3*(w*y+x):]
			var v [3]int32
			for c := range 3 {
				v[c] = min(max(int32(p[c])+(here[x+1][c]+8)>>4, 0), 255)
			}
			index := l.nearest(v[0], v[1], v[2])
			out[w*y+x] = index
			for c := range 3 {
				e := v[c] - int32(colours[index][c])
				here[x+1+step][c] += 7 * e
				next[x+1-step][c] += 3 * e
				next[x+1][c] += 5 * e
				next[x+1+step][c] += e
			}
			x += step
		}
		here, next = next, here
		clear(next)
	}
	return out
}
