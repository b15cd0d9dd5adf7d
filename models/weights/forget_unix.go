//go:build unix

package weights

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget tells the system that whole pages among some bytes of a mapping will not be read again soon. They stay in the page
// cache while there is room, but no longer count as this program's memory.
func forget(mapping []byte, begin, end int64) {
	page := int64(os.Getpagesize())
	begin, end = (begin+page-1)/page*page, end/page*page
	if begin < end {
		_ = unix.Madvise(mapping[begin:end], unix.MADV_DONTNEED) // only advice
	}
}
