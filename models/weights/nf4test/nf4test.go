// Package nf4test writes checkpoints in bitsandbytes' 4-bit form, for tests: this program reads them and writes none.
package nf4test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Options say what is written.
type Options struct {
	// Quantized tells which tensors are held in 4 bits; the others are copied.
	Quantized func(name string) bool
	Plain     bool // scales in fp32
	// Damage, if set, changes the tensors before they are written; a tensor that it deletes is left out.
	Damage func(tensors map[string]weights.Tensor)
}

// Write reads the checkpoint in a file and writes it to another in the form that transformers gives a model that was loaded
// with BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4").
func Write(tb testing.TB, from, to string, o Options) {
	tb.Helper()
	c, err := weights.OpenCheckpoint(from)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	tensors := map[string]weights.Tensor{}
	for _, name := range c.Names() {
		t, _ := c.Tensor(name)
		if !o.Quantized(name) {
			tensors[name] = t
			continue
		}
		for _, part := range Parts(tb, t, o.Plain) {
			tensors[part.Name] = part
		}
	}
	if o.Damage != nil {
		o.Damage(tensors)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		tb.Fatal(err)
	}
	if err := weights.WriteFile(to, slices.Collect(maps.Values(tensors)), nil); err != nil {
		tb.Fatal(err)
	}
}

// Parts are the tensors by which bitsandbytes holds a matrix in 4 bits (functional.py, QuantState.as_dict).
func Parts(tb testing.TB, t weights.Tensor, plain bool) []weights.Tensor {
	tb.Helper()
	l := nf4.Layout{Rows: t.Shape[0], Cols: t.Shape[1], Plain: plain}
	m := make([]byte, l.Bytes())
	if err := weights.QuantizeNF4(m, t, l, nf4.NewQuantizer()); err != nil {
		tb.Fatal(err)
	}
	state := map[string]any{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": t.Shape}
	scales := weights.Tensor{Name: t.Name + ".absmax", DType: weights.F32, Shape: []int{l.Blocks()}, Data: l.Scales(m)}
	parts := []weights.Tensor{
		{Name: t.Name, DType: weights.U8, Shape: []int{len(l.Codes(m)), 1}, Data: l.Codes(m)},
		{Name: t.Name + ".quant_map", DType: weights.F32, Shape: []int{16}, Data: m[:64]},
	}
	if !plain {
		scales.DType = weights.U8
		nested := l.NestedScales(m)
		parts = append(parts, weights.Tensor{Name: t.Name + ".nested_absmax", DType: weights.F32, Shape: []int{len(nested) / 4}, Data: nested},
			weights.Tensor{Name: t.Name + ".nested_quant_map", DType: weights.F32, Shape: []int{256}, Data: m[64:][:1024]})
		state["nested_blocksize"], state["nested_dtype"], state["nested_offset"] = 256, "float32", l.Mean(m)
	}
	text, err := json.Marshal(state)
	if err != nil {
		tb.Fatal(err)
	}
	return append(parts, scales, weights.Tensor{Name: t.Name + ".quant_state.bitsandbytes__nf4", DType: weights.U8, Shape: []int{len(text)}, Data: text})
}
