package qwen

import (
	"context"
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// GenerateOptions say how a text is continued.
type GenerateOptions struct {
	Max  int     // ids to add at most
	Stop []int32 // ids that end the text; the one that did is the last returned
	// Choose picks the next id from its logits [V] and the ids so far, prompt and continuation; nil means Greedy. An
	// error ends the text.
	Choose func(logits []float32, ids []int32) (int32, error)
	// Added, if set, is called after each id with all that were added so far, which it must not keep or change.
	Added func(ids []int32)
}

// Greedy picks the largest logit, the first of equal ones. Logits that are not numbers are an error.
func Greedy(logits []float32, _ []int32) (int32, error) {
	best := 0
	for k, v := range logits {
		if v != v {
			return 0, fmt.Errorf("qwen: logit %d is not a number", k)
		}
		if v > logits[best] {
			best = k
		}
	}
	return int32(best), nil
}

// Generate continues a prompt and returns the added ids. Keys and values of earlier ids are kept on the device; every id
// brings each streamed layer to the device once. The prompt must not have a mask.
func (m *Model) Generate(ctx context.Context, prompt Prompt, o GenerateOptions) ([]int32, error) {
	p, err := prompt.place(m.Config)
	switch {
	case err != nil:
		return nil, err
	case p.Mask != nil:
		return nil, fmt.Errorf("qwen: a prompt with a mask cannot be continued")
	case o.Max < 1:
		return nil, fmt.Errorf("qwen: %d ids to add: at least 1 is needed", o.Max)
	}
	if o.Choose == nil {
		o.Choose = Greedy
	}
	arena := m.device.NewArena("qwen")
	defer arena.Release()
	g := &generation{Model: m, ids: slices.Clone(p.IDs), next: p.next}
	if err := g.begin(ctx, arena, p, o.Max); err != nil {
		return nil, err
	}
	for {
		id, err := g.choose(ctx, o)
		if err != nil {
			return nil, err
		}
		g.ids = append(g.ids, id)
		added := g.ids[len(p.IDs):]
		if o.Added != nil {
			o.Added(added)
		}
		if len(added) == o.Max || slices.Contains(o.Stop, id) {
			return added, nil
		}
		if err := g.step(ctx); err != nil {
			return nil, err
		}
	}
}

// cache holds keys and values of the ids that went through the layers.
type cache struct {
	keys, values []engine.Tensor // by layer: [heads, capacity, d]
	used         int
}

// generationBuffers lists what a text keeps while it is continued: the prompt's states and visible keys, the same and
// rotations of a single id, and the cache, keys and values in turn.
func generationBuffers(c weights.QwenTextConfig, act engine.DType, prompt, add int) []load.Buffer {
	list := []load.Buffer{
		hiddenBuffer(c, prompt),
		{Label: "visible keys", DType: engine.U32, Shape: []int{prompt, 2}},
		hiddenBuffer(c, 1),
		{Label: "visible keys", DType: engine.U32, Shape: []int{1, 2}},
		{Label: "rotations", DType: engine.F32, Shape: []int{1, c.HeadDim() / 2, 2}},
	}
	for range 2 * c.NumHiddenLayers {
		list = append(list, load.Buffer{Label: "key and value cache", DType: act, Shape: []int{c.NumKeyValueHeads, prompt + add, c.HeadDim()}})
	}
	return list
}

// from views the places of the next n tokens in keys.
func (c *cache) from(keys engine.Tensor, n int) ops.HeadView {
	v := ops.HeadMajor(keys)
	first := int64(c.used) * v.TokenStride
	v.Tensor, v.Tokens = keys.View(first, int(keys.Elems()-first)), n
	return v
}

// ranges returns which keys each of the next n tokens sees: all up to its own.
func (c *cache) ranges(n int) []uint32 {
	out := make([]uint32, 0, 2*n)
	for k := range n {
		out = append(out, 0, uint32(c.used+k+1))
	}
	return out
}

// generation is a text that is being continued.
type generation struct {
	*Model
	ids      []int32
	next     int // position of the next id
	work     workspace
	sequence *sequence
	one      struct{ x, table, ranges engine.Tensor } // of a single id
}

// begin takes the prompt through the layers.
func (g *generation) begin(ctx context.Context, arena *engine.Arena, p placed, add int) error {
	t := g.Config.Text
	var all []engine.Tensor
	for _, b := range generationBuffers(t, g.act, len(p.IDs), add) {
		all = append(all, b.Alloc(arena))
	}
	if err := arena.Err(); err != nil {
		return err
	}
	x, ranges := all[0], all[1]
	g.one.x, g.one.ranges, g.one.table = all[2], all[3], all[4]
	c := &cache{}
	for k := 5; k < len(all); k += 2 {
		// Values that are still to come have weight zero, and zero times a stale NaN would not be zero.
		g.device.Compute().Fill(all[k], 0)
		g.device.Compute().Fill(all[k+1], 0)
		c.keys, c.values = append(c.keys, all[k]), append(c.values, all[k+1])
	}
	err := g.withImages(ctx, p, func(embeds []engine.Tensor) (err error) {
		g.sequence, err = g.newSequence(ctx, arena, p, x, embeds)
		return err
	})
	if err != nil {
		return err
	}
	g.work = newWorkspace(arena, workspaceBuffers(t, g.act, len(p.IDs), g.half))
	if err := arena.Err(); err != nil {
		return err
	}
	g.sequence.cache, g.sequence.ranges = c, ranges
	return g.run(ctx)
}

// run takes the sequence's ids through the layers, behind those in the cache.
func (g *generation) run(ctx context.Context) error {
	q := g.sequence
	n := q.x.Dim(0)
	if err := g.device.UploadU32(ctx, q.ranges, q.cache.ranges(n)); err != nil {
		return err
	}
	if err := g.pass(ctx, []*sequence{q}, g.work); err != nil {
		return err
	}
	q.cache.used += n
	return nil
}

func (g *generation) choose(ctx context.Context, o GenerateOptions) (int32, error) {
	logits, err := g.Logits(ctx, g.sequence.x, []int{g.sequence.x.Dim(0) - 1})
	if err != nil {
		return 0, err
	}
	id, err := o.Choose(logits, g.ids)
	if err == nil && (id < 0 || int(id) >= len(logits)) {
		err = fmt.Errorf("qwen: id %d was chosen from a vocabulary of %d", id, len(logits))
	}
	return id, err
}

// step takes the last id through the layers.
func (g *generation) step(ctx context.Context) error {
	t := g.Config.Text
	position := [][3]int{{g.next, g.next, g.next}}
	g.next++
	table := ops.MultimodalRopeTable(position, t.HeadDim(), t.RopeTheta, t.RopeScaling.MRopeSection)
	if err := g.device.UploadF32(ctx, g.one.table, table.CosSin); err != nil {
		return err
	}
	if err := g.embed(ctx, placed{Prompt: Prompt{IDs: g.ids[len(g.ids)-1:]}}, g.one.x); err != nil {
		return err
	}
	g.sequence = &sequence{x: g.one.x, table: g.one.table, cache: g.sequence.cache, ranges: g.one.ranges}
	return g.run(ctx)
}
