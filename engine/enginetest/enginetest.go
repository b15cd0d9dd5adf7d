// Package enginetest opens devices for tests: under the validation layer with synchronization validation, where one
// message fails the test, and so does one leaked tensor or Vulkan object.
package enginetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// Open opens the default device and closes it at the end of the test.
func Open(tb testing.TB) *engine.Device { return OpenWith(tb, engine.Options{}) }

// OpenWith opens a device with options; validation is always on, except in benchmarks, where it would be measured.
func OpenWith(tb testing.TB, opts engine.Options) *engine.Device {
	tb.Helper()
	_, benchmark := tb.(*testing.B)
	opts.Validate = !benchmark
	opts.Limits.Poison = !benchmark
	if !benchmark && opts.DeviceBudget == 0 && opts.HostBudget == 0 {
		opts.Limits = SmallChunks(opts.Limits)
	}
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

// ChunkOfUsers is what a device has without limits.
const ChunkOfUsers = 64 << 20

// SmallChunks lets small regions of memory share chunks of 4 MiB instead of 64, and leaves pinned memory of less than 32 to the
// driver, unless limits say otherwise. Devices of tests are many and need little, and the pages of chunks that are imported
// are all cleared. Tests that compare with the plan of a device as users have it set Chunk to ChunkOfUsers.
func SmallChunks(limits engine.TestLimits) engine.TestLimits {
	if limits.Chunk == 0 && limits.ImportFrom == 0 {
		limits.Chunk, limits.ImportFrom = 4<<20, 32<<20
	}
	return limits
}

// CheckMessages fails the test for every validation message so far.
func CheckMessages(tb testing.TB, d *engine.Device) {
	tb.Helper()
	messages := messagesOf(d)
	for k, m := range messages {
		if k == 5 {
			tb.Errorf("and %d more validation messages", len(messages)-k)
			break
		}
		tb.Errorf("validation: %.600s", m.Text)
	}
}

// layersOwn is what layers of 1.3 say when a semaphore that the host signals is waited for in the moment in which they note
// the signal: their threads then miss it, wait for ten seconds, and call it a bug of the layer.
const layersOwn = "UNASSIGNED-VkSemaphore-state-timeout"

// messagesOf returns what the layer has said of the program.
func messagesOf(d *engine.Device) []vk.Message {
	_, messages := d.Validation(0)
	return slices.DeleteFunc(slices.Clone(messages), func(m vk.Message) bool { return strings.Contains(m.Text, layersOwn) })
}
