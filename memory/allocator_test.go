package memory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// fake is a Source without a device. It counts what is asked for.
type fake struct {
	mu     sync.Mutex
	sizes  []int64
	types  []int
	names  []string
	refuse func(size int64) error // nil: never
}

func (f *fake) NewBuffer(_ Kind, memoryType int, size int64, name string) (*vk.Buffer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		if err := f.refuse(size); err != nil {
			return nil, err
		}
	}
	f.sizes, f.types, f.names = append(f.sizes, size), append(f.types, memoryType), append(f.names, name)
	b := &vk.Buffer{Size: size, Type: memoryType}
	if memoryType == 1 && size <= 1<<20 { // the host's
		b.Mapped = make([]byte, size)
	}
	return b, nil
}

// twoTypes is a discrete card: its own memory, and the host's.
var twoTypes = []vk.MemoryType{{DeviceLocal: true}, {HostVisible: true, Coherent: true, Cached: true}}

func newAllocator(t *testing.T, f *fake, o Options) *Allocator {
	t.Helper()
	a, err := New(f, twoTypes, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustAlloc(t *testing.T, a *Allocator, kind Kind, size int64, label string) Region {
	t.Helper()
	r, err := a.Alloc(kind, size, label)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChooseType(t *testing.T) {
	local := vk.MemoryType{DeviceLocal: true}
	window := vk.MemoryType{DeviceLocal: true, HostVisible: true, Coherent: true}
	combined := vk.MemoryType{HostVisible: true, Coherent: true}
	cached := vk.MemoryType{HostVisible: true, Coherent: true, Cached: true}
	incoherent := vk.MemoryType{HostVisible: true, Cached: true}
	all := vk.MemoryType{DeviceLocal: true, HostVisible: true, Coherent: true, Cached: true}
	for _, c := range []struct {
		name         string
		types        []vk.MemoryType
		device, host int // −1: there is none
	}{
		{"a discrete card with a window takes the part that the host does not see", []vk.MemoryType{window, local, combined, cached}, 1, 3},
		{"cached memory goes before write-combined, wherever it stands", []vk.MemoryType{cached, combined, local}, 2, 0},
		{"write-combined memory serves where nothing is cached", []vk.MemoryType{local, combined}, 0, 1},
		{"one type for all serves all", []vk.MemoryType{all}, 0, 0},
		{"the window serves as the host's memory when there is nothing else", []vk.MemoryType{local, window}, 0, 1},
		{"host memory outside the card goes before the window, even uncached", []vk.MemoryType{all, combined}, 0, 1},
		{"the first of equals is taken", []vk.MemoryType{local, local, cached, cached}, 0, 2},
		{"memory that is not coherent does not serve the host", []vk.MemoryType{local, incoherent}, 0, -1},
		{"without device-local memory there is no device", []vk.MemoryType{cached}, -1, 0},
		{"no types at all", nil, -1, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, want := range map[Kind]int{Device: c.device, Upload: c.host, Readback: c.host} {
				got, err := ChooseType(c.types, kind)
				if (err != nil) != (want < 0) || err == nil && got != want {
					t.Errorf("%s: type %d, error %v, want %d", kind, got, err, want)
				}
				if err != nil && !strings.Contains(err.Error(), kind.String()) {
					t.Errorf("%v does not name the kind %s", err, kind)
				}
			}
			_, err := New(&fake{}, c.types, Options{})
			if (err != nil) != (c.device < 0 || c.host < 0) {
				t.Errorf("New: %v", err)
			}
		})
	}
}

func TestBudgetsAreKeptToTheByte(t *testing.T) {
	const chunk = 1 << 10
	for _, c := range []struct {
		name   string
		sizes  []int64
		budget int64 // the least that holds them
	}{
		{"a large region takes its own size", []int64{5000}, 5008},
		{"several large ones take theirs", []int64{5008, 256, 1 << 20}, 5008 + 256 + 1<<20},
		{"small ones take their own sizes when a chunk does not fit", []int64{16, 16, 16}, 48},
		{"small ones share a chunk that fits", []int64{16, 600, 16, 100, 16, 16}, 608 + chunk + 16}, // four places of 256 bytes; the fifth takes its own
		{"a small one takes its own size when a chunk does not fit", []int64{5008, 16}, 5008 + 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range []Kind{Device, Upload, Readback} {
				fits := func(budget int64) error {
					a := newAllocator(t, &fake{}, Options{DeviceBudget: budget, HostBudget: budget, ChunkSize: chunk})
					var regions []Region
					var failed error
					for _, size := range c.sizes {
						r, err := a.Alloc(kind, size, "region")
						if err != nil {
							failed = err
							break
						}
						regions = append(regions, r)
					}
					if total, left := a.Budget(kind); total != budget || left != budget-a.Used(kind) || left < 0 {
						t.Errorf("%s: budget %d, %d left, %d used", kind, total, left, a.Used(kind))
					}
					for _, r := range regions {
						a.Free(r)
					}
					if a.Used(kind) != 0 {
						t.Errorf("%s: %d bytes in use after all is freed", kind, a.Used(kind))
					}
					if err := a.Close(); err != nil {
						t.Error(err)
					}
					return failed
				}
				if err := fits(c.budget); err != nil {
					t.Errorf("%s: a budget of %d does not hold them: %v", kind, c.budget, err)
				}
				if err := fits(c.budget - 1); !errors.Is(err, ErrBudget) {
					t.Errorf("%s: a budget of %d: got %v, want a broken budget", kind, c.budget-1, err)
				}
			}
		})
	}
}

func TestPinnedMemoryIsOneBudget(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{HostBudget: 10000, ChunkSize: 16})
	up := mustAlloc(t, a, Upload, 6000, "host copies")
	if _, err := a.Alloc(Readback, 6000, "frames"); !errors.Is(err, ErrBudget) {
		t.Errorf("got %v, want a broken budget: upload and readback are one heap", err)
	}
	dev := mustAlloc(t, a, Device, 1<<30, "another heap")
	a.Free(dev)
	a.Free(up)
	a.Free(mustAlloc(t, a, Readback, 6000, "frames"))
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestABrokenBudgetSaysWhoHoldsWhat(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{DeviceBudget: 10 << 20, ChunkSize: 1 << 10})
	defer a.Close()
	mustAlloc(t, a, Device, 1<<20, "text blocks: slots")
	mustAlloc(t, a, Device, 3<<20, "visual blocks: slots")
	mustAlloc(t, a, Device, 2<<20, "visual blocks: slots")
	mustAlloc(t, a, Device, 1<<19, "c")
	mustAlloc(t, a, Device, 1<<18, "never listed")
	_, err := a.Alloc(Device, 4<<20, "activations")
	var budget *BudgetError
	if !errors.As(err, &budget) {
		t.Fatalf("got %v", err)
	}
	if budget.Wanted != 4<<20 || budget.Used != 6<<20+3<<18 || budget.Budget != 10<<20 || budget.Label != "activations" || budget.Kind != Device {
		t.Errorf("numbers are %+v", budget)
	}
	const want = "activations needs 4.0 MiB of device memory, 6.8 MiB of the budget of 10.0 MiB are in use (visual blocks: slots 5.0 MiB, text blocks: slots 1.0 MiB, c 512.0 KiB)"
	if err.Error() != want {
		t.Errorf("message is\n%s\nwant\n%s", err, want)
	}
}

