package load

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/quant"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Packed are Blocks whose large matrices wait in host memory, cross the bus and lie in their slots in eight bits, with a
// scale for every 128 columns of a row, as the block-swap fork's int8 files have them. Before a block is used, Unpack decodes
// its matrices into memory that all blocks share. Everything else stays as it is. It is a swap.Source.
type Packed struct {
	blocks *Blocks
	places []place // of the layout's entries
	bytes  int64   // of a packed block
	room   int64   // of an unpacked one's matrices
}

// place is where a tensor lies in a packed block, and its matrix in the room for unpacked ones. scales is 0 for tensors that
// are not coded.
type place struct {
	offset, scales, unpacked int64
}

// Pack lays blocks out with those matrices coded that coded chooses by their names without prefix, and whose rows are a
// multiple of 128.
func Pack(b *Blocks, coded func(name string) bool) *Packed {
	p := &Packed{blocks: b}
	for _, e := range b.Layout.Entries {
		n := elements(e.Shape)
		if e.product != NoFactor || len(e.File) != 2 || e.File[1]%ops.DequantizeRun != 0 || !coded(e.Name) {
			p.places = append(p.places, place{offset: take(&p.bytes, n*e.DType.Size())})
			continue
		}
		p.places = append(p.places, place{offset: take(&p.bytes, n), scales: take(&p.bytes, n/ops.DequantizeRun*4), unpacked: take(&p.room, n*e.DType.Size())})
	}
	return p
}

// Blocks returns how many there are.
func (p *Packed) Blocks() int { return p.blocks.Blocks() }

// BlockBytes returns the bytes of each, packed.
func (p *Packed) BlockBytes() int64 { return p.bytes }

// RoomBytes returns the bytes that an unpacked block's matrices take.
func (p *Packed) RoomBytes() int64 { return p.room }

// Read packs block i into dst.
func (p *Packed) Read(ctx context.Context, i int, dst []byte) error {
	return p.Patch(ctx, i, dst, func(string) bool { return true })
}

// Patch reads those tensors of block i that changed over its old bytes.
func (p *Packed) Patch(ctx context.Context, i int, dst []byte, changed func(name string) bool) error {
	for k, e := range p.blocks.Layout.Entries {
		name, at, n := p.blocks.prefixes[i]+e.source(), p.places[k], elements(e.Shape)
		if !changed(name) {
			continue
		}
		if at.scales == 0 {
			if err := e.read(ctx, p.blocks.reader, name, dst[at.offset:at.offset+n*e.DType.Size()]); err != nil {
				return err
			}
			continue
		}
		codes, scales := dst[at.offset:at.offset+n], dst[at.scales:at.scales+n/ops.DequantizeRun*4]
		if err := e.code(ctx, p.blocks.reader, name, codes, scales); err != nil {
			return err
		}
	}
	return nil
}

// CodeReader is a Reader that may have a matrix in eight bits already.
type CodeReader interface {
	Reader
	// ReadInt8 copies the codes of a matrix of this shape and a float32 scale for every run of elements, and returns false
	// when it has none such. Errors are those of Read.
	ReadInt8(ctx context.Context, name string, shape []int, run int, codes, scales []byte) (bool, error)
}

func (r *checkpointReader) ReadInt8(ctx context.Context, name string, shape []int, run int, codes, scales []byte) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	t, err := r.ckpt.Require(name, shape...)
	if err != nil {
		return false, err
	}
	return t.CopyInt8(codes, scales, run)
}

// codePiece is about how many elements one goroutine codes at a time.
const codePiece = 1 << 18

// code reads a matrix and codes it, on all processors, or takes the codes that its file has, so that nothing is lost twice.
func (e Entry) code(ctx context.Context, r Reader, name string, codes, scales []byte) error {
	if c, ok := r.(CodeReader); ok {
		if done, err := c.ReadInt8(ctx, name, e.File, ops.DequantizeRun, codes, scales); done || err != nil {
			return err
		}
	}
	rows, columns := e.File[0], e.File[1]
	step := max(1, codePiece/columns)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < rows; from += step {
		group.Go(func() error {
			count := min(step, rows-from)
			raw := make([]byte, 4*count*columns)
			if err := ReadRows(ctx, r, name, e.File, from, count, engine.F32, raw); err != nil {
				return err
			}
			values := make([]float32, count*columns)
			numeric.F32sFromBytes(values, raw)
			packInt8(codes[from*columns:(from+count)*columns], scales[from*columns/ops.DequantizeRun*4:], values)
			return nil
		})
	}
	return group.Wait()
}

// packInt8 codes runs of 128 values with a scale for each.
func packInt8(codes, scales []byte, values []float32) {
	for at := 0; at < len(values); at += ops.DequantizeRun {
		run := values[at : at+ops.DequantizeRun]
		scale := quant.Amax(run) / 127
		quant.EncodeInt8(codes[at:at+ops.DequantizeRun], run, scale)
		numeric.BytesFromF32s(scales[at/ops.DequantizeRun*4:][:4], []float32{scale})
	}
}

// Unpack records the decoding of a packed block into room of RoomBytes bytes and returns its tensors: coded matrices in the
// room, all others where they lie. They are valid until the room is used for another block.
func (p *Packed) Unpack(s *engine.Stream, packed, room memory.Region) Params {
	for k, e := range p.blocks.Layout.Entries {
		at := p.places[k]
		if at.scales == 0 {
			continue
		}
		rows, columns := e.Shape[0], e.Shape[1]
		ops.Dequantize(s, engine.Tensor{Mem: room, Offset: at.unpacked, DType: e.DType, Shape: e.Shape},
			engine.Tensor{Mem: packed, Offset: at.offset, DType: engine.U32, Shape: []int{rows, columns / 4}},
			engine.Tensor{Mem: packed, Offset: at.scales, DType: engine.F32, Shape: []int{rows, columns / ops.DequantizeRun}})
	}
	return Params{group: p.blocks.Layout, mem: packed, packed: p, room: room}
}

// Check finds nothing: any device can decode eight bits.
func (p *Packed) Check(int64) error { return nil }

func (p *Packed) at(k int) (int64, bool) {
	if at := p.places[k]; at.scales != 0 {
		return at.unpacked, true
	}
	return p.places[k].offset, false
}
