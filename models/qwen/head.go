package qwen

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// headPieceBytes bounds a piece of lm_head: the published one is 1.09 GB, more than a binding may be on most devices.
const headPieceBytes = 64 << 20

// headPiece returns how many rows of lm_head a piece has.
func headPiece(c weights.QwenTextConfig, dt engine.DType) int {
	return min(c.VocabSize, max(128, int(headPieceBytes/(int64(c.HiddenSize)*dt.Size()))/128*128))
}

func headName(c weights.QwenConfig) string {
	if c.TieWordEmbeddings {
		return tokenTable
	}
	return "lm_head.weight"
}

func headType(c weights.QwenConfig, r load.Reader, p load.Precision) (engine.DType, error) {
	stored, err := r.DType(headName(c))
	return p.Weight(stored), err
}

// Logits returns the logits of chosen rows of a hidden state [L, D], one after the other: [len(rows), V]. lm_head is
// taken in pieces of rows, read from the checkpoint unless they are kept on the device.
func (m *Model) Logits(ctx context.Context, hidden engine.Tensor, rows []int) ([]float32, error) {
	words := make([]uint32, len(rows))
	for k, row := range rows {
		if row < 0 || row >= hidden.Dim(0) {
			return nil, fmt.Errorf("qwen: logits of row %d of a hidden state %v", row, hidden)
		}
		words[k] = uint32(row)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	dt, err := headType(m.Config, m.reader, m.precision)
	if err != nil {
		return nil, err
	}
	arena := m.device.NewArena("qwen logits")
	defer arena.Release()
	list := headBuffers(m.Config.Text, dt, len(rows), !m.keepHead)
	t := make([]engine.Tensor, 4)
	for k, b := range list {
		t[k] = b.Alloc(arena)
	}
	if err := arena.Err(); err != nil {
		return nil, err
	}
	if err := m.device.UploadU32(ctx, t[0], words); err != nil {
		return nil, err
	}
	ops.Gather(m.device.Compute(), t[1], hidden, t[0])
	return m.logits(ctx, t[1], t[2], t[3], dt)
}

// headBuffers lists what Logits needs on the device: the chosen rows' numbers and contents, a piece of the logits, and a
// piece of lm_head.
func headBuffers(c weights.QwenTextConfig, dt engine.DType, rows int, streamed bool) []load.Buffer {
	piece := headPiece(c, dt)
	list := []load.Buffer{
		{Label: "rows", DType: engine.U32, Shape: []int{rows}},
		{Label: "states", DType: engine.F32, Shape: []int{rows, c.HiddenSize}},
		{Label: "logits", DType: engine.F32, Shape: []int{rows, piece}},
	}
	if streamed {
		list = append(list, load.Buffer{Label: "piece of lm_head", DType: dt, Shape: []int{piece, c.HiddenSize}})
	}
	return list
}

// logits multiplies states x with lm_head, piece by piece: y and w are a piece of the result and of lm_head.
func (m *Model) logits(ctx context.Context, x, y, w engine.Tensor, dt engine.DType) ([]float32, error) {
	vocab, rows := m.Config.Text.VocabSize, x.Dim(0)
	out := make([]float32, rows*vocab)
	step := headPiece(m.Config.Text, dt)
	for from := 0; from < vocab; from += step {
		n := min(step, vocab-from)
		piece, err := m.headRows(ctx, from, n, w, dt)
		if err != nil {
			return nil, err
		}
		part := y.View(0, rows, n)
		ops.Matmul(m.device.Compute(), ops.MatmulArgs{X: x, W: piece, Y: part, Half: m.half})
		got, err := m.device.DownloadF32(ctx, part)
		if err != nil {
			return nil, err
		}
		for r := range rows {
			copy(out[r*vocab+from:], got[r*n:(r+1)*n])
		}
	}
	return out, nil
}

// headRows returns n rows of lm_head on the device: kept ones, or read into w.
func (m *Model) headRows(ctx context.Context, from, n int, w engine.Tensor, dt engine.DType) (engine.Tensor, error) {
	c := m.Config
	shape := []int{c.Text.VocabSize, c.Text.HiddenSize}
	index := from / headPiece(c.Text, dt)
	if index < len(m.head) {
		return m.head[index], nil
	}
	if m.keepHead {
		var err error
		if w, err = m.device.Alloc("qwen: lm_head", dt, n, c.Text.HiddenSize); err != nil {
			return w, err
		}
	}
	w = w.View(0, n, c.Text.HiddenSize)
	data := make([]byte, w.Bytes())
	err := load.ReadRows(ctx, m.reader, headName(c), shape, from, n, dt, data)
	if err == nil {
		err = m.device.Upload(ctx, w, data)
	}
	switch {
	case !m.keepHead:
	case err != nil:
		m.device.Free(w)
	default:
		m.head = append(m.head, w)
	}
	return w, err
}