func TestSmallRegionsShareChunksAndLargeOnesDoNot(t *testing.T) {
	f := &fake{}
	a := newAllocator(t, f, Options{ChunkSize: 4096})
	var regions []Region
	for range 12 { // 12·256 bytes: places are aligned
		regions = append(regions, mustAlloc(t, a, Device, 100, "small"))
	}
	big := mustAlloc(t, a, Device, 1024, "a quarter of a chunk")
	pinned := mustAlloc(t, a, Upload, 100, "small, of another kind")
	if len(f.sizes) != 3 || f.sizes[0] != 4096 || f.sizes[1] != 1024 || f.sizes[2] != 4096 || f.types[2] != 1 {
		t.Errorf("chunks of %v bytes of types %v", f.sizes, f.types)
	}
	if f.names[1] != "a quarter of a chunk" {
		t.Errorf("a chunk of one owner is called %q", f.names[1])
	}
	seen := map[int64]bool{}
	for _, r := range regions {
		if r.Offset%256 != 0 || seen[r.Offset] || r.Buffer != regions[0].Buffer {
			t.Errorf("region at %d of %p", r.Offset, r.Buffer)
		}
		seen[r.Offset] = true
	}
	a.Free(regions[3])
	if r := mustAlloc(t, a, Device, 112, "again"); r.Offset != regions[3].Offset || len(f.sizes) != 3 {
		t.Errorf("a freed place at %d was not used again (%d)", regions[3].Offset, r.Offset)
	} else {
		regions[3] = r
	}
	for _, r := range append(regions, big, pinned) {
		a.Free(r)
	}
	if a.Used(Device) != 0 || a.Used(Upload) != 0 || len(a.chunks) != 0 {
		t.Errorf("%d and %d bytes in use after all is freed", a.Used(Device), a.Used(Upload))
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestNoChunkIsLargerThanTheDriverAllows(t *testing.T) {
	f := &fake{}
	a := newAllocator(t, f, Options{MaxAllocation: 1000, ChunkSize: 1 << 20})
	for _, size := range []int64{1, 100, 249, 250, 984, 992} {
		a.Free(mustAlloc(t, a, Device, size, "region"))
	}
	for _, size := range f.sizes {
		if size > 1000 {
			t.Errorf("an allocation of %d bytes, at most 1000 are allowed", size)
		}
	}
	for _, size := range []int64{993, 1000, 1001, 1 << 40, 1<<63 - 1} { // 993 rounded up to 16 bytes is 1008
		if _, err := a.Alloc(Device, size, "too much"); err == nil || !strings.Contains(err.Error(), "too much") {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestAbsurdSizesAreErrors(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{DeviceBudget: 1 << 40})
	for _, size := range []int64{0, -1, -1 << 63, 1<<63 - 1, 1<<63 - 16} {
		if _, err := a.Alloc(Device, size, "absurd"); err == nil {
			t.Errorf("%d bytes were given", size)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestADriverThatRefusesIsAnError(t *testing.T) {
	broken := errors.New("out of memory")
	f := &fake{refuse: func(size int64) error {
		if size >= 4096 {
			return broken
		}
		return nil
	}}
	a := newAllocator(t, f, Options{ChunkSize: 4096})
	r := mustAlloc(t, a, Device, 100, "small") // the chunk is refused, its own size is not
	if r.Buffer.Size != 112 {
		t.Errorf("a buffer of %d bytes", r.Buffer.Size)
	}
	if _, err := a.Alloc(Device, 5000, "large"); !errors.Is(err, broken) || !strings.Contains(err.Error(), "large") {
		t.Errorf("got %v", err)
	}
	if a.Used(Device) != 112 || a.Peak(Device) != 112 {
		t.Errorf("used %d, peak %d: a refused chunk was counted", a.Used(Device), a.Peak(Device))
	}
	a.Free(r)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestPeakIsTheMostSinceReset(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{ChunkSize: 16})
	x := mustAlloc(t, a, Device, 1000, "x")
	y := mustAlloc(t, a, Device, 2000, "y")
	a.Free(x)
	if a.Peak(Device) != 3008 || a.Used(Device) != 2000 {
		t.Errorf("peak %d, used %d", a.Peak(Device), a.Used(Device))
	}
	a.ResetPeak()
	if a.Peak(Device) != 2000 {
		t.Errorf("peak %d after reset", a.Peak(Device))
	}
	a.Free(mustAlloc(t, a, Device, 160, "z"))
	if a.Peak(Device) != 2160 || a.Peak(Upload) != 0 {
		t.Errorf("peaks %d and %d", a.Peak(Device), a.Peak(Upload))
	}
	a.Free(y)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestLeaksAreNamedWithSizes(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{})
	mustAlloc(t, a, Device, 3<<20, "forgotten activations")
	mustAlloc(t, a, Readback, 100, "forgotten frames")
	a.Free(mustAlloc(t, a, Device, 100, "remembered"))
	owners := a.Map()
	if len(owners) != 2 || owners[0] != (Owner{Device, "forgotten activations", 3 << 20, 1}) || owners[1] != (Owner{Readback, "forgotten frames", 112, 1}) {
		t.Errorf("owners are %+v", owners)
	}
	err := a.Close()
	const want = "memory leaked: forgotten activations (device, 3.0 MiB), forgotten frames (pinned readback, 112 B)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if a.Used(Device) != 0 {
		t.Error("chunks are still counted after Close")
	}
	if err := a.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestAFreeAfterCloseDoesNothing(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{})
	r := mustAlloc(t, a, Device, 100, "late")
	if err := a.Close(); err == nil {
		t.Error("the leak was not reported")
	}
	a.Free(r) // a deferred free of an owner that outlives the device must not hide the report by a panic
	if a.Used(Device) != 0 {
		t.Errorf("%d bytes in use", a.Used(Device))
	}
}

func TestArenasGiveAllBackTogether(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{DeviceBudget: 10000, ChunkSize: 16})
	arena := a.NewArena("denoise")
	for k := range 3 {
		if _, err := arena.Alloc(Device, 3000, fmt.Sprintf("tensor %d", k)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := arena.Alloc(Device, 3000, "one too many"); !errors.Is(err, ErrBudget) || !strings.Contains(err.Error(), "denoise: one too many") {
		t.Errorf("got %v", err)
	}
	if m := a.Map(); len(m) != 3 || m[0].Label != "denoise: tensor 0" {
		t.Errorf("owners are %+v", m)
	}
	arena.Release()
	arena.Release()
	if a.Used(Device) != 0 {
		t.Errorf("%d bytes in use after release", a.Used(Device))
	}
	if _, err := arena.Alloc(Device, 9000, "used again"); err != nil {
		t.Error(err)
	}
	arena.Release()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestHostMemoryIsSeenThroughARegionsOwnWindow(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{ChunkSize: 4096})
	x, y := mustAlloc(t, a, Upload, 100, "x"), mustAlloc(t, a, Upload, 100, "y")
	for k := range x.Bytes() {
		x.Bytes()[k] = 1
	}
	for k := range y.Bytes() {
		y.Bytes()[k] = 2
	}
	if len(x.Bytes()) != 112 || cap(x.Bytes()) != 112 || x.Bytes()[111] != 1 {
		t.Errorf("x is %d bytes of %d, the last is %d", len(x.Bytes()), cap(x.Bytes()), x.Bytes()[111])
	}
	d := mustAlloc(t, a, Device, 100, "d")
	if d.Bytes() != nil || (Region{}).Bytes() != nil || !(Region{}).IsZero() || d.IsZero() {
		t.Error("memory that the host does not see has bytes, or the zero region is some")
	}
	for _, r := range []Region{x, y, d, {}} {
		a.Free(r)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestRandomWorkKeepsTheAccount(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 2))
		a := newAllocator(t, &fake{}, Options{DeviceBudget: 60000, HostBudget: 30000, ChunkSize: 2048})
		live := map[Region]string{}
		bytes := map[Owner]int64{}
		for step := range 600 {
			if len(live) > 0 && r.IntN(2) == 0 {
				for reg, label := range live {
					delete(live, reg)
					bytes[Owner{Kind: reg.chunk.kind, Label: label}] -= reg.Size
					a.Free(reg)
					break
				}
			} else {
				kind, label := Kind(r.IntN(3)), fmt.Sprintf("owner %d", r.IntN(4))
				reg, err := a.Alloc(kind, 1+r.Int64N(3000), label)
				if err != nil && !errors.Is(err, ErrBudget) {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
				if err == nil {
					live[reg] = label
					bytes[Owner{Kind: kind, Label: label}] += reg.Size
				}
			}
			if a.Used(Device) > 60000 || a.Used(Upload)+a.Used(Readback) > 30000 {
				t.Fatalf("seed %d, step %d: budgets are broken: %d, %d", seed, step, a.Used(Device), a.Used(Upload)+a.Used(Readback))
			}
			for _, o := range a.Map() {
				if want := bytes[Owner{Kind: o.Kind, Label: o.Label}]; o.Bytes != want {
					t.Fatalf("seed %d, step %d: %s %s holds %d bytes, want %d", seed, step, o.Kind, o.Label, o.Bytes, want)
				}
			}
		}
		for reg := range live {
			a.Free(reg)
		}
		if err := a.Close(); err != nil || a.Used(Device)+a.Used(Upload)+a.Used(Readback) != 0 {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestManyGoroutinesMayAllocate(t *testing.T) {
	a := newAllocator(t, &fake{}, Options{ChunkSize: 4096})
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			arena := a.NewArena(fmt.Sprintf("worker %d", g))
			defer arena.Release()
			for k := range 50 {
				if _, err := arena.Alloc(Kind(k%3), int64(1+37*k), "region"); err != nil {
					t.Error(err)
				}
				if k%7 == 0 {
					a.Map()
					a.Free(mustAlloc(t, a, Device, 64, "short"))
				}
			}
		})
	}
	group.Wait()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestSizesAreReadable(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 612_499_456: "584.1 MiB", 1 << 30: "1.00 GiB", 85_520_809_984: "79.65 GiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}
