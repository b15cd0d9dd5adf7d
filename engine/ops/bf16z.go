package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/bf16z"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Coded are the parts of a matrix whose exponents are coded, as package bf16z has them. Pool may be that of many matrices.
type Coded struct {
	Low   engine.Tensor // u8 [n]
	Codes engine.Tensor // u32 [n/16]
	Index engine.Tensor // u32, bf16z.IndexBytes(n)
	Pool  engine.Tensor // u32
}

// PoolRange is the largest pool that a device can bind, by what it binds at most: a pool is bound whole.
func PoolRange(maxRange int64) int64 { return maxRange - 256 }

// DecodeBF16 records the decoding of a matrix into y, bf16 of a multiple of 16 elements. All bits come back. Work is cut over
// chunks.
func DecodeBF16(s *engine.Stream, y engine.Tensor, m Coded) {
	if s.Err() != nil {
		return
	}
	n := y.Elems()
	if y.IsZero() || y.DType != engine.BF16 || n%bf16z.WordValues != 0 || m.Low.IsZero() || m.Low.DType != engine.U8 || m.Low.Elems() != n ||
		!words(m.Codes, bf16z.CodeBytes(n)) || !words(m.Index, bf16z.IndexBytes(n)) || !words(m.Pool, m.Pool.Bytes()) || !vectors(y) || !vectors(m.Low) {
		panic(fmt.Sprintf("ops.DecodeBF16: bf16 y %v wants a multiple of %d elements, its low bytes %v, u32 codes %v, index %v and pool %v",
			y, bf16z.WordValues, m.Low, m.Codes, m.Index, m.Pool))
	}
	caps := s.Device().Caps()
	if size, most := m.Pool.Bytes(), PoolRange(caps.MaxStorageRange); size > most {
		panic(fmt.Sprintf("ops.DecodeBF16: a pool of %d bytes, the device binds %d", size, most))
	}
	const cost = 16 * bf16z.ChunkValues
	chunks := int(bf16z.Chunks(n))
	piece := pieceSize(caps, "DecodeBF16", chunks, cost, 2*bf16z.ChunkValues)
	for at := 0; at < chunks; at += piece {
		first := int64(at) * bf16z.ChunkValues
		values := min(int64(at+piece)*bf16z.ChunkValues, n) - first
		push := shaders.Bf16zPush{Chunks: uint32(bf16z.Chunks(values)), Words: uint32(values / bf16z.WordValues), FirstChunk: uint32(at), PoolWords: uint32(m.Pool.Elems())}
		bind := make([]engine.Tensor, 5)
		bind[0], push.IndexBase = alignedView(caps, m.Index, 0, m.Index.Elems())
		bind[1], push.LowBase = alignedView(caps, m.Low, first, values)
		bind[2], push.CodesBase = alignedView(caps, m.Codes, first/bf16z.WordValues, values/bf16z.WordValues)
		bind[3], push.PoolBase = alignedView(caps, m.Pool, 0, m.Pool.Elems())
		bind[4], push.YBase = alignedView(caps, y, first, values)
		push.LowBase, push.YBase = push.LowBase/16, push.YBase/8
		s.Dispatch(engine.Call{
			Shader: shaders.Bf16z, Push: push.Append(nil), Bind: bind, Groups: folded(caps, int64(push.Chunks)),
			Cost: cost / bf16z.ChunkValues * float64(values), Label: fmt.Sprintf("decode exponents %d", values),
		})
	}
}

// words tells whether t is u32 of so many bytes.
func words(t engine.Tensor, bytes int64) bool {
	return !t.IsZero() && t.DType == engine.U32 && t.Bytes() == bytes
}
