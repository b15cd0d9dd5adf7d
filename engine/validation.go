package engine

import (
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// layerFault marks messages of the validation layer about its own books: its version 1.3.239 follows timelines on threads of its own, seems
// to miss a value now and then that the host signals (Stream.Skip) on a busy machine, and says after ten seconds that this is most
// likely its own bug. The work that waited for the value ends all the same; if it did not, whoever waits would say so.
const layerFault = "UNASSIGNED-VkSemaphore-state-timeout"

// Validation returns the version of the validation layer in use ("" for none) and its messages from the n-th on, without those
// about the layer itself.
func (d *Device) Validation(n int) (version string, messages []vk.Message) {
	return d.instance.LayerVersion(), withoutLayerFaults(d.instance.Messages(n))
}

func withoutLayerFaults(messages []vk.Message) []vk.Message {
	return slices.DeleteFunc(messages, func(m vk.Message) bool { return strings.Contains(m.Text, layerFault) })
}
