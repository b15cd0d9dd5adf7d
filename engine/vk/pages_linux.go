package vk

import (
	mmap "github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// private memory, other than shared, may have huge pages without further settings of the system.
const private = mmap.COPY

// advise asks for huge pages, which are pinned and cleared in a fraction of the time, and keeps children from sharing the
// pages: a device would go on with one copy, and the parent with another. Both are only advice.
func advise(host []byte) {
	_ = unix.Madvise(host, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(host, unix.MADV_DONTFORK)
}
