package convert

import (
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Size is what a transformer takes as a file of a type, in bytes.
type Size struct {
	Type   Type   `json:"type"`
	Format Format `json:"format"`
	File   int64  `json:"file_bytes"`
	Blocks int64  `json:"block_bytes"` // of the visual blocks, scales included: what the mapped tier reads of the file in a step
}

// Sizes computes, to the byte, what files of all types take that are made from a transformer in bf16. GGUF files of the types
// that both formats have are a little smaller.
func Sizes(c weights.DiTConfig) ([]Size, error) {
	var tensors []weights.Tensor
	for _, e := range weights.DiTSpec(c) {
		tensors = append(tensors, weights.Tensor{Name: e.Name, DType: weights.BF16, Shape: e.Shape})
	}
	n := network{component: weights.DiT, config: c}
	var out []Size
	for _, t := range Types() {
		s := Size{Type: t, Format: Safetensors}
		if t.dtype().Block() != 0 {
			s.Format = GGUF
		}
		p := newPlan(tensors, n.component, t, s.Format)
		var err error
		if s.File, err = p.fileBytes(n, t); err != nil {
			return nil, err
		}
		for _, o := range p.outputs {
			if strings.HasPrefix(o.info.Name, "visual_transformer_blocks.") {
				s.Blocks += o.info.Bytes()
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// fileBytes is the size of the new file.
func (p plan) fileBytes(n network, t Type) (int64, error) {
	infos := p.infos()
	if p.format == GGUF {
		return weights.GGUFBytes(infos, n.metadata(t))
	}
	return weights.SafetensorsBytes(infos, safetensorsMetadata())
}
