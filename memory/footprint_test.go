package memory

import "testing"

func TestFootprintCountsChunks(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name  string
		sizes []int64
		want  int64
	}{
		{"nothing takes nothing", nil, 0},
		{"small regions share a chunk", []int64{1, 300, 5 * mib}, 64 * mib},
		{"a large region takes its own size", []int64{100*mib + 16}, 100*mib + 16},
		{"sizes are rounded up to 16 bytes", []int64{100*mib + 1}, 100*mib + 16},
		{"a quarter of a chunk is large", []int64{16 * mib, 16*mib - 16}, 16*mib + 64*mib},
		{"a full chunk is followed by another", []int64{15 * mib, 15 * mib, 15 * mib, 15 * mib, 15 * mib}, 128 * mib},
		{"alignment counts", []int64{16, 64*mib/4 - 16, 64*mib/4 - 16, 64*mib/4 - 16, 64*mib/4 - 16}, 128 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Footprint(c.sizes...); got != c.want {
				t.Errorf("got %d bytes, want %d", got, c.want)
			}
		})
	}
}
