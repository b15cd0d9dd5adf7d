package load

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// NF4Reader is a Reader that can give matrices in 4 bits.
type NF4Reader interface {
	Reader
	// StoredNF4 returns the layout of a matrix that is stored in 4 bits, and false for others.
	StoredNF4(name string) (nf4.Layout, bool)
	// ReadNF4 writes a matrix into dst of l.Bytes() bytes, quantized if it is stored otherwise. Errors are those of Read.
	ReadNF4(ctx context.Context, name string, shape []int, l nf4.Layout, dst []byte) error
}

func storedNF4(r Reader, name string) (nf4.Layout, bool) {
	if q, ok := r.(NF4Reader); ok {
		return q.StoredNF4(name)
	}
	return nf4.Layout{}, false
}

// StoredBytes returns how much of the checkpoint a tensor of so many elements takes.
func StoredBytes(r Reader, name string, elements int64) (int64, error) {
	if l, ok := storedNF4(r, name); ok {
		return l.Bytes(), nil
	}
	stored, err := r.DType(name)
	return int64(stored.Bytes(int(elements))), err
}

// readNF4 reads a matrix in 4 bits from any Reader.
func readNF4(ctx context.Context, r Reader, name string, shape []int, l nf4.Layout, dst []byte) error {
	if q, ok := r.(NF4Reader); ok {
		return q.ReadNF4(ctx, name, shape, l, dst)
	}
	return quantize(ctx, r, name, shape, l, dst)
}

// quantize reads a matrix and makes it 4 bits.
func quantize(ctx context.Context, r Reader, name string, shape []int, l nf4.Layout, dst []byte) error {
	raw := make([]byte, 2*elements(shape))
	if err := r.Read(ctx, name, shape, engine.BF16, raw); err != nil {
		return err
	}
	return weights.QuantizeNF4(dst, weights.Tensor{Name: name, DType: weights.BF16, Shape: shape, Data: raw}, l, nf4.NewQuantizer())
}

// hold4Bits returns how the matrices of groups with these prefixes are held that are to be in 4 bits, by names without
// prefix; nil for others. All matrices are if quantize says so, else those that are stored so in every group: where only some
// groups have one in 4 bits it is read as bf16, the numbers being the same. Scales are fp32 where some group stores them so.
func hold4Bits(spec weights.Spec, prefixes []string, r Reader, quantize bool) func(name string, shape []int) *nf4.Layout {
	return func(name string, shape []int) *nf4.Layout {
		if len(shape) != 2 {
			return nil
		}
		l := nf4.Layout{Rows: shape[0], Cols: shape[1]}
		for _, prefix := range prefixes {
			stored, ok := storedNF4(r, prefix+name)
			if !ok && !quantize {
				return nil
			}
			l.Plain = l.Plain || ok && stored.Plain
		}
		return &l
	}
}

// New4BitGroup is NewGroup with matrices of two axes in 4 bits: all with quantize, else those that are stored so.
func New4BitGroup(spec weights.Spec, prefix string, r Reader, p Precision, quantize bool) (Group, error) {
	return newGroup(spec, prefix, r, p, noFold, hold4Bits(spec, []string{prefix}, r, quantize), LinearFull, nil)
}

// New4BitBlocks is NewBlocks with matrices of two axes in 4 bits: all with quantize, else those that are stored so in every
// block.
func New4BitBlocks(spec weights.Spec, prefixes []string, r Reader, p Precision, quantize bool) (*Blocks, error) {
	hold := hold4Bits(spec, prefixes, r, quantize)
	types := newAlike(spec, prefixes, r)
	return newBlocks(prefixes, r, &Rounding{}, func(prefix string) (Group, error) {
		return newGroup(spec, prefix, types, p, noFold, hold, LinearFull, nil)
	})
}

func (r *checkpointReader) StoredNF4(name string) (nf4.Layout, bool) {
	q, ok, err := r.ckpt.NF4(name)
	return q.Layout, ok && err == nil
}

func (r *checkpointReader) ReadNF4(ctx context.Context, name string, shape []int, l nf4.Layout, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q, ok, err := r.stored(name, shape)
	if err != nil {
		return err
	}
	if ok {
		if _, known := r.checked.Load(name); !known {
			if err := q.CheckFinite(); err != nil {
				return err
			}
			r.checked.Store(name, true)
		}
		return q.Pack(dst, l)
	}
	t, err := r.ckpt.Require(name, shape...)
	if err != nil {
		return err
	}
	r.makeQuantizer.Do(func() { r.quantizer = nf4.NewQuantizer() })
	return weights.QuantizeNF4(dst, t, l, r.quantizer)
}

