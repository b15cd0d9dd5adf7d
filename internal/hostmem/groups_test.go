package hostmem

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const gib = 1 << 30

// fake writes the files of a system, with 64 GiB available, into a new folder. Numbers in files of groups are in GiB.
func fake(t *testing.T, files map[string]string) system {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{"proc/meminfo": "MemTotal:       100000000 kB\nMemAvailable:   67108864 kB\n"}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return system{root}
}

func bytesOf(n float64) string { return strconv.FormatInt(int64(n*gib), 10) + "\n" }

// v2 are the files of a group of version 2.
func v2(dir, limit string, used, cached float64) map[string]string {
	return map[string]string{
		dir + "/memory.max": limit, dir + "/memory.high": "max\n", dir + "/memory.current": bytesOf(used),
		dir + "/memory.stat": "anon 5\nactive_file " + bytesOf(cached/2) + "inactive_file " + bytesOf(cached/2) + "slab_reclaimable 0\n",
	}
}

// v1 are the files of a group of version 1.
func v1(dir, limit string, used, cached float64) map[string]string {
	return map[string]string{
		dir + "/memory.limit_in_bytes": limit, dir + "/memory.usage_in_bytes": bytesOf(used),
		dir + "/memory.stat": "cache 7\nactive_file 3\ntotal_inactive_file " + bytesOf(cached/2) + "total_active_file " + bytesOf(cached/2),
	}
}

func join(parts ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, p := range parts {
		for name, text := range p {
			all[name] = text
		}
	}
	return all
}

func TestAvailableIsWhatTheTightestGroupLeaves(t *testing.T) {
	const (
		mount2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
		mount1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
		none   = "9223372036854771712\n" // what version 1 says without a limit
	)
	proc := func(group, mounts string) map[string]string {
		return map[string]string{"proc/self/cgroup": group, "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/root rw\n" + mounts}
	}
	high := v2("sys/fs/cgroup/a/b", bytesOf(32), 4, 0)
	high["sys/fs/cgroup/a/b/memory.high"] = bytesOf(20)
	for _, c := range []struct {
		name  string
		files map[string]string
		want  float64 // GiB
	}{
		{"no groups", nil, 64},
		{"2: a limit, and what is used of it", join(proc("0::/a/b\n", mount2), v2("sys/fs/cgroup/a/b", bytesOf(32), 4, 0)), 28},
		{"2: page cache is free", join(proc("0::/a/b\n", mount2), v2("sys/fs/cgroup/a/b", bytesOf(32), 31, 30)), 31},
		{"2: a group above has less", join(proc("0::/a/b\n", mount2), v2("sys/fs/cgroup/a/b", bytesOf(32), 4, 0), v2("sys/fs/cgroup/a", bytesOf(8), 5, 0)), 3},
		{"2: no limit of its own", join(proc("0::/a/b\n", mount2), v2("sys/fs/cgroup/a/b", "max\n", 4, 0), v2("sys/fs/cgroup/a", bytesOf(8), 5, 0)), 3},
		{"2: a limit at which it is slowed down", join(proc("0::/a/b\n", mount2), high), 16},
		{"2: seen from a container", join(proc("0::/\n", mount2), v2("sys/fs/cgroup", bytesOf(16), 1, 0)), 15},
		{"2: more than the machine has", join(proc("0::/a/b\n", mount2), v2("sys/fs/cgroup/a/b", bytesOf(500), 4, 0)), 64},
		{"2: more is used than allowed", join(proc("0::/a\n", mount2), v2("sys/fs/cgroup/a", bytesOf(3), 4, 0)), 0},
		{"2: mounted elsewhere", join(proc("0::/a\n", strings.ReplaceAll(mount2, "/sys/fs/cgroup", "/mnt/groups")), v2("mnt/groups/a", bytesOf(9), 1, 0)), 8},
		{"2: no mounts to be read", join(map[string]string{"proc/self/cgroup": "0::/a\n"}, v2("sys/fs/cgroup/a", bytesOf(9), 1, 0)), 8},
		{"1: a limit, page cache left out", join(proc("4:memory:/x/y\n1:cpu:/\n", mount1), v1("sys/fs/cgroup/memory/x/y", bytesOf(32), 30, 26)), 28},
		{"1: no limit, one above", join(proc("4:hugetlb,memory:/x/y\n", mount1), v1("sys/fs/cgroup/memory/x/y", none, 30, 26), v1("sys/fs/cgroup/memory/x", bytesOf(40), 31, 26)), 35},
		{"1: no limit at all", join(proc("4:memory:/x\n", mount1), v1("sys/fs/cgroup/memory/x", none, 30, 0)), 64},
		{"1: a container sees its own group alone", join(proc("4:memory:/docker/f00\n", strings.Replace(mount1, "0:32 / ", "0:32 /docker/f00 ", 1)), v1("sys/fs/cgroup/memory", bytesOf(8), 2, 0)), 6},
		{"1 beside 2", join(proc("4:memory:/x\n0::/\n", "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"+mount1), v1("sys/fs/cgroup/memory/x", bytesOf(8), 1, 0)), 7},
		{"files that say nothing", join(proc("garbage\n0::/a\n", "1 2 3 - cgroup2\n"), map[string]string{"sys/fs/cgroup/a/memory.max": "many\n", "sys/fs/cgroup/a/memory.current": "\n"}), 64},
	} {
		free, ok := fake(t, c.files).available()
		if want := int64(c.want * gib); !ok || free != want {
			t.Errorf("%s: %d bytes available (%v), want %d", c.name, free, ok, want)
		}
	}
	if _, ok := (system{t.TempDir()}).available(); ok {
		t.Error("a system that tells nothing tells what is free")
	}
}

func TestUsedIsOwnMemoryAndThatOfTheInnermostLimitedGroup(t *testing.T) {
	s := fake(t, join(map[string]string{
		"proc/self/status": "Name:\tx\nVmRSS:\t 9000 kB\nRssAnon:\t 1000 kB\nRssFile:\t 7000 kB\nRssShmem:\t 24 kB\n",
		"proc/self/cgroup": "0::/a/b\n",
	}, v2("sys/fs/cgroup/a/b", "max\n", 4, 0), v2("sys/fs/cgroup/a", bytesOf(8), 5, 2)))
	u, ok := s.used()
	if want := (Use{Own: 1024 << 10, Mapped: 7000 << 10, Group: 3 * gib, Cached: 2 * gib, Limit: 8 * gib}); !ok || u != want {
		t.Errorf("%+v (%v), want %+v", u, ok, want)
	}
	if m := u.Max(Use{Own: 1, Mapped: 1 << 40}); m.Own != u.Own || m.Mapped != 1<<40 || m.Limit != u.Limit {
		t.Errorf("the larger of each: %+v", m)
	}
}
