package load

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// alignment of a tensor in a group: the largest that Vulkan may ask for a binding's offset.
const alignment = 256

// Group is a list of tensors that lie together, with their places.
type Group struct {
	Prefix  string // of the names in the checkpoint; Entries have it stripped
	Entries []Entry
	Bytes   int64 // a multiple of 256
	index   map[string]int
}

// Entry is a tensor's place in a group.
type Entry struct {
	Name   string // without the group's prefix
	Shape  []int  // on the device; a convolution's is [out, kt, kh, kw, in], that of a matrix in 4 bits the number of its bytes
	File   []int  // in the checkpoint
	DType  engine.DType
	Offset int64       // bytes
	Fold   [3]int      // the upsampling that is folded into a convolution's weights (ops.FoldConvWeights), zero for none
	NF4    *nf4.Layout // of a matrix in 4 bits, nil for others

	product Factor // which factor of a matrix's product the entry is; NoFactor for others
	matrix  string // of that matrix, its name
	of      []int  // and shape

	rounding *Rounding // of a weight that is rounded to bytes (I8), whose scales follow them; nil for others
}

// Bytes returns what the tensor takes, with its scales.
func (e Entry) Bytes() int64 {
	if e.rounding != nil {
		return e.scaleOffset() + 4*int64(e.Shape[0])
	}
	return elements(e.Shape) * e.DType.Size()
}

// Reader gives tensors by their full names.
type Reader interface {
	// DType returns the type a tensor is stored in.
	DType(name string) (weights.DType, error)
	// Read writes a tensor of this shape as a type into dst. Errors name the file and the tensor; values that are
	// not finite are errors.
	Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error
}

// NewGroup lays out the tensors of a spec whose names begin with prefix. Matrices get the type that the precision asks
// for; vectors (biases, norm gains) are fp32, being small.
func NewGroup(spec weights.Spec, prefix string, r Reader, p Precision) (Group, error) {
	return newGroup(spec, prefix, r, p, noFold, noNF4, LinearFull, nil)
}

// NewFoldedGroup is NewGroup with the upsampling that fold returns folded into a convolution's weights, by its name;
// zero for none.
func NewFoldedGroup(spec weights.Spec, prefix string, r Reader, p Precision, fold func(name string) [3]int) (Group, error) {
	return newGroup(spec, prefix, r, p, fold, noNF4, LinearFull, nil)
}

func noFold(string) [3]int { return [3]int{} }

func noNF4(string, []int) *nf4.Layout { return nil }

// newGroup lays out a group; hold returns how a matrix is held in 4 bits, by its name without prefix, nil if it is not, and linear which
// become bytes.
func newGroup(spec weights.Spec, prefix string, r Reader, p Precision, fold func(name string) [3]int, hold func(name string, shape []int) *nf4.Layout, linear Linear, rounding *Rounding) (Group, error) {
	g := Group{Prefix: prefix, index: map[string]int{}}
	for _, e := range spec {
		name, ok := strings.CutPrefix(e.Name, prefix)
		if !ok {
			continue
		}
		dt := engine.F32
		if len(e.Shape) > 1 {
			stored, err := r.DType(e.Name)
			if err != nil {
				return g, err
			}
			dt = p.Weight(stored)
		}
		entry := Entry{Name: name, Shape: e.Shape, File: e.Shape, DType: dt, Offset: g.Bytes}
		if len(e.Shape) == 5 {
			entry.Shape = []int{e.Shape[0], e.Shape[2], e.Shape[3], e.Shape[4], e.Shape[1]}
			if up := fold(e.Name); up != [3]int{} {
				entry.Fold, entry.DType = up, engine.F16
				entry.Shape = ops.FoldedShape(e.Shape[0], e.Shape[1], [3]int(e.Shape[2:]), up)
			}
		}
		if linear.rounds(name, e.Shape) {
			entry.DType, entry.rounding = engine.I8, rounding
		}
		if entry.NF4 = hold(name, e.Shape); entry.NF4 != nil {
			entry.Shape, entry.DType = []int{int(entry.NF4.Bytes())}, engine.U8
		}
		g.index[name] = len(g.Entries)
		g.Entries = append(g.Entries, entry)
		g.Bytes += (entry.Bytes() + alignment - 1) &^ (alignment - 1)
	}
	if len(g.Entries) == 0 {
		return g, fmt.Errorf("no tensor of the network is called %s…", prefix)
	}
	return g, nil
}

