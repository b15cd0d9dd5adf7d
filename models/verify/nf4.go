package verify

import (
	"context"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/qwen"
)

// limitNF4 bounds what 4 bits change in the hidden state of a case. The nearest of 16 points is about 0.1 of a normal number
// away (root mean square), and a case's three layers of random weights follow each other with no training that would even errors
// out: about 0.1·√(4·3) at the end.
const limitNF4 = 0.5

// quantized encodes the text with linear layers in 4 bits. The first result judges the kernels: the same numbers held in bf16
// must give the same state. The second says what 4 bits cost: the distance from the state of the model as it is.
func (q qwenCase) quantized(ctx context.Context, ids []int32, plain []float32) error {
	o := q.opts
	o.Quantize = true
	got, err := q.stateOf(ctx, q.reader, ids, o)
	if err != nil {
		return err
	}
	o.Quantize = false
	want, err := q.stateOf(ctx, load.Through4Bits(q.reader, isLinear), ids, o)
	if err != nil {
		return err
	}
	q.add("last_hidden_state_nf4", "relative error", RelativeError(got, want), q.limit)
	q.add("nf4_against_16_bits", "relative error", RelativeError(got, plain), limitNF4)
	return nil
}

// isLinear tells the matrices of the decoder's linear layers.
func isLinear(name string) bool {
	return strings.HasPrefix(name, "model.layers.") && strings.HasSuffix(name, "_proj.weight")
}

// stateOf is the last hidden state of a prompt in a model of its own.
func (q qwenCase) stateOf(ctx context.Context, r load.Reader, ids []int32, o qwen.Options) (state []float32, err error) {
	m, err := qwen.New(ctx, q.device, r, q.model.Config, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = oneline.Join(err, m.Close()) }()
	var x engine.Tensor
	if x, err = m.Hidden(ctx, ids, nil); err != nil {
		return nil, err
	}
	defer q.device.Free(x)
	return q.device.DownloadF32(ctx, x)
}
