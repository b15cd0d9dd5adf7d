// Package hostmem tells how much host memory may still be used.
package hostmem

// Available returns the bytes of host memory that can be taken without swapping or breaking the limit of a container,
// and false where the system does not tell.
func Available() (int64, bool) { return available() }
