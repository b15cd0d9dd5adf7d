// Package enginetest opens devices for tests: under the validation layer with synchronization validation, where one
// message fails the test, and so does one leaked tensor or Vulkan object.
package enginetest

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Open opens the default device and closes it at the end of the test.
func Open(tb testing.TB) *engine.Device { return OpenWith(tb, engine.Options{}) }

// OpenWith opens a device with options; validation is always on, except in benchmarks, where it would be measured.
func OpenWith(tb testing.TB, opts engine.Options) *engine.Device {
	tb.Helper()
	_, benchmark := tb.(*testing.B)
	opts.Validate = !benchmark
	opts.Limits.Poison = !benchmark
	d, err := engine.Open(tb.Context(), opts)
	if err != nil {
		tb.Fatalf("open device: %v", err)
	}
	tb.Cleanup(func() {
		CheckMessages(tb, d)
		if err := d.Close(); err != nil {
			tb.Errorf("close device: %v", err)
		}
	})
	return d
}

// CheckMessages fails the test for every validation message so far.
func CheckMessages(tb testing.TB, d *engine.Device) {
	tb.Helper()
	_, messages := d.Validation(0)
	for k, m := range messages {
		if k == 5 {
			tb.Errorf("and %d more validation messages", len(messages)-k)
			break
		}
		tb.Errorf("validation: %.600s", m.Text)
	}
}
