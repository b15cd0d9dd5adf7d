package engine

import (
	"fmt"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// queue is a Vulkan queue and the lock that submits take.
type queue struct {
	mu sync.Mutex
	vk *vk.Queue
}

type queueRef struct{ family, index int }

func (q queueRef) String() string { return fmt.Sprintf("family %d queue %d", q.family, q.index) }

// queueLayout says where compute and transfers go.
type queueLayout struct{ compute, transfer queueRef }

func (l queueLayout) requests() []vk.QueueRequest {
	if l.compute.family == l.transfer.family {
		return []vk.QueueRequest{{Family: l.compute.family, Count: max(l.compute.index, l.transfer.index) + 1}}
	}
	return []vk.QueueRequest{{Family: l.compute.family, Count: 1}, {Family: l.transfer.family, Count: 1}}
}

// chooseQueues puts compute on the first family that can compute, and transfers on a family that can do nothing else
// (the copy engines), else on another queue of a family, else on the same queue.
func chooseQueues(families []vk.QueueFamily, limits TestLimits) queueLayout {
	var l queueLayout
	for _, f := range families {
		if f.Compute && f.Count > 0 {
			l.compute = queueRef{f.Index, 0}
			break
		}
	}
	l.transfer = l.compute
	if limits.SingleQueue {
		return l
	}
	if !limits.SharedFamily {
		for _, f := range families {
			if f.Transfer && !f.Graphics && !f.Compute && !f.VideoOnly && f.Count > 0 {
				l.transfer = queueRef{f.Index, 0}
				return l
			}
		}
	}
	if families[l.compute.family].Count > 1 {
		l.transfer.index = 1
	}
	return l
}
