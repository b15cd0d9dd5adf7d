package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// comfyGGUF has a tensor whose shape the metadata says, as numbers of a type.
func comfyGGUF(architecture, name string, kind uint32, shape []byte, extents int, stored []int, dtype uint32, bytes int) []byte {
	axes := []any{}
	for _, n := range slices.Backward(stored) {
		axes = append(axes, n)
	}
	values := append([]any{magic3, 1, 2, "general.architecture", uint32(8), architecture, comfyShape + name, uint32(9), kind, extents, shape, name, uint32(len(stored))}, axes...)
	return pad(ggufOf(append(values, dtype, 0)...), 32, make([]byte, bytes)...)
}

func i32s(values ...int) (out []byte) {
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, uint32(v))
	}
	return out
}

// TestComfyUIsGGUFFilesAreRead has the names and the shapes of such files, whatever architecture they say.
func TestComfyUIsGGUFFilesAreRead(t *testing.T) {
	const name = "visual_embeddings.in_layer.weight"
	for _, architecture := range []string{"kandinsky5", "wan", "kandinsky5-dit", ""} {
		for _, prefix := range []string{"", "diffusion_model.", "model.diffusion_model."} {
			f, err := OpenBytes("x", comfyGGUF(architecture, prefix+name, uint32(ggufI32), i32s(2, 32), 2, []int{1, 64}, 8, 68))
			if err != nil {
				t.Fatal(err)
			}
			c, err := NewCheckpoint([]*File{f}, OpenOptions{Component: DiT})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Require(name, 2, 32); err != nil {
				t.Errorf("%q, %q: %v", architecture, prefix, err)
			}
		}
	}
	for want, data := range map[string][]byte{
		"cannot have the shape [4 16]":      comfyGGUF("wan", name, uint32(ggufI32), i32s(4, 16), 2, []int{1, 64}, 8, 68), // rows of half a record
		"cannot have the shape [3 32]":      comfyGGUF("wan", name, uint32(ggufI32), i32s(3, 32), 2, []int{1, 64}, 8, 68),
		"of type 6":                         comfyGGUF("wan", name, uint32(ggufF32), i32s(2, 32), 2, []int{1, 64}, 8, 68),
		"an extent of 4294967295":           comfyGGUF("wan", name, uint32(ggufI32), i32s(-1, 32), 2, []int{1, 64}, 8, 68),
		"a shape of 1099511627776":          comfyGGUF("wan", name, uint32(ggufI32), nil, 1<<40, []int{1, 64}, 8, 68),
		fmt.Sprint([]int{0, math.MaxInt32}): comfyGGUF("wan", name, uint32(ggufI32), i32s(0, math.MaxInt32), 2, []int{1, 64}, 8, 68),
	} {
		if _, err := OpenBytes("x", data); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestComfyUIsFP8FilesAreRead has a scale and the marks that ComfyUI puts beside a layer.
func TestComfyUIsFP8FilesAreRead(t *testing.T) {
	const layer = "model.diffusion_model.visual_transformer_blocks.0.feed_forward.in_layer"
	f32 := func(name string, v float32) Tensor {
		return Tensor{Name: name, DType: F32, Shape: []int{}, Data: binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))}
	}
	for _, scale := range []string{".weight_scale", ".scale_weight"} {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		err := WriteFile(path, []Tensor{
			{Name: layer + ".weight", DType: F8E4M3, Shape: []int{1, 2}, Data: []byte{0x38, 0xc0}}, // 1, -2
			f32(layer+scale, 0.5), f32(layer+".input_scale", 1),
			{Name: layer + ".comfy_quant", DType: U8, Shape: []int{2}, Data: []byte("{}")},
			{Name: "scaled_fp8", DType: F8E4M3, Shape: []int{2}, Data: make([]byte, 2)},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := OpenComponent(path, DiT)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		m, err := c.Require(strings.TrimPrefix(layer, "model.diffusion_model.")+".weight", 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Float32s(); !slices.Equal(got, []float32{0.5, -1}) {
			t.Errorf("%s: decoded to %v", scale, got)
		}
	}
}
