package ops_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/bf16z"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// bf16Values draws n numbers of a kind.
func (b *gemmBench) bf16Values(kind string, n int) []byte {
	out := make([]byte, 2*n)
	for i := range n {
		v := uint16(0)
		switch kind {
		case "normal":
			v = numeric.BF16FromF32(float32(b.rng.NormFloat64() * 0.02))
		case "wide":
			v = numeric.BF16FromF32(float32(b.rng.NormFloat64() * math.Exp2(8*b.rng.NormFloat64())))
		case "any":
			v = uint16(b.rng.Uint32())
		case "constant":
			v = 0x8000
		}
		binary.LittleEndian.PutUint16(out[2*i:], v)
	}
	return out
}

// coded encodes values behind others in one pool, uploads the parts, and returns them with the pool's bytes and the index.
func (b *gemmBench) coded(values []byte) (m ops.Coded, index, pool []byte) {
	b.Helper()
	n := int64(len(values) / 2)
	var h bf16z.Histogram
	h.Add(values[:min(len(values), 1<<16)])
	code := bf16z.NewCode(&h)
	var e bf16z.Encoder
	e.Pool = append(e.Pool, 0xde, 0xad, 0xbe, 0xef) // of another matrix
	low, codes, index := make([]byte, n), make([]byte, bf16z.CodeBytes(n)), make([]byte, bf16z.IndexBytes(n))
	code.Head(index)
	e.Encode(code, low, codes, values)
	for k, s := range e.Starts {
		binary.LittleEndian.PutUint32(index[4*(bf16z.HeadWords+k):], s)
	}
	m.Low = b.part(engine.U8, low)
	m.Codes, m.Index, m.Pool = b.part(engine.U32, codes), b.part(engine.U32, index), b.part(engine.U32, e.Pool)
	got := make([]byte, len(values))
	if err := bf16z.Decode(got, low, codes, index, e.Pool); err != nil || !bytes.Equal(got, values) {
		b.Fatalf("the host decodes other numbers, %v", err)
	}
	return m, index, e.Pool
}

func (b *gemmBench) part(dt engine.DType, data []byte) engine.Tensor {
	b.Helper()
	t := b.arena.Alloc("part", dt, len(data)/int(dt.Size()))
	if err := b.arena.Err(); err != nil {
		b.Fatal(err)
	}
	if err := b.dev.Upload(b.Context(), t, data); err != nil {
		b.Fatal(err)
	}
	return t
}

// downloaded returns y's bytes, after a look at its guard zones.
func (b *gemmBench) downloaded(y engine.Tensor) []byte {
	b.Helper()
	b.finish(y)
	got, err := b.dev.Download(b.Context(), y)
	if err != nil {
		b.Fatal(err)
	}
	return got
}

func TestDecodeBF16GivesAllBits(t *testing.T) {
	dev := enginetest.Open(t)
	for i, shape := range [][2]int{{1, 16}, {3, 16}, {1, 2032}, {1, 2048}, {43, 48}, {128, 128}, {129, 144}, {7, 4096}} {
		for k, kind := range []string{"normal", "wide", "any", "constant"} {
			t.Run(fmt.Sprintf("%v %s", shape, kind), func(t *testing.T) {
				b := newGemmBench(t, dev, uint64(4*i+k))
				want := b.bf16Values(kind, shape[0]*shape[1])
				m, _, _ := b.coded(want)
				y := b.outputAt(engine.BF16, 8*(i%2), shape[0], shape[1])
				ops.DecodeBF16(dev.Compute(), y, m)
				if got := b.downloaded(y); !bytes.Equal(got, want) {
					at := 0
					for got[at] == want[at] {
						at++
					}
					t.Fatalf("element %d is %x, want %x", at/2, got[at&^1:][:2], want[at&^1:][:2])
				}
			})
		}
	}
}

func TestDecodeBF16IsCutWithoutChangingABit(t *testing.T) {
	for name, limits := range map[string]engine.TestLimits{"by binding": {MaxStorageRange: 16 << 10}, "by cost": {MaxDispatchCost: 100e3}} {
		t.Run(name, func(t *testing.T) {
			dev := enginetest.OpenWith(t, engine.Options{Limits: limits})
			b := newGemmBench(t, dev, 1)
			want := b.bf16Values("normal", 61*336)
			m, _, _ := b.coded(want)
			y := b.output(engine.BF16, 61, 336)
			ops.DecodeBF16(dev.Compute(), y, m)
			if !bytes.Equal(b.downloaded(y), want) {
				t.Error("other numbers came back")
			}
			if n := dev.Compute().Counters().Dispatches; n < 3 {
				t.Errorf("%d dispatches are no cut", n)
			}
		})
	}
}

// TestDecodeBF16StaysInsideWhateverItIsGiven decodes noise: validation and guard zones would tell of reads and writes elsewhere.
func TestDecodeBF16StaysInsideWhateverItIsGiven(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 2)
	noise := func(dt engine.DType, n int64) engine.Tensor {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(b.rng.Uint32())
		}
		return b.part(dt, data)
	}
	const n = 3*bf16z.ChunkValues + 32
	y := b.output(engine.BF16, n)
	ops.DecodeBF16(dev.Compute(), y, ops.Coded{Low: noise(engine.U8, n), Codes: noise(engine.U32, bf16z.CodeBytes(n)),
		Index: noise(engine.U32, bf16z.IndexBytes(n)), Pool: noise(engine.U32, 64)})
	b.downloaded(y)
}

// BenchmarkDecodeBF16 decodes a matrix of the 20B model's feed-forward. Bytes are those of the decoded matrix, time that of the
// device from the first dispatch to the last of b.N.
func BenchmarkDecodeBF16(b *testing.B) {
	dev := enginetest.Open(b)
	rows, columns := 16384, 4096
	if dev.Summary.Physical.Info.Kind == "cpu" {
		rows = 64
	}
	g := newGemmBench(b, dev, 3)
	m, _, pool := g.coded(g.bf16Values("normal", rows*columns))
	y := g.output(engine.BF16, rows, columns)
	s := dev.Compute()
	ops.DecodeBF16(s, y, m)
	g.downloaded(y)
	b.SetBytes(y.Bytes())
	b.ResetTimer()
	start := time.Now()
	for range b.N {
		ops.DecodeBF16(s, y, m)
	}
	if err := s.Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	n := float64(rows * columns)
	moved := 2*n + n + float64(bf16z.CodeBytes(int64(n))+bf16z.IndexBytes(int64(n))+int64(len(pool)))
	b.ReportMetric(moved*float64(b.N)/took.Seconds()/1e9, "GB/s-memory")
}
