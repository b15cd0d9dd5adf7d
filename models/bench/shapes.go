package bench

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/configs"
)

// MatmulsOf returns the linear layers of a visual block, for so many tokens, and how the transformer uses their results.
func MatmulsOf(d *configs.DiTParams, tokens int) []MatmulShape {
	n, width, ff := tokens, d.ModelDim, d.FFDim
	return []MatmulShape{
		{Name: "query, key or value", M: n, N: width, K: width, Heads: d.Heads()},
		{Name: "output of attention", M: n, N: width, K: width, Add: true},
		{Name: "feed-forward in", M: n, N: ff, K: width, GELU: true},
		{Name: "feed-forward out", M: n, N: width, K: ff, Add: true},
	}
}

// AttentionsOf returns the attentions of a visual block, for so many tokens and rows of text.
func AttentionsOf(d *configs.DiTParams, tokens, textRows int, sparse bool) []AttentionShape {
	dim, heads := d.HeadDim(), d.Heads()
	list := []AttentionShape{
		{Name: "self-attention", Heads: heads, Queries: tokens, Keys: tokens, HeadDim: dim},
		{Name: "cross-attention", Heads: heads, Queries: tokens, Keys: textRows, HeadDim: dim, Cross: true},
	}
	if sparse {
		few := min(heads, sparseHeads)
		whole := tokens / sparseBlock * sparseBlock
		list = append(list, AttentionShape{Name: "self-attention", Heads: few, Queries: whole, Keys: whole, HeadDim: dim},
			AttentionShape{Name: "self-attention, block-sparse", Heads: few, Queries: whole, Keys: whole, HeadDim: dim, Kept: sparseKept})
	}
	return list
}

const (
	sparseHeads = 4   // the lists of all heads of an HD clip take half a gigabyte
	sparseKept  = 0.2 // a fifth of the blocks, about what NABLA keeps of trained networks
)

// ConvsOf returns convolutions of every level of the published autoencoder's decoder, for a tile of five frames of so many
// pixels: the rate does not depend on how many frames there are.
func ConvsOf(size configs.Size) []ConvShape {
	var out []ConvShape
	for _, level := range []struct{ scale, in, out int }{{8, 512, 512}, {4, 512, 512}, {2, 512, 256}, {2, 256, 256}, {1, 256, 128}, {1, 128, 128}, {1, 128, 3}} {
		h, w := size.Height/level.scale, size.Width/level.scale
		out = append(out, ConvShape{Name: fmt.Sprintf("%d to %d channels", level.in, level.out), Frames: 5, Height: h, Width: w, In: level.in, Out: level.out})
	}
	return out
}
