package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Files of ComfyUI: the transformer's tensors may have a prefix, as in a file of a whole pipeline, and ComfyUI-GGUF cuts matrices
// whose rows its records do not divide anew, and says their shape in the metadata (city96/ComfyUI-GGUF, tools/convert.py).
const comfyShape = "comfy.gguf.orig_shape."

// comfyPrefixes are what may stand before the names of a transformer's tensors.
var comfyPrefixes = []string{"model.diffusion_model.", "diffusion_model."}

// canonicalDiT takes a prefix from a transformer's tensor. Tables that are computed instead are not used.
func canonicalDiT(name string) (string, bool) {
	for _, p := range comfyPrefixes {
		if rest, ok := strings.CutPrefix(name, p); ok {
			name = rest
			break
		}
	}
	return name, !strings.Contains(name, "rope_embeddings.args") && !strings.Contains(name, "freqs")
}

// shape reads an array of integers that says the shape of a tensor.
func (r *ggufReader) shape(name string) error {
	kind, n, err := r.arrayHead()
	if err != nil {
		return err
	}
	size := ggufSize(kind)
	if kind != ggufI32 && kind != ggufU32 && kind != ggufI64 && kind != ggufU64 || n > maxRank {
		return fmt.Errorf("a shape of %d values of type %d", n, kind)
	}
	shape := []int{}
	for range n {
		b, err := r.next(uint64(size))
		if err != nil {
			return err
		}
		var wide [8]byte
		copy(wide[:], b)
		extent := binary.LittleEndian.Uint64(wide[:])
		if extent > math.MaxInt32 {
			return fmt.Errorf("an extent of %d", extent)
		}
		shape = append(shape, int(extent))
	}
	r.shapes[name] = shape
	return nil
}

// reshape gives a tensor the shape that the metadata says, which must have as many elements, in rows of whole records.
func (e *entry) reshape(shape []int) error {
	if shape == nil || slices.Equal(shape, e.shape) {
		return nil
	}
	if size, ok := byteSize(shape, e.dtype); !ok || size != e.end-e.begin {
		return fmt.Errorf("%q of %s %v cannot have the shape %v that its metadata says: use a file of another type", e.name, e.dtype, e.shape, shape)
	}
	e.shape = shape
	return nil
}
