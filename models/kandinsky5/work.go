package kandinsky5

import "github.com/vkandinsky/vkandinsky/configs"

// Work is the floating-point operations of one forward pass of one branch, a multiply-add counting as two.
type Work struct {
	Linear    float64 `json:"linear"`
	Attention float64 `json:"attention"` // full attention; block-sparse attention does less
}

// Total returns all operations.
func (w Work) Total() float64 { return w.Linear + w.Attention }

// WorkOf counts the matrix products of a transformer over tokens visual and textRows text tokens: 2 operations per weight
// and row, and 4·N·M·D per attention of N queries to M keys of width D in all heads. Norms, rotations and the like are
// left out.
func WorkOf(d *configs.DiTParams, tokens, textRows int) Work {
	n, l := float64(tokens), float64(textRows)
	width, ff := float64(d.ModelDim), float64(d.FFDim)
	square := width * width
	var w Work
	visual, text := float64(d.NumVisualBlocks), float64(d.NumTextBlocks)
	// Queries, keys, values and output of the self-attention, queries and output of the cross-attention, and the
	// feed-forward network see every visual token; the cross-attention's keys and values see the text.
	w.Linear += visual * (2*n*(6*square+2*width*ff) + 2*l*2*square)
	w.Attention += visual * (4*n*n*width + 4*n*l*width)
	w.Linear += text * 2 * l * (4*square + 2*width*ff)
	w.Attention += text * 4 * l * l * width
	volume := float64(d.PatchVolume())
	w.Linear += 2 * n * volume * width * float64(d.InChannels()+d.OutVisualDim)
	w.Linear += 2 * l * width * float64(d.InTextDim)
	// One row each: the modulations of all blocks and of the output, and the time embedding.
	td := float64(d.TimeDim)
	w.Linear += 2 * (td*width*(9*visual+6*text+2) + td*width + td*td)
	return w
}
