package doctor

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Where pieces fill the budget to the byte, the check of the last one still has what it needs.
func TestPinnedMemoryIsCheckedWithinItsBudget(t *testing.T) {
	f, err := Run(t.Context(), "pinned", Options{Engine: engine.Options{Validate: true, HostBudget: 16 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Results) != 1 || f.Results[0].Status != OK || len(f.Results[0].Pinned) == 0 {
		t.Errorf("%+v", f.Results)
	}
}
