// Package ops holds the typed kernels: Go functions that check shapes, pick a shader's variant, cut the work and record
// dispatches on a stream.
//
// Each operation is one set of files of the same stem: ops/matmul.go, shaders/matmul.comp, internal/ref/matmul.go (plain
// float64) and ops/matmul_test.go.
//
// Operations never fail by themselves: the stream keeps the first error, and arguments that do not fit each other are a
// programmer's error and panic with the shapes. They place no barriers, which is the recorder's concern, own no memory,
// and may be called from one goroutine per stream. Work is cut so that every dispatch's bindings are at most
// Caps.MaxStorageRange bytes and its cost is at most Caps.MaxDispatchCost where a smaller piece exists; the cut never
// changes a bit of the result. Tensors begin at multiples of Caps.StorageAlign bytes unless an operation says otherwise.
package ops