// Read packs the whole group into dst of Bytes bytes, taking names with another prefix: blocks share one layout.
func (g Group) Read(ctx context.Context, r Reader, prefix string, dst []byte) error {
	return g.readSome(ctx, r, prefix, dst, func(string) bool { return true })
}

// readSome is Read of the tensors that are wanted, by their full names.
func (g Group) readSome(ctx context.Context, r Reader, prefix string, dst []byte, wanted func(name string) bool) error {
	for _, e := range g.Entries {
		if !wanted(prefix + e.source()) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.read(ctx, r, prefix+e.source(), dst[e.Offset:e.Offset+e.Bytes()]); err != nil {
			return err
		}
	}
	return nil
}

// source is the name of the tensor that the entry is of, without prefix.
func (e Entry) source() string {
	if e.product != NoFactor {
		return e.matrix
	}
	return e.Name
}

// read reads the tensor of that full name, which is source's.
func (e Entry) read(ctx context.Context, r Reader, name string, dst []byte) error {
	if e.product != NoFactor {
		return r.(Adapted).ReadFactor(ctx, name, e.of, e.product, e.Shape[1], e.DType, dst)
	}
	if e.rounding != nil {
		return e.readRounded(ctx, r, name, dst)
	}
	if e.NF4 != nil {
		return readNF4(ctx, r, name, e.File, *e.NF4, dst)
	}
	if len(e.File) != 5 {
		return r.Read(ctx, name, e.File, e.DType, dst)
	}
	if e.Fold != [3]int{} {
		raw := make([]byte, 4*elements(e.File))
		if err := r.Read(ctx, name, e.File, engine.F32, raw); err != nil {
			return err
		}
		values := make([]float32, len(raw)/4)
		numeric.F32sFromBytes(values, raw)
		ops.FoldConvWeights(dst, values, e.File[0], e.File[1], [3]int(e.File[2:]), e.Fold)
		return nil
	}
	raw := make([]byte, len(dst))
	if err := r.Read(ctx, name, e.File, e.DType, raw); err != nil {
		return err
	}
	ops.PackConvWeights(dst, raw, int(e.DType.Size()), e.File[0], e.File[1], [3]int{e.File[2], e.File[3], e.File[4]})
	return nil
}

func elements(shape []int) int64 {
	n := int64(1)
	for _, s := range shape {
		n *= int64(s)
	}
	return n
}

// Has says whether a tensor of the group is one of those, by their full names.
func (g Group) Has(which func(name string) bool) bool {
	return slices.ContainsFunc(g.Entries, func(e Entry) bool { return which(g.Prefix + e.Name) })
}

// sameLayout says whether two groups differ in the prefix only.
func (g Group) sameLayout(o Group) error {
	if len(g.Entries) != len(o.Entries) {
		return fmt.Errorf("%s* has %d tensors, %s* has %d", o.Prefix, len(o.Entries), g.Prefix, len(g.Entries))
	}
	for k, e := range g.Entries {
		if q := o.Entries[k]; e.Name != q.Name || e.Offset != q.Offset || e.DType != q.DType {
			return fmt.Errorf("%s%s is %s %v, %s%s is %s %v: blocks that are swapped must be alike", g.Prefix, e.Name, e.DType, e.Shape, o.Prefix, q.Name, q.DType, q.Shape)
		}
	}
	return nil
}
