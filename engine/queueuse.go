package engine

// QueueUse says which queues of a device this program submits to.
type QueueUse struct {
	ComputeFamily, ComputeQueue   int // indexes
	TransferFamily, TransferQueue int
	// Shared is true where compute and transfer are one queue, so that copies and kernels take turns.
	Shared bool
}

// Queues returns the queues that Open would use.
func (s DeviceSummary) Queues() QueueUse {
	l := chooseQueues(s.Physical.Families, TestLimits{})
	return QueueUse{
		ComputeFamily: l.compute.family, ComputeQueue: l.compute.index,
		TransferFamily: l.transfer.family, TransferQueue: l.transfer.index,
		Shared: l.compute == l.transfer,
	}
}
