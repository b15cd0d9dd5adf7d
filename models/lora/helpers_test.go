package lora

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// smallSpec is a network with the names of a transformer's, as small as it goes.
func smallSpec() weights.Spec {
	return weights.Spec{
		{Name: "time_embeddings.in_layer.weight", Shape: []int{6, 8}}, {Name: "time_embeddings.in_layer.bias", Shape: []int{6}},
		{Name: "visual_transformer_blocks.0.self_attention.to_query.weight", Shape: []int{8, 8}},
		{Name: "visual_transformer_blocks.0.self_attention.to_query.bias", Shape: []int{8}},
		{Name: "visual_transformer_blocks.0.self_attention.query_norm.weight", Shape: []int{4}},
		{Name: "visual_transformer_blocks.0.feed_forward.in_layer.weight", Shape: []int{12, 8}},
	}
}

const (
	query = "visual_transformer_blocks.0.self_attention.to_query"
	feed  = "visual_transformer_blocks.0.feed_forward.in_layer"
)

// tensor makes a tensor of a type.
func tensor(name string, d weights.DType, values []float32, shape ...int) weights.Tensor {
	t := weights.Tensor{Name: name, DType: d, Shape: shape, Data: make([]byte, len(values)*d.Size())}
	switch d {
	case weights.F32:
		numeric.BytesFromF32s(t.Data, values)
	case weights.BF16:
		numeric.BF16FromF32s(t.Data, values)
	case weights.F16:
		numeric.F16FromF32s(t.Data, values)
	}
	return t
}

// random makes numbers of mean zero.
func random(r *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for k := range out {
		out[k] = float32(r.NormFloat64())
	}
	return out
}

// pair makes the two factors of a module, under some names.
func pair(r *rand.Rand, a, b string, d weights.DType, rank, out, in int) []weights.Tensor {
	return []weights.Tensor{tensor(a, d, random(r, rank*in), rank, in), tensor(b, d, random(r, out*rank), out, rank)}
}

func source() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// save writes a file and returns its path.
func save(t testing.TB, metadata map[string]string, tensors ...weights.Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := weights.WriteFile(path, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens an adapter of the small network.
func open(t testing.TB, path string) *Adapter {
	t.Helper()
	a, err := Open(path, smallSpec())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// values reads a tensor's bytes.
func values(raw []byte, d weights.DType) []float64 {
	out := make([]float64, len(raw)/d.Size())
	for k := range out {
		switch d {
		case weights.F32:
			out[k] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*k:])))
		case weights.BF16:
			out[k] = float64(numeric.F32FromBF16(binary.LittleEndian.Uint16(raw[2*k:])))
		default:
			out[k] = float64(numeric.F32FromF16(binary.LittleEndian.Uint16(raw[2*k:])))
		}
	}
	return out
}
