// Package hostmem tells how much host memory may still be used, and how much this process uses.
//
// A container's limit is that of control groups, of version 1 or 2, of the process's group and all above it. What a group holds as
// page cache counts as free: the kernel drops it before the limit is broken.
package hostmem

// Available returns the bytes of host memory that can be taken without swapping or breaking the limit of a container,
// and false where the system does not tell.
func Available() (int64, bool) { return available() }

// Use is host memory in bytes.
type Use struct {
	Own    int64 `json:"own_bytes"`              // resident memory of this process that belongs to no file
	Mapped int64 `json:"mapped_bytes"`           // and what it has mapped of files, which the page cache holds
	Group  int64 `json:"group_bytes,omitempty"`  // of the innermost control group that is limited, page cache left out
	Cached int64 `json:"cached_bytes,omitempty"` // that group's page cache
	Limit  int64 `json:"limit_bytes,omitempty"`  // of that group; 0: none is limited
}

// Max returns the larger of each.
func (u Use) Max(v Use) Use {
	return Use{max(u.Own, v.Own), max(u.Mapped, v.Mapped), max(u.Group, v.Group), max(u.Cached, v.Cached), max(u.Limit, v.Limit)}
}

// Used returns what is in use now, and false where the system does not tell.
func Used() (Use, bool) { return used() }
