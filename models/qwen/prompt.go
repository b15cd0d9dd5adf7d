package qwen

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Prompt is a sequence for the decoder.
type Prompt struct {
	IDs []int32
	// Mask is optional: ids with false are seen by no other, and positions are not counted over them. Padding on the
	// right needs none, as no id sees those after it.
	Mask []bool
	// Images are the pictures that the runs of image pads among the ids stand for, in order. Without any, image pads
	// are ids like all others.
	Images []Image
}

// Image is a picture cut into patches.
type Image struct {
	// Patches holds the normalised pixels, [Rows·Cols, channel·frame·row·column] with the column fastest. Cells of
	// 2×2 patches follow each other row by row, and so do the patches in each. A still picture repeats its frame.
	Patches    []float32
	Rows, Cols int // of patches, multiples of spatial_merge_size
}

// cells returns rows and columns of the merged grid: each cell becomes one row of the decoder's input.
func (i Image) cells(c weights.QwenVisionConfig) (rows, cols int) {
	return i.Rows / c.SpatialMergeSize, i.Cols / c.SpatialMergeSize
}

// patchElements is the length of a patch: channels × frames × rows × columns.
func patchElements(c weights.QwenVisionConfig) int {
	return c.InChans * c.TemporalPatchSize * c.PatchSize * c.PatchSize
}

func (i Image) check(c weights.QwenVisionConfig) error {
	if i.Rows < 1 || i.Cols < 1 || i.Rows%c.SpatialMergeSize != 0 || i.Cols%c.SpatialMergeSize != 0 {
		return fmt.Errorf("qwen: a picture of %d×%d patches: rows and columns must be multiples of %d", i.Rows, i.Cols, c.SpatialMergeSize)
	}
	if want := i.Rows * i.Cols * patchElements(c); len(i.Patches) != want {
		return fmt.Errorf("qwen: a picture of %d×%d patches with %d values, want %d", i.Rows, i.Cols, len(i.Patches), want)
	}
	return nil
}

// placed is a checked prompt: where its ids stand.
type placed struct {
	Prompt
	positions [][3]int // temporal, row, column
	next      int      // position of an id that would follow
	images    []int    // place of each picture's first pad
	pads      []bool   // places that pictures take; nil without any
}

// place checks a prompt and finds the positions of its ids: text counts up on all three axes; a picture's cells share
// the temporal position and count rows and columns from there, and the text after it goes on behind the largest
// (transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py, get_rope_index).
func (p Prompt) place(c weights.QwenConfig) (placed, error) {
	out := placed{Prompt: p, positions: make([][3]int, len(p.IDs))}
	if err := p.check(c); err != nil {
		return out, err
	}
	if len(p.Images) > 0 {
		out.pads = make([]bool, len(p.IDs))
	}
	for k := 0; k < len(p.IDs); k++ {
		switch {
		case p.Mask != nil && !p.Mask[k]:
			out.positions[k] = [3]int{1, 1, 1} // as in the reference; nobody looks at it
		case len(p.Images) > 0 && int(p.IDs[k]) == c.ImageTokenID:
			n, err := out.image(c, k)
			if err != nil {
				return out, err
			}
			k += n - 1
		default:
			out.positions[k] = [3]int{out.next, out.next, out.next}
			out.next++
		}
	}
	if len(out.images) != len(p.Images) {
		return out, fmt.Errorf("qwen: %d pictures for a prompt with image pads for %d", len(p.Images), len(out.images))
	}
	return out, nil
}

func (p Prompt) check(c weights.QwenConfig) error {
	if len(p.IDs) == 0 {
		return fmt.Errorf("qwen: a prompt without ids")
	}
	if p.Mask != nil && len(p.Mask) != len(p.IDs) {
		return fmt.Errorf("qwen: a mask of %d places for %d ids", len(p.Mask), len(p.IDs))
	}
	for k, id := range p.IDs {
		if id < 0 || int(id) >= c.Text.VocabSize {
			return fmt.Errorf("qwen: id %d at place %d is not in the vocabulary of %d (does the tokenizer belong to this model?)", id, k, c.Text.VocabSize)
		}
	}
	for _, i := range p.Images {
		if err := i.check(c.Vision); err != nil {
			return err
		}
	}
	return nil
}

// image gives the next picture the pads from place k on and returns how many they are.
func (p *placed) image(c weights.QwenConfig, k int) (int, error) {
	if len(p.images) == len(p.Images) {
		return 0, fmt.Errorf("qwen: image pad at place %d, but the prompt has %d pictures, whose pads came before", k, len(p.Images))
	}
	rows, cols := p.Images[len(p.images)].cells(c.Vision)
	n := rows * cols
	for j := k; j < k+n; j++ {
		if j >= len(p.IDs) || int(p.IDs[j]) != c.ImageTokenID || p.Mask != nil && !p.Mask[j] {
			return 0, fmt.Errorf("qwen: %d image pads from place %d on, but picture %d has %d×%d cells", j-k, k, len(p.images)+1, rows, cols)
		}
		cell := j - k
		p.positions[j] = [3]int{p.next, p.next + cell/cols, p.next + cell%cols}
		p.pads[j] = true
	}
	p.images = append(p.images, k)
	p.next += max(rows, cols)
	return n, nil
}
