// Package verify runs golden cases on a device and judges the outputs: small networks with random weights, their
// inputs, and what the public PyTorch implementation computed for them in float32. It is how someone evaluates a
// driver, and it is the end-to-end test of every component.
//
// The measure is ‖out − ref‖₂ / ‖ref‖₂; what must be equal (tokens, resized pixels, skipped passes) is counted. NaN and
// infinity never pass.
package verify
