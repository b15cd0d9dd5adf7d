package engine

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

func TestMessagesOfTheLayerAboutItselfAreLeftOut(t *testing.T) {
	hazard := vk.Message{Error: true, Text: "Validation Error: [ SYNC-HAZARD-WRITE-AFTER-WRITE ] Object 0"}
	about := vk.Message{Error: true, Text: "Validation Error: [ UNASSIGNED-VkSemaphore-state-timeout ] Object 0: Timeout waiting for timeline semaphore state to update. This is most likely a validation bug."}
	got := withoutLayerFaults([]vk.Message{about, hazard, about})
	if len(got) != 1 || got[0] != hazard {
		t.Errorf("left are %v, want the hazard alone", got)
	}
}
