package engine_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
)

func TestFetchHoldsWhatWasThereWhenItWasStarted(t *testing.T) {
	d := enginetest.Open(t)
	x, err := d.Alloc("x", engine.U32, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(x)
	r, err := d.NewFetch(16, "results")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Free()
	s := d.Compute()
	for round := range uint32(3) {
		s.Fill(x, 7+round)
		if err := r.Start(x); err != nil {
			t.Fatal(err)
		}
		s.Fill(x, 99) // goes on meanwhile
		raw, err := r.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for at := 0; at < len(raw); at += 4 {
			got = append(got, binary.LittleEndian.Uint32(raw[at:]))
		}
		if want := slices.Repeat([]uint32{7 + round}, 3); !slices.Equal(got, want) {
			t.Errorf("round %d: %v, want %v", round, got, want)
		}
	}
	if err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Holds(17) || !r.Holds(16) || (*engine.Fetch)(nil).Holds(0) {
		t.Error("a fetch of 16 bytes holds 17, or not 16, or none holds something")
	}
	before := d.Mem.Used(memory.Readback)
	r.Free()
	if err := d.Settle(); err != nil {
		t.Fatal(err)
	}
	if after := d.Mem.Used(memory.Readback); before == 0 || after != 0 {
		t.Errorf("%d bytes of pinned memory, %d when freed", before, after)
	}
}

func TestFetchPanicsOnWhatItDoesNotHold(t *testing.T) {
	d := enginetest.Open(t)
	x, err := d.Alloc("x", engine.U32, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(x)
	r, err := d.NewFetch(16, "results")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Free()
	defer func() {
		if recover() == nil {
			t.Error("20 bytes were started on a fetch of 16")
		}
	}()
	_ = r.Start(x)
}
