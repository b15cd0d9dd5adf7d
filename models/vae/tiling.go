package vae

import (
	"fmt"
	"math"
)

// Compression of the autoencoder: pixels per latent place along a side, and pixel frames per latent frame.
const (
	spatial  = 8
	temporal = 4
)

// Tiling says how much is encoded or decoded at once, in pixels and pixel frames. The zero value means: all at once.
// Neighbouring tiles overlap by tile − stride and are cross-faded there.
type Tiling struct {
	Frames      int // frames of a tile, 4k + 1; longer clips are cut in time
	FrameStride int // frames from tile to tile, a multiple of 4, at most Frames − 1
	Height      int // a multiple of 8
	Width       int
	HeightStep  int // rows from tile to tile, a multiple of 8, at most Height
	WidthStep   int
}

// String names the tiles and the way from one to the next, in frames, rows and columns.
func (t Tiling) String() string {
	return fmt.Sprintf("%d×%d×%d every %d×%d×%d", t.Frames, t.Height, t.Width, t.FrameStride, t.HeightStep, t.WidthStep)
}

// Frames decoded at once by the reference, and the frames from tile to tile (kandinsky-5, kandinsky/models/vae.py,
// tile_sample_min_num_frames + 1 and tile_sample_stride_num_frames).
const (
	tileFrames  = 17
	frameStride = 8
)

// Whole is the reference's tiling in time, with frames of any size in one piece.
func Whole() Tiling { return Tiling{Frames: tileFrames, FrameStride: frameStride} }

// ChooseTiling is the reference's choice for frames of h × w pixels with so many bytes of free device memory
// (kandinsky-5, kandinsky/models/vae.py, get_dec_optimal_tiling). Its tiles do not always reach the end of an axis, so
// that its pictures can come out a few pixels narrower; here the last tile lies flush with the end (see cuts).
func ChooseTiling(h, w int, freeBytes int64) Tiling {
	const perPixel = 256 * tileFrames // elements of the largest activation
	maxArea := float64(freeBytes) / (perPixel * 8)
	values := float64(perPixel) * float64(h+32) * float64(w+32)
	area := float64(h) * float64(w)
	if area < maxArea && values < 1<<31 {
		return whole(h, w)
	}
	return split(h, w, math.Max(math.Ceil(area/math.Max(maxArea, 1)), math.Ceil(values/(1<<31))))
}

func whole(h, w int) Tiling {
	return Tiling{Frames: tileFrames, FrameStride: frameStride, Height: h, Width: w, HeightStep: h, WidthStep: w}
}

// split cuts a frame into about n tiles, more along the longer side.
func split(h, w int, n float64) Tiling {
	ratio := max(float64(h)/float64(w), float64(w)/float64(h))
	rows := int(math.Ceil(math.Sqrt(n / ratio)))
	columns := int(math.Ceil(math.Sqrt(n * ratio)))
	if h >= w {
		rows, columns = columns, rows
	}
	t := whole(h, w)
	t.Height, t.HeightStep = side(h, rows)
	t.Width, t.WidthStep = side(w, columns)
	return t
}

// side is the length and step of n tiles along an axis. No tile is shorter than 48 pixels, which leaves a step of 16.
func side(size, n int) (tile, step int) {
	n = min(n, size/32)
	if n <= 1 {
		return size, size
	}
	tile = (size+n*spatial-1)/(n*spatial)*spatial + 16
	return tile, tile - 32
}

// check refuses tilings that cannot be; frames, h and w are the video's size in pixels.
func (t Tiling) check() error {
	bad := func(why string) error {
		return fmt.Errorf("vae: tiling of %d×%d×%d with steps %d×%d×%d: %s", t.Frames, t.Height, t.Width, t.FrameStride, t.HeightStep, t.WidthStep, why)
	}
	if t.Frames != 0 && ((t.Frames-1)%temporal != 0 || t.FrameStride < temporal || t.FrameStride%temporal != 0 || t.FrameStride > t.Frames-1) {
		return bad("frames must be 4k + 1 and their step a multiple of 4 below that")
	}
	for _, s := range [][2]int{{t.Height, t.HeightStep}, {t.Width, t.WidthStep}} {
		if s[0] != 0 && (s[0] < 0 || s[0]%spatial != 0 || s[1] < spatial || s[1]%spatial != 0 || s[1] > s[0]) {
			return bad("height and width must be multiples of 8 and their steps too, not larger")
		}
	}
	return nil
}

// latentFrames is the number of latent frames of a tile, 0 for all.
func (t Tiling) latentFrames() int {
	if t.Frames == 0 {
		return 0
	}
	return pixelUnit.latents(t.Frames)
}

// cut is a tile along one axis, in latent places. Its first fade places are cross-faded with the tile before; keep
// places of it, after the fade has been applied, go into the result, from its own start on.
type cut struct{ from, to, fade, keep int }

// cuts covers an axis of size places by tiles. All lie at multiples of step, as the reference's, except the last, which
// ends where the axis ends: the reference leaves out what no whole tile covers. Where moving its last tile there would
// leave less than half of the usual overlap, there is one tile more.
func cuts(size, tile, step int) []cut {
	if tile == 0 || tile >= size {
		return []cut{{0, size, 0, size}}
	}
	last := size - tile
	var starts []int
	for at := 0; at < last; at += step {
		starts = append(starts, at)
	}
	if n := len(starts); last%step != 0 && n > 1 && starts[n-2]+tile-last >= max((tile-step)/2, 1) {
		starts = starts[:n-1]
	}
	starts = append(starts, last)
	out := make([]cut, len(starts))
	for k, at := range starts {
		out[k] = cut{from: at, to: at + tile, keep: tile}
		if k > 0 {
			out[k].fade = starts[k-1] + tile - at
			out[k-1].keep = at - starts[k-1]
		}
	}
	return out
}

// timeCuts covers latent frames by tiles. Every tile but the first loses its first frame, which the network treats
// unlike the others; so fade and keep count from the second.
func timeCuts(frames, tile, step int) []cut {
	if tile == 0 || frames <= tile {
		return []cut{{0, frames, 0, frames}}
	}
	var out []cut
	for at := 0; ; at += step {
		c := cut{from: at, to: min(at+tile, frames), fade: tile - 1 - step, keep: step}
		last := c.to == frames
		if at == 0 {
			c.fade, c.keep = 0, step+1
		} else if last {
			c.keep = c.to - at - 1
		}
		out = append(out, c)
		if last {
			return out
		}
	}
}
