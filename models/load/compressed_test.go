package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/bf16z"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// normal is a Reader of normally distributed weights, the rows of a matrix of different sizes, as trained weights are.
type normal struct{ Reader }

func (r normal) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if len(shape) != 2 {
		return r.Reader.Read(ctx, name, shape, to, dst)
	}
	rng := rand.New(rand.NewPCG(uint64(len(name)), 11))
	for row := range shape[0] {
		size := 0.02 * (1 + rng.Float64())
		for i := range shape[1] {
			binary.LittleEndian.PutUint16(dst[2*(row*shape[1]+i):], numeric.BF16FromF32(float32(size*rng.NormFloat64())))
		}
	}
	return nil
}

func testBlocks(t *testing.T, r Reader) *Blocks {
	t.Helper()
	spec := weights.Spec{}
	for _, prefix := range []string{"b.0.", "b.1."} {
		spec = append(spec, weights.Spec{
			{Name: prefix + "attention.query.weight", Shape: []int{384, 720}}, {Name: prefix + "attention.query.bias", Shape: []int{384}},
			{Name: prefix + "feed_forward.in.weight", Shape: []int{1031, 512}}, {Name: prefix + "small.weight", Shape: []int{3, 48}},
			{Name: prefix + "odd.weight", Shape: []int{401, 17}},
		}...)
	}
	b, err := NewBlocks(spec, []string{"b.0.", "b.1."}, r, Mixed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decoded returns a coded block as it was.
func (p *Compressed) decoded(t *testing.T, block []byte) []byte {
	t.Helper()
	out := make([]byte, p.blocks.BlockBytes())
	for k, e := range p.blocks.Layout.Entries {
		at, n, dst := p.places[k], elements(e.Shape), out[e.Offset:e.Offset+e.Bytes()]
		if at.codes == 0 {
			copy(dst, block[at.offset:])
			continue
		}
		used := p.Used(block)
		if err := bf16z.Decode(dst, block[at.offset:][:n], block[at.codes:][:bf16z.CodeBytes(n)], block[at.index:][:bf16z.IndexBytes(n)], block[p.pool:used]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestCompressedBlocksComeBackToTheBit(t *testing.T) {
	for name, c := range map[string]struct {
		reader Reader
		share  float64 // of the bytes that are used, at most
	}{
		"normal":    {normal{Synthetic(weights.BF16)}, 0.69},
		"synthetic": {Synthetic(weights.BF16), 0.67},
	} {
		t.Run(name, func(t *testing.T) {
			b := testBlocks(t, c.reader)
			p, err := Compress(b)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				want, got := make([]byte, b.BlockBytes()), bytes.Repeat([]byte{0xee}, int(p.BlockBytes()))
				if err := b.Read(t.Context(), i, want); err != nil {
					t.Fatal(err)
				}
				if err := p.Read(t.Context(), i, got); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p.decoded(t, got), want) {
					t.Error("other weights came back")
				}
				used := p.Used(got)
				if share := float64(used) / float64(len(want)); share > c.share {
					t.Errorf("%d bytes of %d, %.3f of them", used, len(want), share)
				}
				if got[used] != 0xee || used%4 != 0 {
					t.Errorf("byte %d is said to be the first that is not used", used)
				}
				again := bytes.Repeat([]byte{0xee}, len(got))
				if err := p.Patch(t.Context(), i, again, func(name string) bool { return strings.HasSuffix(name, "query.bias") }); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(again[usedBytes:], got[usedBytes:]) {
					t.Error("the same weights were coded in other bytes")
				}
			}
		})
	}
}

func TestCompressedBlocksAreLeftAloneWhereNothingChanged(t *testing.T) {
	p, err := Compress(testBlocks(t, Synthetic(weights.BF16)))
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, p.BlockBytes())
	if err := p.Patch(t.Context(), 1, dst, func(name string) bool { return strings.HasPrefix(name, "b.0.") }); err != nil {
		t.Fatal(err)
	}
	if slot := bytes.TrimLeft(dst, "\x00"); len(slot) > 0 {
		t.Error("a block was read in which nothing changed")
	}
}

// broken fails to read a matrix from a row on.
type broken struct {
	Reader
	from int
}

func (r broken) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	if from+count > r.from {
		return context.DeadlineExceeded
	}
	return ReadRows(ctx, r.Reader, name, shape, from, count, to, dst)
}

// TestCompressedBlocksThatCannotBeReadEnd fails each piece in turn: none may wait for one that never comes.
func TestCompressedBlocksThatCannotBeReadEnd(t *testing.T) {
	for from := 0; from <= 1031; from += 100 {
		p, err := Compress(testBlocks(t, broken{Synthetic(weights.BF16), from}))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Read(t.Context(), 0, make([]byte, p.BlockBytes())); err == nil {
			t.Error("no error")
		}
	}
}

// BenchmarkCompressedRead counts bytes of bf16, as BenchmarkReadBlock does.
func BenchmarkCompressedRead(b *testing.B) {
	spec := weights.Spec{{Name: "b.attention.query.weight", Shape: []int{4096, 4096}}}
	blocks, err := NewBlocks(spec, []string{"b."}, Synthetic(weights.BF16), Mixed)
	if err != nil {
		b.Fatal(err)
	}
	p, err := Compress(blocks)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, p.BlockBytes())
	b.SetBytes(blocks.BlockBytes())
	for b.Loop() {
		if err := p.Read(b.Context(), 0, dst); err != nil {
			b.Fatal(err)
		}
	}
}
