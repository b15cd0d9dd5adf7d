package dit

import (
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// Where the device has fragments (engine.Caps.Fragments), the visual blocks' linear layers are computed from packed operands (ops.MatmulArgs.Packed).
// Weights are packed in their own memory when they come to the device: those of a resident block once, those of one that is streamed once a step,
// whatever number of branches and pieces they are multiplied with. Norms and the feed-forward network's first layer
// write packed activations; attention writes rows, which are packed into the memory of its queries. So packing takes no memory.

// packedLayers are the layers of a visual block whose operands are packed. Those left out have few rows: the modulation's one, the text's.
var packedLayers = []string{"self_attention.to_query", "self_attention.to_key", "self_attention.to_value", "self_attention.out_layer",
	"cross_attention.to_query", "cross_attention.out_layer", "feed_forward.in_layer", "feed_forward.out_layer"}

// packUnit divides the rows of weights that lie together when they are packed, packStrip their columns.
const (
	packUnit  = 64
	packStrip = 128
)

// packs tells whether linear layers are computed from packed operands, on a device that multiplies in 16 bits and has fragments or not. It does not
// depend on the number of tokens or the memory there is, so neither do results.
func (c Config) packs(blocks *load.Blocks, o Options, half, fragments bool) bool {
	if !half || !fragments || o.Precision != load.Mixed || o.Linear == load.LinearInt8 || c.ModelDim%packStrip != 0 || c.FFDim%packStrip != 0 || c.HeadDim()%packUnit != 0 {
		return false
	}
	for _, e := range blocks.Layout.Entries {
		if layer, ok := strings.CutSuffix(e.Name, ".weight"); ok && slices.Contains(packedLayers, layer) && e.DType != engine.BF16 {
			return false
		}
	}
	return true
}

// packWeights records the packing of a block's weights, by way of scratch.
func packWeights(s *engine.Stream, p load.Params, scratch engine.Tensor) {
	for _, name := range packedLayers {
		ops.PackInPlace(s, p.Get(name+".weight"), scratch, ops.RightFragments)
	}
}

// packedRows returns the rows of operands of so many tokens: in whole groups where they are packed.
func packedRows(rows int, packs bool) int {
	if packs {
		return ops.PackedRows(rows)
	}
	return rows
}

// normedRows returns the rows of the normed stream: where operands are packed as many as the least piece of weights that is packed by way of it.
func (c Config) normedRows(tokens int, packs bool) int {
	if packs {
		tokens = max(tokens, (packUnit*c.FFDim+c.ModelDim-1)/c.ModelDim)
	}
	return packedRows(tokens, packs)
}

// queryRows returns the rows of a head's queries. Where operands are packed all tokens' fit the memory of all heads, or at least one group of rows
// that of a group of heads.
func queryRows(tokens, groups int, packs bool) int {
	if packs {
		return max(ops.PackedRows(tokens), packUnit*groups)
	}
	return tokens
}

// packsActivations tells whether layers are computed from packed operands.
func (l layers) packsActivations() bool { return !l.work.packed.IsZero() }

// addAttention adds gate ⊙ (W·h + b) to the stream, for attention's output h, which is packed as many rows at a time as there is place for.
func (l layers) addAttention(name string, h engine.Tensor, x stream, gate engine.Tensor) {
	if !l.packsActivations() {
		l.addLinear(name, l.rounded(operand{x: h}), x, gate)
		return
	}
	cutRows(rows(h), l.work.packed.Dim(0), func(from, to int) {
		o := operand{x: l.work.packed.Rows(0, to-from), packed: true}
		ops.Pack(l.s, o.x, h.Rows(from, to), ops.LeftFragments)
		l.addLinear(name, o, x.rowsOf(from, to), gate)
	})
}
