package qwen

import "github.com/vkandinsky/vkandinsky/models/weights"

// windows lists the cells of a grid window by window, row by row in each and in the windows' own order, from the top
// left; windows at the right and bottom may be incomplete. order holds the row-major number of each place's cell, and
// bounds the places [from, to) of its window (transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py,
// get_window_index).
func windows(rows, cols, side int) (order []int, bounds [][2]int) {
	for top := 0; top < rows; top += side {
		for left := 0; left < cols; left += side {
			from := len(order)
			for r := top; r < min(top+side, rows); r++ {
				for c := left; c < min(left+side, cols); c++ {
					order = append(order, r*cols+c)
				}
			}
			for range len(order) - from {
				bounds = append(bounds, [2]int{from, len(order)})
			}
		}
	}
	return order, bounds
}

// windowSide returns how many cells a window has on each side.
func windowSide(c weights.QwenVisionConfig) int {
	return c.WindowSize / c.SpatialMergeSize / c.PatchSize
}

// arranged is a picture in the order in which the vision tower sees it: window by window.
type arranged struct {
	pixels []float32 // [patches, frame·row·column·channel], the order of packed convolution weights
	places [][2]int  // row and column of each patch
	ranges []uint32  // [patches, 2]: the patches that each sees in a windowed block
	back   []uint32  // by cell of the grid: its place
}

func arrange(i Image, c weights.QwenVisionConfig) arranged {
	rows, cols := i.cells(c)
	order, bounds := windows(rows, cols, windowSide(c))
	merge := c.SpatialMergeSize
	unit, size := merge*merge, patchElements(c)
	a := arranged{pixels: make([]float32, 0, len(i.Patches)), back: make([]uint32, len(order))}
	for place, cell := range order {
		a.back[cell] = uint32(place)
		for k := range unit {
			patch := (cell*unit + k) * size
			a.pixels = appendChannelsLast(a.pixels, i.Patches[patch:patch+size], c.InChans)
			a.places = append(a.places, [2]int{cell/cols*merge + k/merge, cell%cols*merge + k%merge})
			a.ranges = append(a.ranges, uint32(bounds[place][0]*unit), uint32(bounds[place][1]*unit))
		}
	}
	return a
}

// appendChannelsLast appends a patch [channels, n] as [n, channels].
func appendChannelsLast(dst, patch []float32, channels int) []float32 {
	n := len(patch) / channels
	for k := range n {
		for c := range channels {
			dst = append(dst, patch[c*n+k])
		}
	}
	return dst
}
