package qwen

import (
	"context"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Hidden returns the last hidden state of a prompt without pictures, F32 [L, D]. mask is optional, see Prompt. The
// tensor is the caller's to free; the work is submitted, not waited for.
func (m *Model) Hidden(ctx context.Context, ids []int32, mask []bool) (engine.Tensor, error) {
	out, err := m.Encode(ctx, []Prompt{{IDs: ids, Mask: mask}})
	if err != nil {
		return engine.Tensor{}, err
	}
	return out[0], nil
}

// HiddenBatch is Hidden for several prompts at once: every layer is brought to the device once for all of them.
func (m *Model) HiddenBatch(ctx context.Context, prompts [][]int32) ([]engine.Tensor, error) {
	list := make([]Prompt, len(prompts))
	for k, ids := range prompts {
		list[k].IDs = ids
	}
	return m.Encode(ctx, list)
}

// Encode returns the last hidden state of each prompt, F32 [L, D]; every layer is brought to the device once for all of
// them. Ids that are not in the vocabulary, and pictures that do not fit their image pads, are errors before any work.
// The tensors are the caller's to free. The work is submitted, not waited for.
func (m *Model) Encode(ctx context.Context, prompts []Prompt) ([]engine.Tensor, error) {
	all := make([]placed, len(prompts))
	for k, p := range prompts {
		var err error
		if all[k], err = p.place(m.Config); err != nil {
			return nil, err
		}
	}
	out := make([]engine.Tensor, len(prompts))
	err := m.encode(ctx, all, out)
	if err != nil {
		for _, x := range out {
			m.device.Free(x)
		}
		return nil, err
	}
	return out, nil
}

// encode fills out, also in part before an error.
func (m *Model) encode(ctx context.Context, prompts []placed, out []engine.Tensor) error {
	arena := m.device.NewArena("qwen")
	defer arena.Release()
	longest := 0
	sequences := make([]*sequence, len(prompts))
	for k, p := range prompts {
		longest = max(longest, len(p.IDs))
		err := m.withImages(ctx, p, func(embeds []engine.Tensor) error {
			b := hiddenBuffer(m.Config.Text, len(p.IDs))
			var err error
			if out[k], err = m.device.Alloc("qwen: "+b.Label, b.DType, b.Shape...); err != nil {
				return err
			}
			sequences[k], err = m.newSequence(ctx, arena, p, out[k], embeds)
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(prompts) == 0 {
		return nil
	}
	w := newWorkspace(arena, workspaceBuffers(m.Config.Text, m.act, longest, m.half))
	if err := arena.Err(); err != nil {
		return err
	}
	return m.pass(ctx, sequences, w)
}

// withImages calls f with the rows that stand for a prompt's pictures.
func (m *Model) withImages(ctx context.Context, p placed, f func(embeds []engine.Tensor) error) error {
	embeds := make([]engine.Tensor, 0, len(p.Images))
	defer func() {
		for _, e := range embeds {
			m.device.Free(e)
		}
	}()
	for _, i := range p.Images {
		e, err := m.ImageEmbeds(ctx, i)
		if err != nil {
			return err
		}
		embeds = append(embeds, e)
	}
	return f(embeds)
}
