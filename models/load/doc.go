// Package load brings a network's tensors to the device: packed contiguous in one fixed order, each at an aligned
// offset, in the types that the wanted precision computes with.
//
// Vocabulary. A Group is a list of tensors that lie together (a block of a transformer, or all that is outside the
// blocks). Its layout follows from names, shapes and types alone, so it is the same on the host and on the device. A
// Reader gives tensors' values: from a checkpoint, or made up (Synthetic) where only speed is measured. Params is a
// group on the device, from which a network takes its tensors by name. Blocks is a list of equal groups, a
// swap.Source. Coded blocks wait in a form that takes less: Packed in eight bits, Compressed in bf16 with coded exponents.
package load
