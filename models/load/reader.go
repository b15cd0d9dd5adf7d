package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// FromCheckpoint reads tensors of a checkpoint. Each is checked for values that are not finite the first time it is
// read, so a broken file is refused and not computed with.
// Matrices that are stored in 4 bits are read as what they stand for.
func FromCheckpoint(c *weights.Checkpoint) NF4Reader { return &checkpointReader{ckpt: c} }

type checkpointReader struct {
	ckpt    *weights.Checkpoint
	checked sync.Map // names of tensors known to be finite

	makeQuantizer sync.Once
	quantizer     *nf4.Quantizer
}

func (r *checkpointReader) DType(name string) (weights.DType, error) {
	t, ok := r.ckpt.Tensor(name)
	if !ok {
		return 0, fmt.Errorf("%s: tensor %q is missing", r.ckpt.Path(), name)
	}
	if _, ok, err := r.ckpt.NF4(name); ok || err != nil {
		return weights.BF16, err
	}
	return t.DType, nil
}

func (r *checkpointReader) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if q, ok, err := r.stored(name, shape); ok || err != nil {
		if err != nil {
			return err
		}
		return q.Values(dst, 0, int(elements(shape)), fileType(to))
	}
	t, err := r.ckpt.Require(name, shape...)
	if err != nil {
		return err
	}
	if _, ok := r.checked.Load(name); ok {
		return weights.ConvertTo(dst, t, fileType(to))
	}
	if err := weights.ConvertFinite(dst, t, fileType(to)); err != nil {
		return err
	}
	r.checked.Store(name, true)
	return nil
}

// Synthetic makes up tensors from their names: small numbers of mean zero, scaled by the inverse root of the last
// axis for matrices, ones for norm gains, so that a network of any size computes finite values. For measuring speed
// where no checkpoint is.
func Synthetic(stored weights.DType) NF4Reader { return synthetic{stored} }

type synthetic struct{ stored weights.DType }

func (s synthetic) DType(string) (weights.DType, error) { return s.stored, nil }

// patternLen is the length of the repeated stretch of numbers; a prime, so that rows differ.
const patternLen = 65521

func (s synthetic) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	return s.fill(ctx, name, shape, 0, to, dst)
}

func (s synthetic) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	return s.fill(ctx, name, shape, int64(from)*rowBytes(name, shape, from, count, to, dst)/to.Size(), to, dst)
}

// StoredNF4 says that nothing is stored in 4 bits.
func (s synthetic) StoredNF4(string) (l nf4.Layout, ok bool) { return l, false }

func (s synthetic) ReadNF4(ctx context.Context, name string, shape []int, l nf4.Layout, dst []byte) error {
	return quantize(ctx, s, name, shape, l, dst)
}

// fill writes a tensor's elements from first on.
func (s synthetic) fill(ctx context.Context, name string, shape []int, first int64, to engine.DType, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	state := h.Sum64() | 1
	gain := float32(0.02)
	if len(shape) > 1 {
		gain = float32(1 / math.Sqrt(float64(elements(shape[1:]))))
	}
	values := make([]float32, patternLen)
	for k := range values {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		values[k] = (float32(state>>40)/(1<<23) - 1) * 1.7 * gain
		if len(shape) == 1 && isGain(name) {
			values[k]++
		}
	}
	piece := encode(values, to)
	repeat(dst, piece, int(first%patternLen*to.Size()))
	return nil
}

// repeatBytes is how much of a tensor one goroutine writes.
const repeatBytes = 16 << 20

// repeat fills dst with the same piece again and again, beginning at an offset in it.
func repeat(dst, piece []byte, offset int) {
	var group sync.WaitGroup
	for from := 0; from < len(dst); from += repeatBytes {
		part, at := dst[from:min(from+repeatBytes, len(dst))], (offset+from)%len(piece)
		group.Go(func() {
			for n := copy(part, piece[at:]); n < len(part); {
				n += copy(part[n:], piece)
			}
		})
	}
	group.Wait()
}

func isGain(name string) bool {
	const suffix = "norm.weight"
	return len(name) >= len(suffix) && name[len(name)-len(suffix):] == suffix
}

func encode(values []float32, to engine.DType) []byte {
	out := make([]byte, 0, len(values)*int(to.Size()))
	for _, v := range values {
		switch to {
		case engine.F32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		case engine.BF16:
			out = binary.LittleEndian.AppendUint16(out, numeric.BF16FromF32(v))
		default:
			out = binary.LittleEndian.AppendUint16(out, numeric.F16FromF32(v))
		}
	}
	return out
}
