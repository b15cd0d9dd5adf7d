package lora

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// reader merges adapters into the matrices that it reads. It is a load.RowReader, a load.CodeReader and load.Adapted.
type reader struct {
	base  load.Reader
	terms map[string][]term // by tensor name, in the order of the adapters
}

// term is one adapter's part of a change.
type term struct {
	adapter *Adapter
	change  change
	gain    float32 // weight·scale, not 0
}

// DType returns the type of the tensor without adapters, which is kept.
func (r *reader) DType(name string) (weights.DType, error) { return r.base.DType(name) }

// Read reads a tensor. A changed one is W + Σ gain·B·A, summed in fp32 and rounded once to the type asked for, always in the
// same order: reading it again gives the same bytes.
func (r *reader) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if len(r.terms[name]) == 0 {
		return r.base.Read(ctx, name, shape, to, dst)
	}
	return r.merge(ctx, name, shape, 0, shape[0], to, dst)
}

// ReadRows reads some rows, as Read gives them.
func (r *reader) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	if len(r.terms[name]) == 0 {
		return load.ReadRows(ctx, r.base, name, shape, from, count, to, dst)
	}
	return r.merge(ctx, name, shape, from, count, to, dst)
}

// ReadInt8 passes on the codes of a matrix that no adapter changes; of others there are none.
func (r *reader) ReadInt8(ctx context.Context, name string, shape []int, run int, codes, scales []byte) (bool, error) {
	base, ok := r.base.(load.CodeReader)
	if !ok || len(r.terms[name]) > 0 {
		return false, nil
	}
	return base.ReadInt8(ctx, name, shape, run, codes, scales)
}

func (r *reader) merge(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	terms := r.terms[name]
	if storage(to) == weights.Invalid {
		return fmt.Errorf("lora: %s is held as %v, into which no adapter can be merged: leave the adapter or the quantisation out", name, to)
	}
	f, err := factor(terms)
	if err != nil {
		return fmt.Errorf("lora: %w", err)
	}
	if len(shape) != 2 || shape[0] != f.out || shape[1] != f.in {
		panic(fmt.Sprintf("lora: %s is read with shape %v, was checked as [%d, %d]", name, shape, f.out, f.in))
	}
	m := merge{base: r.base, factors: f, name: name, files: files(terms), from: from, count: count, to: to, dst: dst}
	return m.run(ctx)
}

// files names the adapters of a change.
func files(terms []term) string {
	var names []string
	for _, t := range terms {
		names = append(names, t.adapter.path)
	}
	return strings.Join(names, ", ")
}

// merge is the merging of rows from to from+count-1 of one tensor.
type merge struct {
	base        load.Reader
	factors     factors
	name        string
	files       string
	from, count int
	to          engine.DType
	dst         []byte
}

// pieceBytes is how much of a matrix is read and merged at a time, in fp32.
const pieceBytes = 1 << 20

// run merges pieces of whole rows on all processors.
func (m *merge) run(ctx context.Context) error {
	f := m.factors
	rows := max(2, pieceBytes/(4*f.in)&^1)
	pieces := (m.count + rows - 1) / rows
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(pieces, runtime.GOMAXPROCS(0)) {
		group.Go(func() error {
			raw, values := make([]byte, 4*rows*f.in), make([]float32, rows*f.in)
			for {
				at := (int(next.Add(1)) - 1) * rows
				if at >= m.count {
					return nil
				}
				count := min(rows, m.count-at)
				if err := m.piece(ctx, at, raw[:4*count*f.in], values[:count*f.in]); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// piece merges some rows, the first of which is row at of those wanted.
func (m *merge) piece(ctx context.Context, at int, raw []byte, values []float32) error {
	f, from := m.factors, m.from+at
	count := len(values) / f.in
	if err := load.ReadRows(ctx, m.base, m.name, []int{f.out, f.in}, from, count, engine.F32, raw); err != nil {
		return err
	}
	numeric.F32sFromBytes(values, raw)
	f.add(values, from)
	numeric.BytesFromF32s(raw, values)
	merged := weights.Tensor{Name: m.name, DType: weights.F32, Shape: []int{count, f.in}, Data: raw, File: "merged with " + m.files}
	size := int(m.to.Size()) * f.in
	return weights.ConvertFinite(m.dst[at*size:(at+count)*size], merged, storage(m.to))
}

// storage is a type as files have it; Invalid for those that no matrix is merged in.
func storage(d engine.DType) weights.DType {
	return map[engine.DType]weights.DType{engine.F32: weights.F32, engine.BF16: weights.BF16, engine.F16: weights.F16}[d]
}

func fromBytes(raw []byte) []float32 {
	out := make([]float32, len(raw)/4)
	numeric.F32sFromBytes(out, raw)
	return out
}

func toBytes(values []float32) []byte {
	out := make([]byte, 4*len(values))
	numeric.BytesFromF32s(out, values)
	return out
}
