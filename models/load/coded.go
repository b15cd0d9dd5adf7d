package load

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Coded are Blocks that wait in host memory, cross the bus and lie in their slots in a form that takes less, and are decoded just
// before they are used, into memory that all blocks share. They are a swap.Source.
type Coded interface {
	Blocks() int
	// BlockBytes returns the bytes of each, coded, as they are set aside.
	BlockBytes() int64
	// RoomBytes returns the bytes that the decoded matrices of a block take.
	RoomBytes() int64
	Read(ctx context.Context, i int, dst []byte) error
	// Patch reads block i anew where tensors changed, over its old bytes.
	Patch(ctx context.Context, i int, dst []byte, changed func(name string) bool) error
	// Unpack records the decoding of a block into room of RoomBytes bytes and returns its tensors: those decoded in the room, all
	// others where they lie. They are valid until the room is used for another block.
	Unpack(s *engine.Stream, coded, room memory.Region) Params
	// Check says why a device that binds so many bytes at once cannot decode the blocks, if it cannot.
	Check(maxRange int64) error
}

// unpacked says where the tensors of a coded block are.
type unpacked interface {
	// at returns the place of the k-th tensor of the layout, in the room or else in the block.
	at(k int) (offset int64, inRoom bool)
}

// take sets n bytes aside at the end of size, aligned.
func take(size *int64, n int64) int64 {
	at := *size
	*size += (n + alignment - 1) &^ (alignment - 1)
	return at
}

// HostWeights says in what form blocks wait in host memory and cross the bus.
type HostWeights string

// Ways to wait: in the type that the device computes with, in eight bits, or in bf16 with coded exponents.
const (
	FullWeights  HostWeights = "bf16"
	Int8Weights  HostWeights = "int8"
	CodedWeights HostWeights = "bf16z"
)

// ParseHostWeights reads "bf16", which is also meant by nothing, "bf16z" or "int8".
func ParseHostWeights(s string) (HostWeights, error) {
	switch h := HostWeights(s); h {
	case "", FullWeights:
		return FullWeights, nil
	case Int8Weights, CodedWeights:
		return h, nil
	}
	return "", fmt.Errorf("unknown host weights %q: use bf16, bf16z or int8", s)
}

// Unpacks says whether blocks are decoded before they are used.
func (h HostWeights) Unpacks() bool { return h == Int8Weights || h == CodedWeights }
