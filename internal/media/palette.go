package media

import (
	"sort"
	"sync/atomic"
)

const (
	paletteSize = 256
	binBits     = 5       // histogram bits a channel
	lookupBits  = 6       // nearest-colour table bits a channel
	maxSamples  = 4 << 20 // pixels that the palette is made from
)

// bin counts the pixels whose colours agree in the high bits, and adds their samples up.
type bin struct {
	count int64
	sum   [3]int64
}

func (b *bin) mean(c int) float64 { return float64(b.sum[c]) / float64(b.count) }

// makePalette chooses at most 256 colours for a clip: median cut (Heckbert, "Color image quantization for frame
// buffer display", 1982), then two rounds that move each colour to the mean of the pixels nearest to it.
func makePalette(clip *Clip) [][3]uint8 {
	bins := histogram(clip)
	boxes := [][]bin{bins}
	for len(boxes) < paletteSize {
		best, bestSize := -1, 0.0
		for i, b := range boxes {
			if s := spread(b); len(b) > 1 && s > bestSize {
				best, bestSize = i, s
			}
		}
		if best < 0 {
			break
		}
		low, high := cut(boxes[best])
		boxes[best] = low
		boxes = append(boxes, high)
	}
	colours := make([][3]uint8, 0, len(boxes))
	for _, b := range boxes {
		colours = append(colours, average(b))
	}
	for range 2 {
		refine(colours, bins)
	}
	return colours
}

func histogram(clip *Clip) []bin {
	all := make([]bin, 1<<(3*binBits))
	pixels := clip.Frames * clip.Height * clip.Width
	// An odd step walks over all columns of pictures with even sides.
	step := pixels/maxSamples | 1
	for i := 0; i < pixels; i += step {
		p := clip.Pix[3*i : 3*i+3]
		b := &all[int(p[0])>>(8-binBits)<<(2*binBits)|int(p[1])>>(8-binBits)<<binBits|int(p[2])>>(8-binBits)]
		b.count++
		for c := range 3 {
			b.sum[c] += int64(p[c])
		}
	}
	used := all[:0]
	for _, b := range all {
		if b.count > 0 {
			used = append(used, b)
		}
	}
	return used
}

// longest returns the channel in which a box of bins is widest, and its width.
func longest(box []bin) (channel int, width float64) {
	for c := range 3 {
		low, high := 256.0, -1.0
		for i := range box {
			m := box[i].mean(c)
			low, high = min(low, m), max(high, m)
		}
		if high-low > width {
			channel, width = c, high-low
		}
	}
	return channel, width
}

// spread says how much a box would gain from being cut: its width, and with less weight its pixels.
func spread(box []bin) float64 {
	_, width := longest(box)
	var n int64
	for i := range box {
		n += box[i].count
	}
	return width * width * float64(n)
}

// cut divides a box of at least two bins at the median pixel of its widest channel.
func cut(box []bin) (low, high []bin) {
	c, _ := longest(box)
	sort.SliceStable(box, func(i, j int) bool { return box[i].mean(c) < box[j].mean(c) })
	var total, n int64
	for i := range box {
		total += box[i].count
	}
	at := 1
	for ; at < len(box)-1; at++ {
		if n += box[at-1].count; 2*n >= total {
			break
		}
	}
	return box[:at:at], box[at:]
}

func average(box []bin) [3]uint8 {
	var all bin
	for i := range box {
		all.count += box[i].count
		for c := range 3 {
			all.sum[c] += box[i].sum[c]
		}
	}
	var out [3]uint8
	for c := range 3 {
		out[c] = uint8((all.sum[c] + all.count/2) / all.count)
	}
	return out
}

func refine(colours [][3]uint8, bins []bin) {
	nearest := make([]int, len(bins))
	inParallel(len(bins), func(i int) {
		nearest[i] = closest(colours, int32(bins[i].mean(0)), int32(bins[i].mean(1)), int32(bins[i].mean(2)))
	})
	groups := make([][]bin, len(colours))
	for i, n := range nearest {
		groups[n] = append(groups[n], bins[i])
	}
	for i, g := range groups {
		if len(g) > 0 {
			colours[i] = average(g)
		}
	}
}

func closest(colours [][3]uint8, r, g, b int32) int {
	best, bestDist := 0, int32(1<<30)
	for i, c := range colours {
		dr, dg, db := r-int32(c[0]), g-int32(c[1]), b-int32(c[2])
		if d := dr*dr + dg*dg + db*db; d < bestDist {
			best, bestDist = i, d
		}
	}
	return best
}

// lookup finds the nearest colour of points, by a coarse grid. Places of the grid are filled in when they are first asked
// for: a small clip has a small part of its 262144. Goroutines may share one.
type lookup struct {
	colours [][3]uint8
	table   []atomic.Uint32 // one more than the colour's number; 0 where nobody has asked
}

func newLookup(colours [][3]uint8) *lookup {
	return &lookup{colours, make([]atomic.Uint32, 1<<(3*lookupBits))}
}

// nearest returns the number of the colour that is nearest to the middle of the point's place.
func (l *lookup) nearest(r, g, b int32) uint8 {
	const drop = 8 - lookupBits
	place := &l.table[r>>drop<<(2*lookupBits)|g>>drop<<lookupBits|b>>drop]
	if n := place.Load(); n > 0 {
		return uint8(n - 1)
	}
	middle := func(v int32) int32 { return v>>drop<<drop + 1<<(drop-1) }
	n := closest(l.colours, middle(r), middle(g), middle(b))
	place.Store(uint32(n) + 1) // another goroutine would store the same
	return uint8(n)
}
