//go:build !linux

package engine

// yieldThread does nothing: half of the cores are left to others instead.
func yieldThread() {}

// backgroundThreads is how many threads make pipelines in the background on so many cores.
func backgroundThreads(cores int) int { return max(1, min(cores/2, maxBackground)) }
