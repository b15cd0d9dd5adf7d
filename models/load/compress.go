package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/bf16z"
	"github.com/vkandinsky/vkandinsky/memory"
)

// ErrIncompressible says that a block does not fit its capacity.
var ErrIncompressible = errors.New("the weights' exponents vary too much to be coded")

// Read codes block i into dst, which is only written to: pinned memory is slow to read. Matrices are coded one after the other, piece by
// piece on all processors, with a few MiB of memory, in a pass over each: the exponents' codes follow from a sample. The same
// weights give the same bytes.
func (p *Compressed) Read(ctx context.Context, i int, dst []byte) error {
	pool := &poolWriter{dst: dst[p.pool:p.bytes]}
	for k, e := range p.blocks.Layout.Entries {
		name, at, n := p.blocks.prefixes[i]+e.source(), p.places[k], elements(e.Shape)
		if at.codes == 0 {
			if err := e.read(ctx, p.blocks.reader, name, dst[at.offset:at.offset+e.Bytes()]); err != nil {
				return err
			}
			continue
		}
		m := matrixCoder{Entry: e, name: name, reader: p.blocks.reader, pool: pool,
			low: dst[at.offset:][:n], codes: dst[at.codes:][:bf16z.CodeBytes(n)], index: dst[at.index:][:bf16z.IndexBytes(n)]}
		if err := m.code(ctx); err != nil {
			return err
		}
	}
	if pool.used > int64(len(pool.dst)) {
		return fmt.Errorf("%s*: %w: %s for what is rare, there is room for %s: use --host-weights bf16",
			p.blocks.prefixes[i], ErrIncompressible, memory.Size(pool.used), memory.Size(int64(len(pool.dst))))
	}
	binary.LittleEndian.PutUint64(dst[:usedBytes], uint64(p.pool+pool.used))
	return nil
}

// poolWriter takes what matrices have in the pool. What does not fit is counted.
type poolWriter struct {
	dst  []byte
	used int64
}

func (w *poolWriter) add(data []byte) {
	if w.used+int64(len(data)) <= int64(len(w.dst)) {
		copy(w.dst[w.used:], data)
	}
	w.used += int64(len(data))
}

// matrixCoder codes a matrix of a block.
type matrixCoder struct {
	Entry
	name              string
	reader            Reader
	pool              *poolWriter
	low, codes, index []byte
}

// coderPiece is about how many numbers one goroutine codes at a time.
const coderPiece = 1 << 18

// rowsPerPiece returns how many rows make about that many numbers and whole chunks, so that pieces do not share one.
func rowsPerPiece(columns int) int {
	unit := bf16z.ChunkValues / gcd(columns, bf16z.ChunkValues) // the fewest rows that are whole chunks
	return unit * max(1, coderPiece/(unit*columns))
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// code reads pieces and codes them at the same time; what they have in the pool follows in their order.
func (m matrixCoder) code(ctx context.Context) error {
	code, err := m.sample(ctx)
	if err != nil {
		return err
	}
	code.Head(m.index)
	rows, columns := m.File[0], m.File[1]
	step := rowsPerPiece(columns)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	turn := make(chan struct{}) // closed when a piece may write to the pool
	close(turn)
	for from := 0; from < rows; from += step {
		before, done := turn, make(chan struct{})
		turn = done
		group.Go(func() error {
			count := min(step, rows-from)
			raw := make([]byte, 2*count*columns)
			if err := ReadRows(ctx, m.reader, m.name, m.File, from, count, engine.BF16, raw); err != nil {
				return err
			}
			first, n := from*columns, count*columns
			var e bf16z.Encoder
			e.Encode(code, m.low[first:first+n], m.codes[first/4:(first+n)/4], raw)
			select {
			case <-before:
			case <-ctx.Done():
				return ctx.Err()
			}
			m.commit(&e, first/bf16z.ChunkValues)
			close(done)
			return nil
		})
	}
	return group.Wait()
}

// commit writes what a piece has in the pool, and where its chunks begin.
func (m matrixCoder) commit(e *bf16z.Encoder, chunk int) {
	base := uint32(m.pool.used / 4)
	m.pool.add(e.Pool)
	for k, start := range e.Starts {
		binary.LittleEndian.PutUint32(m.index[4*(bf16z.HeadWords+chunk+k):], base+start)
	}
}

// A sample is rows from so many places, about so many numbers in each.
const (
	samplePlaces = 8
	sampleValues = 1 << 14
)

// sample chooses the code of a matrix by the exponents of a part of it, spread evenly.
func (m matrixCoder) sample(ctx context.Context) (*bf16z.Code, error) {
	var h bf16z.Histogram
	rows, columns := m.File[0], m.File[1]
	count := min(rows, max(1, sampleValues/columns))
	raw := make([]byte, 2*count*columns)
	places := min(samplePlaces, rows/count)
	for k := range places {
		from := k * (rows - count) / max(1, places-1)
		if err := ReadRows(ctx, m.reader, m.name, m.File, from, count, engine.BF16, raw); err != nil {
			return nil, err
		}
		h.Add(raw)
	}
	return bf16z.NewCode(&h), nil
}
