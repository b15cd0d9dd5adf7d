//go:build !linux && !windows

package hostmem

func available() (int64, bool) { return 0, false }

func used() (u Use, ok bool) { return u, false }
