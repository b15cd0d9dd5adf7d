package load

import (
	"bytes"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestLinearNames(t *testing.T) {
	for _, l := range []Linear{LinearFull, LinearInt8} {
		if got, err := ParseLinear(l.String()); err != nil || got != l {
			t.Errorf("%v is read as %v, %v", l, got, err)
		}
	}
	if _, err := ParseLinear("int4"); err == nil {
		t.Error("int4 is read")
	}
}

// Weights of linear layers become bytes, their scales after them; modulation, biases, norms, and matrices whose length suits
// no block stay.
func TestRoundedBlocksHoldBytesAndScales(t *testing.T) {
	spec := weights.Spec{
		{Name: "b.0.modulation.weight", Shape: []int{12, 64}}, {Name: "b.0.in.weight", Shape: []int{5, 128}}, {Name: "b.0.in.bias", Shape: []int{5}},
		{Name: "b.0.odd.weight", Shape: []int{3, 40}}, {Name: "b.0.norm.weight", Shape: []int{64}}, {Name: "b.0.out.weight", Shape: []int{64, 64}},
	}
	r := Synthetic(weights.BF16)
	b, err := NewRoundedBlocks(spec, []string{"b.0."}, r, Mixed, LinearInt8)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]engine.DType{"modulation.weight": engine.BF16, "in.weight": engine.I8, "in.bias": engine.F32, "odd.weight": engine.BF16, "norm.weight": engine.F32, "out.weight": engine.I8}
	p := b.Layout.Bind(memory.Region{Size: b.BlockBytes()})
	dst := make([]byte, b.BlockBytes())
	for range 2 { // what is read again is not counted again
		if err := b.Read(t.Context(), 0, dst); err != nil {
			t.Fatal(err)
		}
	}
	end := int64(0)
	for _, e := range b.Layout.Entries {
		if e.DType != want[e.Name] || e.Offset < end || e.Offset%alignment != 0 {
			t.Errorf("%s is %v at %d, want %v from %d on", e.Name, e.DType, e.Offset, want[e.Name], end)
		}
		end = e.Offset + e.Bytes()
		scale := p.Scale(e.Name)
		if (len(scale.Shape) == 0) != (e.DType != engine.I8) {
			t.Errorf("the scales of %s are %v", e.Name, scale)
		}
		if e.DType != engine.I8 {
			continue
		}
		raw := make([]byte, 4*elements(e.Shape))
		if err := r.Read(t.Context(), "b.0."+e.Name, e.Shape, engine.F32, raw); err != nil {
			t.Fatal(err)
		}
		values, scales := make([]float32, elements(e.Shape)), make([]float32, e.Shape[0])
		numeric.F32sFromBytes(values, raw)
		q := make([]byte, len(values))
		ops.QuantizeWeights(q, scales, values)
		there := make([]float32, len(scales))
		numeric.F32sFromBytes(there, dst[scale.Offset:][:4*len(scales)])
		if !bytes.Equal(dst[e.Offset:][:len(q)], q) || scale.Offset < e.Offset+int64(len(q)) || scale.Offset+scale.Bytes() > end || math.Abs(float64(there[0]-scales[0])) > 0 {
			t.Errorf("%s is not what rounding gives", e.Name)
		}
	}
	if end > b.BlockBytes() {
		t.Errorf("tensors end at %d of %d bytes", end, b.BlockBytes())
	}
	if rep := b.Rounding(); rep.Tensors != 2 || !(rep.Error > 0 && rep.Error <= rep.Worst && rep.Worst < 0.02) || rep.WorstName == "" {
		t.Errorf("rounding %+v", rep)
	}
	if full, err := NewBlocks(spec, []string{"b.0."}, r, Mixed); err != nil || full.BlockBytes() <= b.BlockBytes() || full.Rounding().Tensors != 0 {
		t.Errorf("without rounding: %v, %+v", err, full)
	}
}
