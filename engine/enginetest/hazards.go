package enginetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Sight is what a validation layer sees of missing synchronization.
type Sight int

// Layers up to 1.3 compare a copy with what shaders were bound to before it, within one submit. Those from 1.4 on also
// compare dispatches with each other, and follow semaphores from submit to submit.
const (
	SeesCopies Sight = iota
	SeesAll
)

// LayerSight tells from its version what the layer of a device sees.
func LayerSight(tb testing.TB, d *engine.Device) Sight {
	tb.Helper()
	version, _ := d.Validation(0)
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d.", &major, &minor); err != nil {
		tb.Fatalf("no validation layer is loaded: its version is %q", version)
	}
	if major > 1 || minor >= 4 {
		return SeesAll
	}
	return SeesCopies
}

// tries is how often a planted hazard may go unseen. A layer holds work that the host has seen finished for ordered, so a
// host that was kept waiting between two submits hides what is between them.
const tries = 20

// PlantedHazard runs work on a device with limits that leave out a barrier or a wait, and fails the test when the layer
// does not report it though it can see it (needs), or reports anything else.
func PlantedHazard(t *testing.T, limits engine.TestLimits, needs Sight, work func(d *engine.Device)) {
	t.Helper()
	for range tries {
		d, err := engine.Open(t.Context(), engine.Options{Validate: true, Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		work(d)
		found := hazards(t, d)
		sees := LayerSight(t, d) >= needs
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if found > 0 || !sees || t.Failed() {
			return
		}
	}
	t.Errorf("the layer did not report the planted hazard in %d runs", tries)
}

// hazards counts the reported hazards and fails the test for messages about anything else.
func hazards(t *testing.T, d *engine.Device) (n int) {
	t.Helper()
	for _, m := range messagesOf(d) {
		if strings.Contains(strings.ToLower(m.Text), "hazard") {
			n++
		} else {
			t.Errorf("a message about something else: %.600s", m.Text)
		}
	}
	return n
}
