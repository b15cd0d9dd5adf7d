package load

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/bf16z"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Compressed are Blocks whose bf16 matrices have coded exponents, as package bf16z has them: all bits come back. Everything
// else stays as it is.
//
// A block begins with a word that says how many of its bytes are used, and ends with a pool, which all its matrices share. How much of the pool is
// needed is known only when the block has been coded, but memory is planned before anything is read. So a pool has a capacity that
// follows from shapes alone, PoolBits for a number, and only what is used of it crosses the bus. Trained networks need about half of it. A
// block that needs more is an error of Read.
type Compressed struct {
	blocks *Blocks
	places []codedPlace // of the layout's entries
	pool   int64        // where it begins
	bytes  int64
	room   int64
}

// codedPlace is where a tensor lies in a block, and its matrix in the room for unpacked ones.
type codedPlace struct {
	offset             int64 // of the low bytes, or of a tensor that is not coded
	codes, index, room int64 // codes is 0 for tensors that are not coded
}

// PoolBits is the capacity of a pool, in half bits for a number: 8 bits for sign and mantissa, 2 for first codes, and these make
// 11.5 bits of 16.
const PoolBits = 3

// usedBytes is the place of the word that says how much of a block is used: an aligned place of its own.
const usedBytes = 8

// Compress lays blocks out with their bf16 matrices coded. Blocks that have none are an error.
func Compress(b *Blocks) (*Compressed, error) {
	p := &Compressed{blocks: b, bytes: alignment}
	var capacity int64
	for _, e := range b.Layout.Entries {
		n := elements(e.Shape)
		if !compresses(e) {
			p.places = append(p.places, codedPlace{offset: take(&p.bytes, e.Bytes())})
			continue
		}
		p.places = append(p.places, codedPlace{take(&p.bytes, n), take(&p.bytes, bf16z.CodeBytes(n)), take(&p.bytes, bf16z.IndexBytes(n)), take(&p.room, 2*n)})
		// Two half words fill up the pool's last words of a chunk, on average.
		capacity += n*PoolBits/16 + 4*bf16z.Chunks(n)
	}
	if capacity == 0 {
		return nil, fmt.Errorf("%s* has no matrices in bf16, whose exponents could be coded: use --host-weights bf16, which leaves blocks as they are", b.prefixes[0])
	}
	p.pool = take(&p.bytes, capacity)
	return p, nil
}

// compresses tells whether a tensor's exponents are coded: of those that are a large part of a block.
func compresses(e Entry) bool {
	n := elements(e.Shape)
	return e.product == NoFactor && len(e.File) == 2 && e.DType == engine.BF16 && e.NF4 == nil && n%bf16z.WordValues == 0 && n >= bf16z.ChunkValues
}

// Blocks returns how many there are.
func (p *Compressed) Blocks() int { return p.blocks.Blocks() }

// BlockBytes returns the capacity of a block.
func (p *Compressed) BlockBytes() int64 { return p.bytes }

// RoomBytes returns the bytes that the decoded matrices of a block take.
func (p *Compressed) RoomBytes() int64 { return p.room }

// Used returns how many bytes of a block that was read are used.
func (p *Compressed) Used(block []byte) int64 {
	return int64(binary.LittleEndian.Uint64(block[:usedBytes]))
}

// Patch reads block i again if one of its tensors changed: a matrix that takes more of the pool than it did moves all others.
func (p *Compressed) Patch(ctx context.Context, i int, dst []byte, changed func(name string) bool) error {
	if !p.blocks.Block(i).Has(changed) {
		return nil
	}
	return p.Read(ctx, i, dst)
}

// Check says whether a device can bind the pool, which is bound whole.
func (p *Compressed) Check(maxRange int64) error {
	if size, most := p.bytes-p.pool, ops.PoolRange(maxRange); size > most {
		return fmt.Errorf("blocks with coded exponents bind %s at once, and the device allows %s: use --host-weights bf16", memory.Size(size), memory.Size(most))
	}
	return nil
}

// Unpack records the decoding of a block into room.
func (p *Compressed) Unpack(s *engine.Stream, coded, room memory.Region) Params {
	words := func(at, bytes int64) engine.Tensor {
		return engine.Tensor{Mem: coded, Offset: at, DType: engine.U32, Shape: []int{int(bytes / 4)}}
	}
	pool := words(p.pool, p.bytes-p.pool)
	for k, e := range p.blocks.Layout.Entries {
		at, n := p.places[k], elements(e.Shape)
		if at.codes == 0 {
			continue
		}
		ops.DecodeBF16(s, engine.Tensor{Mem: room, Offset: at.room, DType: e.DType, Shape: e.Shape}, ops.Coded{
			Low:   engine.Tensor{Mem: coded, Offset: at.offset, DType: engine.U8, Shape: []int{int(n)}},
			Codes: words(at.codes, bf16z.CodeBytes(n)), Index: words(at.index, bf16z.IndexBytes(n)), Pool: pool,
		})
	}
	return Params{group: p.blocks.Layout, mem: coded, packed: p, room: room}
}

func (p *Compressed) at(k int) (int64, bool) {
	if at := p.places[k]; at.codes != 0 {
		return at.room, true
	}
	return p.places[k].offset, false
}
