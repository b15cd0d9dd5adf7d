package vk

import (
	"sync"

	mmap "github.com/edsrzf/mmap-go"
)

const (
	pageBytes = 4 << 10
	populate  = 4 // goroutines that let pages be cleared: one alone is slower than the memory
)

// mapPages takes memory from the system for at least so many bytes, a multiple of align, with all pages there: an import pins
// them, and would otherwise have them cleared one by one.
func mapPages(size, align int64) (mmap.MMap, error) {
	align = max(align, pageBytes)
	host, err := mmap.MapRegion(nil, int((size+align-1)/align*align), private, mmap.ANON, 0)
	if err != nil {
		return nil, err
	}
	advise(host)
	var all sync.WaitGroup
	part := (len(host)/populate + pageBytes) / pageBytes * pageBytes
	for from := 0; from < len(host); from += part {
		all.Go(func() {
			for at := from; at < min(from+part, len(host)); at += pageBytes {
				host[at] = 0
			}
		})
	}
	all.Wait()
	return host, nil
}
