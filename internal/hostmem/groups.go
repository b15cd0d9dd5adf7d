package hostmem

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// system is a Linux system whose files lie below a folder: "/", or what a test has written.
type system struct{ root string }

func (s system) read(path string) []byte {
	data, err := os.ReadFile(filepath.Join(s.root, path))
	if err != nil {
		return nil // what cannot be read limits nothing
	}
	return data
}

// available is the smaller of MemAvailable and what the control groups above this process leave.
func (s system) available() (int64, bool) {
	free, ok := field(s.read("/proc/meminfo"), "MemAvailable:")
	free <<= 10
	for _, g := range s.groups() {
		if left := max(0, g.limit-g.used); !ok || left < free {
			free, ok = left, true
		}
	}
	return free, ok
}

// used reads the process's own account and that of its innermost limited group.
func (s system) used() (Use, bool) {
	status := s.read("/proc/self/status")
	anon, ok := field(status, "RssAnon:")
	shared, _ := field(status, "RssShmem:")
	mapped, _ := field(status, "RssFile:")
	u := Use{Own: (anon + shared) << 10, Mapped: mapped << 10}
	if groups := s.groups(); len(groups) > 0 {
		u.Group, u.Cached, u.Limit = groups[0].used, groups[0].cached, groups[0].limit
	}
	return u, ok
}

// group is a control group with a limit, in bytes.
type group struct{ limit, used, cached int64 }

// hierarchy says which files a version of control groups has.
type hierarchy struct {
	fsType     string
	option     string // that the mount has; "" any
	controller string // of the lines in /proc/self/cgroup; "" for version 2
	limits     []string
	usage      string
	cached     []string // keys of memory.stat
	usual      string   // mount point
}

func hierarchies() []hierarchy {
	return []hierarchy{
		{fsType: "cgroup2", limits: []string{"memory.max", "memory.high"}, usage: "memory.current",
			cached: []string{"active_file", "inactive_file", "slab_reclaimable"}, usual: "/sys/fs/cgroup"},
		{fsType: "cgroup", option: "memory", controller: "memory", limits: []string{"memory.limit_in_bytes"}, usage: "memory.usage_in_bytes",
			cached: []string{"total_active_file", "total_inactive_file"}, usual: "/sys/fs/cgroup/memory"},
	}
}

// unlimited is what version 1 says, but for rounding, where there is no limit.
const unlimited = 1 << 60

// groups lists the limited groups above this process, the innermost first.
func (s system) groups() []group {
	var list []group
	own := s.read("/proc/self/cgroup")
	for _, h := range hierarchies() {
		path, ok := groupPath(own, h.controller)
		if !ok {
			continue
		}
		point, root := s.mount(h)
		if rest, inside := strings.CutPrefix(path, root); inside && root != "/" {
			path = rest // the mount shows a part of the hierarchy, as in a container
		}
		for path = filepath.Join("/", path); ; path = filepath.Dir(path) {
			if g, ok := s.group(h, filepath.Join(point, path)); ok {
				list = append(list, g)
			}
			if path == "/" {
				break
			}
		}
	}
	return list
}

// group reads a group's account, false where it has no limit or is not to be seen from here.
func (s system) group(h hierarchy, dir string) (g group, ok bool) {
	g.limit = unlimited
	for _, name := range h.limits {
		if n, err := number(s.read(filepath.Join(dir, name))); err == nil {
			g.limit = min(g.limit, n)
		}
	}
	used, err := number(s.read(filepath.Join(dir, h.usage)))
	if err != nil || g.limit >= unlimited {
		return g, false
	}
	stat := s.read(filepath.Join(dir, "memory.stat"))
	for _, key := range h.cached {
		n, _ := field(stat, key)
		g.cached += n
	}
	g.cached = min(g.cached, used)
	g.used = used - g.cached
	return g, true
}

// mount returns where a hierarchy is mounted and which of its groups is the root there, the usual place where the system does not
// say.
func (s system) mount(h hierarchy) (point, root string) {
	for line := range strings.Lines(string(s.read("/proc/self/mountinfo"))) {
		// 36 35 98:0 /root /point options ... - type source options (proc(5)).
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 || kind[0] != h.fsType {
			continue
		}
		if h.option == "" || slices.Contains(strings.Split(kind[2], ","), h.option) {
			return fields[4], fields[3]
		}
	}
	return h.usual, "/"
}

// groupPath finds the process's group of a controller in lines "N:controllers:/path".
func groupPath(data []byte, controller string) (string, bool) {
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if controller == "" && parts[0] == "0" && parts[1] == "" || controller != "" && slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2], true
		}
	}
	return "", false
}

// field finds a line "KEY N", with or without a unit.
func field(data []byte, key string) (int64, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == key {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// number reads all of a file; "max" is an error, as it limits nothing.
func number(data []byte) (int64, error) {
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