// stored returns the 4-bit matrix of a name, which must have a shape.
func (r *checkpointReader) stored(name string, shape []int) (weights.NF4, bool, error) {
	q, ok, err := r.ckpt.NF4(name)
	if ok && !slices.Equal(q.Shape(), shape) {
		_, err = r.ckpt.Require(name, shape...) // says what is wrong: the packed shape is no network's
	}
	return q, ok && err == nil, err
}

// Keep4Bits returns a reader that keeps the matrices it has quantized in ordinary memory, so that a network which is
// streamed, or opened again, is quantized once. Forget lets them go.
func Keep4Bits(r NF4Reader) *Kept { return &Kept{NF4Reader: r, matrices: map[keptKey][]byte{}} }

// Kept is a Reader with the 4-bit matrices it has made. It is safe for concurrent use.
type Kept struct {
	NF4Reader
	mu       sync.Mutex
	matrices map[keptKey][]byte // guarded by mu
}

type keptKey struct {
	name   string
	layout nf4.Layout
}

// ReadNF4 quantizes a matrix, or copies what it had been quantized to before. What is stored in 4 bits is read from there.
func (k *Kept) ReadNF4(ctx context.Context, name string, shape []int, l nf4.Layout, dst []byte) error {
	if _, ok := k.StoredNF4(name); ok {
		return k.NF4Reader.ReadNF4(ctx, name, shape, l, dst)
	}
	key := keptKey{name, l}
	k.mu.Lock()
	m := k.matrices[key]
	k.mu.Unlock()
	if m == nil {
		m = make([]byte, l.Bytes())
		if err := k.NF4Reader.ReadNF4(ctx, name, shape, l, m); err != nil {
			return err
		}
		k.mu.Lock()
		k.matrices[key] = m
		k.mu.Unlock()
	}
	return weights.Tensor{Name: name, DType: weights.U8, Shape: []int{len(m)}, Data: m}.CopyTo(dst) // by several goroutines
}

// ReadRows reads rows of a matrix as the reader beneath does.
func (k *Kept) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	return ReadRows(ctx, k.NF4Reader, name, shape, from, count, to, dst)
}

// Bytes returns the memory that the matrices take.
func (k *Kept) Bytes() (n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.matrices {
		n += int64(len(m))
	}
	return n
}

// Forget gives the memory back to the system.
func (k *Kept) Forget() {
	k.mu.Lock()
	some := len(k.matrices) > 0
	clear(k.matrices)
	k.mu.Unlock()
	if some {
		debug.FreeOSMemory()
	}
}

// Quantized returns the bytes of the group's matrices in 4 bits that are not stored so.
func (g Group) Quantized(r Reader) (n int64) {
	for _, e := range g.Entries {
		if e.NF4 == nil {
			continue
		}
		if _, stored := storedNF4(r, g.Prefix+e.Name); !stored {
			n += e.NF4.Bytes()
		}
	}
	return n
}

// Through4Bits returns a reader that gives the matrices of some names as what their 4 bits stand for, in bf16: a network of
// them computes what one with matrices in 4 bits must compute.
func Through4Bits(r NF4Reader, matrices func(name string) bool) Reader {
	return through4Bits{r, matrices}
}

type through4Bits struct {
	NF4Reader
	matrices func(name string) bool
}

func (t through4Bits) DType(name string) (weights.DType, error) {
	if t.matrices(name) {
		return weights.BF16, nil
	}
	return t.NF4Reader.DType(name)
}

// StoredNF4 says no: matrices are to be read as numbers.
func (t through4Bits) StoredNF4(string) (nf4.Layout, bool) { return nf4.Layout{}, false }

func (t through4Bits) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if !t.matrices(name) {
		return t.NF4Reader.Read(ctx, name, shape, to, dst)
	}
	l := nf4.Layout{Rows: shape[0], Cols: shape[1]}
	if stored, ok := t.NF4Reader.StoredNF4(name); ok {
		l = stored
	}
	m, values := make([]byte, l.Bytes()), make([]byte, 2*l.Elements())
	if err := t.NF4Reader.ReadNF4(ctx, name, shape, l, m); err != nil {
		return err
	}
	l.DequantizeBF16(values, m, 0)
	return weights.ConvertTo(dst, weights.Tensor{Name: name, DType: weights.BF16, Shape: shape, Data: values}, fileType(to))
}
