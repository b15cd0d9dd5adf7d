// Package convert writes a network's checkpoint in another type and file format.
//
// Vocabulary. A Type says how matrices are stored. The plan (newPlan) is pure: from the tensors' names, shapes and types it
// decides what the new file holds and in which order. The run streams: a piece of a tensor is read, coded, decoded again
// to measure what was lost, and written, while the next pieces are being coded on the other processors. Memory does not
// grow with the checkpoint.
//
// The file appears under its name when it is complete, was read back and lies on the disk; until then, and after an error,
// there is none. A run that may be resumed keeps a journal beside the unfinished file.
package convert
