package hostmem

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// available asks GlobalMemoryStatusEx for free physical memory.
func available() (int64, bool) {
	status := struct {
		length, load                                     uint32
		totalPhys, availPhys, totalPage, availPage       uint64
		totalVirtual, availVirtual, availExtendedVirtual uint64
	}{}
	status.length = uint32(unsafe.Sizeof(status))
	proc := windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")
	r, _, _ := proc.Call(uintptr(unsafe.Pointer(&status)))
	return int64(status.availPhys), r != 0
}

func used() (u Use, ok bool) { return u, false }
