package engine

import "syscall"

// yieldNice is how far behind others threads of the background stand: they take a tenth of a core that somebody else wants.
const yieldNice = 10

// yieldThread lets the calling thread stand back behind all others. On Linux a thread has a niceness of its own; where it cannot
// be raised nothing is lost but time.
func yieldThread() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, yieldNice) }

// backgroundThreads is how many threads make pipelines in the background on so many cores.
func backgroundThreads(cores int) int { return max(1, min(cores, maxBackground)) }
