package hostmem

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// available is the smaller of MemAvailable and what the control groups (version 2) above this process leave.
func available() (int64, bool) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	free, ok := meminfo(data, "MemAvailable:")
	if group, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for dir := cgroupDir(group); dir != ""; dir = filepath.Dir(dir) {
			limit, err1 := readBytes(filepath.Join("/sys/fs/cgroup", dir, "memory.max"))
			used, err2 := readBytes(filepath.Join("/sys/fs/cgroup", dir, "memory.current"))
			if err1 == nil && err2 == nil {
				free, ok = min(free, max(0, limit-used)), true
			}
			if dir == "/" {
				break
			}
		}
	}
	return free, ok
}

// meminfo finds a line "KEY   N kB".
func meminfo(data []byte, key string) (int64, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == key {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// cgroupDir returns the group of the unified hierarchy, "" when there is none.
func cgroupDir(data []byte) string {
	for _, line := range strings.Split(string(data), "\n") {
		if dir, ok := strings.CutPrefix(line, "0::"); ok {
			return dir
		}
	}
	return ""
}

// readBytes reads a number from a file; "max" is an error, as it limits nothing.
func readBytes(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
