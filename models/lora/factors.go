package lora

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Base gives the matrices without adapters.
func (r *reader) Base() load.Reader { return r.base }

// Rank is that of the product of all adapters together.
func (r *reader) Rank(name string) int {
	rank := 0
	for _, t := range r.terms[name] {
		rank += t.change.rank()
	}
	return rank
}

// maxFactor bounds the elements of factors that the device multiplies: kernels in fp16 take no larger ones.
const maxFactor = 4096

// ReadFactor writes the factors of all adapters side by side: B [out, rank] with the gains in it, or A transposed, [in, rank].
func (r *reader) ReadFactor(ctx context.Context, name string, shape []int, f load.Factor, rank int, to engine.DType, dst []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rows := shape[0]
	if f == load.FactorA {
		rows = shape[1]
	}
	values := make([]float32, rows*rank)
	at := 0
	for _, t := range r.terms[name] {
		if err := t.copyFactor(values[at:], f, rank); err != nil {
			return fmt.Errorf("lora: %w", err)
		}
		at += t.change.rank()
	}
	for _, v := range values {
		if f == load.FactorA && !(v <= maxFactor && v >= -maxFactor) {
			return fmt.Errorf("lora: %s: lora_A of %s has %g, the device takes no more than %d: use --host-tier pinned", files(r.terms[name]), name, v, maxFactor)
		}
	}
	all := weights.Tensor{Name: name, DType: weights.F32, Shape: []int{rows, rank}, Data: toBytes(values), File: files(r.terms[name])}
	return weights.ConvertFinite(dst, all, storage(to))
}

// copyFactor writes a factor of one adapter into columns of rows of so many elements, from the first of dst on.
func (t term) copyFactor(dst []float32, f load.Factor, row int) error {
	n := t.change.rank()
	if f == load.FactorB {
		b, err := floats(t.change.up)
		for k, v := range b {
			dst[k/n*row+k%n] = t.gain * v
		}
		return err
	}
	a, err := floats(t.change.down)
	in := t.change.down.Shape[1]
	for k, v := range a {
		dst[k%in*row+k/in] = v
	}
	return err
}
