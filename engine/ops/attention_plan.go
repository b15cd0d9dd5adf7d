package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
)

// attentionTile is a shape of the attention kernel: threads stand in columns of lanes, each holding rows queries and
// the results of 4*columns channels; depth and keys are the slices that pass through shared memory.
type attentionTile struct {
	threads, lanes, rows, columns, depth, keys int
}

func (t attentionTile) queries() int { return t.rows * t.threads / t.lanes }
func (t attentionTile) span() int    { return 4 * t.lanes } // keys at a time

// stage returns the vec4 elements of the staging area: a slice of q and one of k, or one of v, or (without half, which
// has its own) a vec4 per column and four queries for the sums over columns.
func (t attentionTile) stage(half bool) int {
	n := max((t.queries()/4+1+t.lanes+1)*t.depth, t.keys*t.columns*t.lanes)
	if !half {
		n = max(n, t.lanes*t.queries()/4)
	}
	return n
}

// shared returns the bytes of shared memory of a workgroup.
func (t attentionTile) shared(half bool) int64 {
	vectors := t.span()*(t.queries()/4+1) + t.stage(half)
	if half {
		return int64(8*vectors + 16*t.lanes*t.queries()/4)
	}
	return int64(16 * vectors)
}

// attentionTiles lists the tiles that the device has room for, the largest first. Tiles for heads of at most 128 channels
// divide blocks of 64 tokens. The second of each pair fits Vulkan's smallest limits, 16 KiB and 128 invocations.
func attentionTiles(dim int, half bool, caps engine.Caps) (out []attentionTile) {
	small := []attentionTile{
		{threads: 128, lanes: 16, rows: 8, depth: 16, keys: 16},
		{threads: 128, lanes: 8, rows: 4, depth: 16, keys: 8},
	}
	large := []attentionTile{
		{threads: 256, lanes: 32, rows: 4, depth: 16, keys: 4},
		{threads: 128, lanes: 32, rows: 4, depth: 4, keys: 2},
	}
	if half {
		large[0].keys, large[1].depth, large[1].keys = 8, 8, 8
	}
	list := small
	if dim > 128 {
		list = large
	}
	for _, t := range list {
		t.columns = (dim + t.span() - 1) / t.span()
		if t.shared(half) <= caps.MaxSharedBytes && t.threads <= caps.MaxInvocations {
			out = append(out, t)
		}
	}
	return out
}

// bindRoom is how many bytes of a tensor a binding can hold wherever they begin: alignedView may begin up to 255 bytes
// earlier.
func bindRoom(caps engine.Caps) int64 { return caps.MaxStorageRange - 256 }

// between returns a view to bind for the elements [from, to) of t, and the index in it of element from.
func between(caps engine.Caps, t engine.Tensor, from, to int64) (engine.Tensor, uint32) {
	return alignedView(caps, t, from, to-from)
}

// attentionSizes are the numbers that decide how an attention is cut.
type attentionSizes struct {
	heads, group, tq, tk, dim int
	qRow, kRow, vRow          int64 // bytes of a token of one head
	outRow                    int64 // bytes of a token of all heads
	lists                     int64 // bytes of the block lists of one head
}

// attentionCut is the part of one dispatch: query heads [head0, head1) of queries [row0, row1).
type attentionCut struct{ head0, head1, row0, row1 int }

// planAttention cuts an attention whose kernel takes tile queries at a time so that every binding and every dispatch fits the device. Rows are cut at multiples
// of the query tile, and all parts of a head follow each other: they write different rows of the output, so they may
// overlap in time. It fails when a single head's keys, or one query tile of all heads' output, exceed a binding; one
// query tile may cost more than the limit only with more than MaxDispatchCost / (4 * 64 * 128) keys, six million.
func planAttention(z attentionSizes, tile int, caps engine.Caps) ([]attentionCut, error) {
	room := bindRoom(caps)
	limit := func(per int64) int { return int(min(room/max(per, 1), 1<<30)) }

	keys := limit(int64(z.tk) * max(z.kRow, z.vRow)) // kv heads per dispatch
	if keys == 0 || limit(z.lists) == 0 {
		return nil, fmt.Errorf("the keys of one head (%d tokens of %d bytes) or its block lists (%d bytes) exceed a binding of %d bytes",
			z.tk, max(z.kRow, z.vRow), z.lists, caps.MaxStorageRange)
	}
	cost := 4 * float64(z.tk) * float64(z.dim) // of one query of one head
	rows := min(limit(z.outRow), limit(z.qRow), int(min(caps.MaxDispatchCost/cost, 1<<30)))
	rows = min(max(rows/tile, 1), int(caps.MaxGroups[0])) * tile
	if limit(z.outRow) < tile && limit(z.outRow) < z.tq {
		return nil, fmt.Errorf("%d tokens of %d bytes of output exceed a binding of %d bytes", min(tile, z.tq), z.outRow, caps.MaxStorageRange)
	}
	heads := 1
	if fit := limit(int64(z.tq) * z.qRow); fit > 1 {
		each := cost * float64(min(rows, z.tq))
		heads = max(1, min(fit, limit(z.lists), int(caps.MaxGroups[1]), int(min(caps.MaxDispatchCost/each, 1<<30))))
	}
	var cuts []attentionCut
	for h := 0; h < z.heads; {
		end := min(h+heads, z.heads, (h/z.group+keys)*z.group)
		for r := 0; r < z.tq; r += rows {
			cuts = append(cuts, attentionCut{h, end, r, min(r+rows, z.tq)})
		}
		h = end
	}
	return cuts, nil
}
