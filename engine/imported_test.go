package engine_test

import (
	"errors"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// roundTrip copies numbers to the device and back through pinned memory of an odd size, and returns how many pieces of it
// were imported.
func roundTrip(t *testing.T, d *engine.Device, words int) int64 {
	t.Helper()
	before := d.Imported()
	x, err := d.Alloc("numbers", engine.U32, words)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(x)
	want := make([]uint32, words)
	for k := range want {
		want[k] = uint32(k)*2654435761 + 1
	}
	if err := d.UploadU32(t.Context(), x, want); err != nil {
		t.Fatal(err)
	}
	got, err := d.DownloadU32(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	for k := range want {
		if got[k] != want[k] {
			t.Fatalf("word %d of %d is %#x, want %#x", k, words, got[k], want[k])
		}
	}
	return d.Imported() - before
}

func TestPinnedMemoryIsImportedWhereThatWorksAndElseTheDrivers(t *testing.T) {
	const words = 12345
	small := engine.TestLimits{ImportFrom: 4 << 10, Chunk: 4 << 10}
	failing := small
	failing.NoImport = true
	for _, c := range []struct {
		name     string
		o        engine.Options
		imported int64
	}{
		{"imported", engine.Options{Limits: small}, 1}, // what is downloaded needs no huge pages
		{"asked for", engine.Options{Limits: small, PinnedFrom: engine.PinnedImported}, 1},
		{"the driver's", engine.Options{Limits: small, PinnedFrom: engine.PinnedDriver}, 0},
		{"an import fails", engine.Options{Limits: failing}, 0},
		{"a chunk that pieces share", engine.Options{Limits: engine.TestLimits{Chunk: enginetest.ChunkOfUsers}}, 1},
		{"small chunks", engine.Options{Limits: engine.TestLimits{Chunk: 1 << 20}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := enginetest.OpenWith(t, c.o)
			if d.Summary.Physical.Limits.ImportAlign == 0 && c.o.PinnedFrom != engine.PinnedDriver {
				t.Skip("this driver imports no host memory")
			}
			if got := roundTrip(t, d, words); got != c.imported {
				t.Errorf("%d pieces were imported, want %d", got, c.imported)
			}
			if left := d.Mem.Used(memory.Upload) + d.Mem.Used(memory.Readback); left != 0 {
				t.Errorf("%d bytes stay pinned", left)
			}
		})
	}
}

// An import is an allocation, and counts in the budget; when there is no memory for one the driver is asked for its own.
func TestImportsAreBudgetedAndMayBeRefused(t *testing.T) {
	faults := &engine.Faults{}
	d := enginetest.OpenWith(t, engine.Options{HostBudget: 64 << 10, Faults: faults, Limits: engine.TestLimits{ImportFrom: 4 << 10, Chunk: 4 << 10}})
	if d.Summary.Physical.Limits.ImportAlign == 0 {
		t.Skip("this driver imports no host memory")
	}
	if _, err := d.AllocRegion(memory.Upload, 64<<10+16, "too much"); !errors.Is(err, memory.ErrBudget) {
		t.Errorf("got %v", err)
	}
	faults.AllocateAt = faults.Allocations() + 1
	r, err := d.AllocRegion(memory.Upload, 64<<10, "all of it")
	if err != nil || d.Imported() != 0 || len(r.Bytes()) != 64<<10 {
		t.Errorf("a refused import: %v, %d imported, %d bytes", err, d.Imported(), len(r.Bytes()))
	}
	d.FreeRegion(r)
	if r, err = d.AllocRegion(memory.Upload, 64<<10, "all of it"); err != nil || d.Imported() != 1 {
		t.Errorf("the next import: %v, %d imported", err, d.Imported())
	}
	d.FreeRegion(r)
	faults.AllocateFrom = 1
	if _, err := d.AllocRegion(memory.Upload, 64<<10, "all of it"); !errors.Is(err, vk.ErrOutOfDeviceMemory) {
		t.Errorf("no memory at all: %v", err)
	}
	faults.AllocateFrom = 0
}

func TestAnUnknownSourceOfPinnedMemoryIsAnError(t *testing.T) {
	if d, err := engine.Open(t.Context(), engine.Options{PinnedFrom: "thin air"}); err == nil {
		t.Errorf("opened %v", d.Summary.Physical.Info.Name)
		_ = d.Close()
	}
}
