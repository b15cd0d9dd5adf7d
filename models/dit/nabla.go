package dit

import (
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// nablaSpace is what the sparse attention needs besides queries, keys and values.
type nablaSpace struct{}

func (c Config) nablaBuffers(size Size) []load.Buffer { return nil }

func nablaTensors(t tensors) nablaSpace { return nablaSpace{} }

func (p *Pass) attendSparse(s *engine.Stream, branchIndex, i int, q, k, v engine.Tensor) (engine.Tensor, error) {
	panic("waiting for the op")
}
