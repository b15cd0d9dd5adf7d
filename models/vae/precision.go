package vae

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// activation is the storage type of activations between kernels; sums, norms and softmax are fp32 in any case.
//
// In Mixed it is fp16, not bf16: over the depth of this network bf16's eight bits leave a relative error of 8e-3 to 1e-2
// in the golden cases (6e-3 with only the residual stream in fp32), fp16 leaves 1.2e-3 in the same memory. Small numbers
// are no trouble, because every GroupNorm adds 1e-6 to the variance, so that what fp16 cannot tell apart (6e-8) the
// network does not either. Numbers beyond 65504 become infinities, which the next GroupNorm spreads over everything; job
// sees that and repeats the tile in bf16 (wider), in the same memory.
func activation(p load.Precision) engine.DType {
	if p == load.Float32 {
		return engine.F32
	}
	return engine.F16
}

// wider is the type of the same size that a tile is repeated in when its activations passed a type's range.
func wider(dt engine.DType) (engine.DType, bool) { return engine.BF16, dt == engine.F16 }

// halfWeights reads fp32 and coded tensors as fp16, as the reference does (kandinsky-5, kandinsky/utils.py loads the autoencoder in
// fp16), instead of rounding them to bf16, which is eight times coarser.
type halfWeights struct{ load.Reader }

func (r halfWeights) DType(name string) (weights.DType, error) {
	stored, err := r.Reader.DType(name)
	if stored != weights.BF16 {
		stored = weights.F16
	}
	return stored, err
}
