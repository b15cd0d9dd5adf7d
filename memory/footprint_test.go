package memory

import (
	"math/rand/v2"
	"testing"
)

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

// What is planned must be what is done: an allocator that takes regions in the same order holds exactly as much.
func TestFootprintIsWhatAnAllocatorTakes(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		a := newAllocator(t, &fake{}, Options{})
		var sizes []int64
		var regions []Region
		for range r.IntN(60) {
			size := 1 + r.Int64N(1<<(4+r.IntN(24))) // up to 128 MiB, most of them small
			sizes = append(sizes, size)
			regions = append(regions, mustAlloc(t, a, Device, size, "region"))
			if got, want := Footprint(sizes...), a.Used(Device); got != want {
				t.Fatalf("seed %d: %v take %d bytes, planned were %d", seed, sizes, want, got)
			}
		}
		for _, region := range regions {
			a.Free(region)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
