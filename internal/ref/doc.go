// Package ref holds plain float64 implementations of the GPU kernels: the yardstick that tests and `vkandinsky verify`
// measure them with. They are written to be read, not to be fast, and use no code of the kernels.
//
// Tensors are row-major []float64. A slice of the wrong length is a programmer error and panics.
package ref

import "fmt"

// mustHold panics unless v has n elements.
func mustHold(what string, v []float64, n int) {
	if len(v) != n {
		panic(fmt.Sprintf("ref: %s has %d elements, want %d", what, len(v), n))
	}
}
