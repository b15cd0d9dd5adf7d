package enginetest

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// Deadline ends the program with the stacks of all goroutines when the returned function is not called within a limit:
// a test that hangs in a driver cannot be ended otherwise, and says so little.
func Deadline(tb testing.TB, limit time.Duration, what string) (stop func()) {
	tb.Helper()
	name := tb.Name()
	timer := time.AfterFunc(limit, func() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		panic(fmt.Sprintf("%s: %s hangs for %v\n%s", name, what, limit, stacks))
	})
	return func() { timer.Stop() }
}

// CheckGoroutines fails the test when more goroutines run than before, after time to end, also on a machine that is busy.
func CheckGoroutines(tb testing.TB, before int) {
	tb.Helper()
	for range 6000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	tb.Errorf("%d goroutines run, %d did before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
}
