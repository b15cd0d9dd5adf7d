package qwen

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// sequence is a prompt on its way through the layers.
type sequence struct {
	x      engine.Tensor // F32 [L, D]: residual stream, in the end the hidden state
	table  engine.Tensor // F32 [L, d/2, 2]: rotations
	mask   engine.Tensor // U32 [L], or none
	cache  *cache        // of a text that is being continued, or nil
	ranges engine.Tensor // U32 [L, 2]: with a cache, the keys that each id sees
}

func hiddenBuffer(c weights.QwenTextConfig, tokens int) load.Buffer {
	return load.Buffer{Label: "hidden state", DType: engine.F32, Shape: []int{tokens, c.HiddenSize}}
}

// newSequence allocates what a prompt needs besides its hidden state and fills in its input: rows of the token embedding,
// and of the pictures. It waits for the copies.
func (m *Model) newSequence(ctx context.Context, a *engine.Arena, p placed, x engine.Tensor, embeds []engine.Tensor) (*sequence, error) {
	q := &sequence{x: x}
	if p.Mask != nil {
		q.mask = a.Alloc("mask", engine.U32, len(p.IDs))
		if err := a.Err(); err != nil {
			return nil, err
		}
		words := make([]uint32, len(p.Mask))
		for k, seen := range p.Mask {
			if seen {
				words[k] = 1
			}
		}
		if err := m.device.UploadU32(ctx, q.mask, words); err != nil {
			return nil, err
		}
	}
	var err error
	if q.table, err = m.rotations(ctx, a, p.positions); err != nil {
		return nil, err
	}
	if err := m.embed(ctx, p, x); err != nil {
		return nil, err
	}
	for k, at := range p.images {
		ops.Cast(m.device.Compute(), x.Rows(at, at+embeds[k].Dim(0)), embeds[k])
	}
	return q, nil
}

func (m *Model) rotations(ctx context.Context, a *engine.Arena, positions [][3]int) (engine.Tensor, error) {
	t := m.Config.Text
	return ops.MultimodalRopeTable(positions, t.HeadDim(), t.RopeTheta, t.RopeScaling.MRopeSection).Upload(ctx, m.device, a, "rotations")
}

// embed uploads the ids' rows of the token embedding, zeros for pictures.
func (m *Model) embed(ctx context.Context, p placed, x engine.Tensor) error {
	if m.device.Rehearsing() {
		return nil
	}
	t := m.Config.Text
	row := t.HiddenSize * 4
	data := make([]byte, len(p.IDs)*row)
	for k, id := range p.IDs {
		if p.pads != nil && p.pads[k] {
			continue
		}
		err := load.ReadRows(ctx, m.reader, tokenTable, []int{t.VocabSize, t.HiddenSize}, int(id), 1, engine.F32, data[k*row:(k+1)*row])
		if err != nil {
			return err
		}
	}
	return m.device.Upload(ctx, x, data)
}

// pass takes sequences through all layers, each of which is brought to the device once, and through the final norm. The
// work is submitted, not waited for.
func (m *Model) pass(ctx context.Context, sequences []*sequence, w workspace) error {
	if m.interrupted != nil {
		return fmt.Errorf("qwen: an earlier pass was interrupted between layers, open the model again: %w", m.interrupted)
	}
	s := m.device.Compute()
	for i := range m.blocks.Blocks() {
		if err := m.block(ctx, s, i, sequences, w); err != nil {
			// Streamed layers come in a fixed order, which the next pass could not begin anew.
			if i > 0 && len(m.swap.Plan().Streamed) > 0 {
				m.interrupted = err
			}
			return err
		}
		if m.device.Rehearsing() { // the others need the same kernels
			break
		}
	}
	for _, q := range sequences {
		ops.RMSNorm(s, ops.RMSNormArgs{X: q.x, Y: q.x, Weight: m.norm.Get("weight"), Eps: m.eps()})
	}
	_, err := s.Flush()
	return err
}

func (m *Model) block(ctx context.Context, s *engine.Stream, i int, sequences []*sequence, w workspace) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := m.swap.Acquire(ctx, i)
	if err != nil {
		return err
	}
	if b.Ready.Stream != nil {
		s.Wait(b.Ready)
	}
	for _, q := range sequences {
		m.layer(s, i, m.blocks.Layout.Bind(b.Mem), q, w)
	}
	return m.swap.Release(i, s)
}
