package load

import (
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// TestBlocksStoredInDifferentTypesGetOneLayout has block 1 in fp8 and fp32 where the others are f16 and bf16.
func TestBlocksStoredInDifferentTypesGetOneLayout(t *testing.T) {
	spec := weights.Spec{{Name: "b.0.w.weight", Shape: []int{2, 4}}, {Name: "b.0.v.weight", Shape: []int{2, 4}}, {Name: "b.0.u.weight", Shape: []int{2, 4}},
		{Name: "b.1.w.weight", Shape: []int{2, 4}}, {Name: "b.1.v.weight", Shape: []int{2, 4}}, {Name: "b.1.u.weight", Shape: []int{2, 4}}}
	types := []weights.DType{weights.F16, weights.BF16, weights.F16, weights.F8E4M3, weights.F32, weights.F16}
	var list []weights.Tensor
	for k, e := range spec {
		list = append(list, weights.Tensor{Name: e.Name, DType: types[k], Shape: e.Shape, Data: make([]byte, 8*types[k].Size())})
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := weights.WriteFile(path, list, nil); err != nil {
		t.Fatal(err)
	}
	ckpt, err := weights.OpenCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	for p, want := range map[Precision][3]engine.DType{Mixed: {engine.BF16, engine.BF16, engine.F16}, Float32: {engine.F32, engine.F32, engine.F16}} {
		blocks, err := NewBlocks(spec, []string{"b.0.", "b.1."}, FromCheckpoint(ckpt), p)
		if err != nil {
			t.Fatal(err)
		}
		for k, e := range blocks.Layout.Entries {
			if e.DType != want[k] {
				t.Errorf("%s: %s is %s, want %s", p, e.Name, e.DType, want[k])
			}
		}
		for i := range 2 {
			if err := blocks.Read(t.Context(), i, make([]byte, blocks.BlockBytes())); err != nil {
				t.Errorf("%s: block %d: %v", p, i, err)
			}
		}
	}
}
