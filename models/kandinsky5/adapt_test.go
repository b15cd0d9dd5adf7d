package kandinsky5

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Another program takes memory between two steps, and later: the run goes on with less, and makes the same picture.
func givesWay(t *testing.T, d *engine.Device, c *Checkpoint, taken *atomic.Int64) {
	request := pictureRequest()
	request.Steps = 3
	want := generate(t, d, c, Options{Auto: true}, request)
	if n := want.Plan.Choice.BlocksInMemory; n != 8 {
		t.Fatalf("%d of 8 blocks are on the device with nobody else there", n)
	}
	// What is in use while denoising, but for three blocks and a half.
	room := want.Plan.Stage(StageDenoise).Device - 3*want.Plan.BlockBytes - want.Plan.BlockBytes/2
	var used []int64
	request.Progress = func(p Progress) {
		if p.Stage != StageDenoise || p.Done == 0 {
			return
		}
		if used = append(used, p.DeviceBytes); p.Done == 1 {
			taken.Store(plenty - room)
		}
	}
	got := generate(t, d, c, Options{Auto: true}, request)
	if !bytes.Equal(got.Clip.Pix, want.Clip.Pix) {
		t.Error("the picture differs")
	}
	if len(used) != 3 || used[0] <= room || used[1] > room || used[2] > room || used[1] < room-2*want.Plan.BlockBytes {
		t.Errorf("used after each step: %v, from the second on may be %d", used, room)
	}
	if n := got.Stats.Swap.Accesses; n != want.Stats.Swap.Accesses {
		t.Errorf("%d uses of blocks are counted, want %d", n, want.Stats.Swap.Accesses)
	}
	taken.Store(0)
	if d.WatchMemory(); d.Mem.Cut().Budget != plenty {
		t.Errorf("the budget is %d after the others have gone", d.Mem.Cut().Budget)
	}
}

// An allocation that the driver refuses leads to a smaller plan where there is one, else to an error with the plan.
func refusedAllocations(t *testing.T, d *engine.Device, c *Checkpoint, faults *engine.Faults) {
	start := faults.Allocations()
	want, err := attempt(t, t.Context(), d, c, Options{Auto: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	total := faults.Allocations() - start
	for _, n := range []int64{2, total / 2, total - 2} {
		before := faults.Allocations()
		faults.AllocateAt = before + n
		got, err := attempt(t, t.Context(), d, c, Options{Auto: true}, nil)
		faults.AllocateAt = 0
		if err != nil || !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("allocation %d of %d refused: another picture, or %v", n, total, err)
		}
		if made := faults.Allocations() - before; made < n {
			t.Errorf("allocation %d of %d was not reached: there were %d", n, total, made)
		}
		checkEmpty(t, d)
	}
	faults.AllocateFrom = faults.Allocations() + total/2
	_, err = attempt(t, t.Context(), d, c, Options{Auto: true}, nil)
	faults.AllocateFrom = 0
	if !errors.Is(err, vk.ErrOutOfDeviceMemory) || !strings.Contains(err.Error(), "no smaller plan") {
		t.Errorf("no memory at all: %v", err)
	}
	checkEmpty(t, d)
}

// Pinned memory that is gone when blocks are to wait in it is made do without.
func unpinned(t *testing.T, d *engine.Device, c *Checkpoint) {
	o := Options{Auto: true, BlocksInMemory: 2}
	want := generate(t, d, c, o, pictureRequest())
	if want.Plan.HostTier != swap.Pinned {
		t.Fatalf("blocks wait in %s with pinned memory to spare", want.Plan.HostTier)
	}
	var taken memory.Region
	request := pictureRequest()
	request.Progress = func(p Progress) {
		if p.Stage == StageDecode {
			d.FreeRegion(taken)
			taken = memory.Region{}
		}
		if p.Stage != StageLoad || !taken.IsZero() {
			return
		}
		// Four blocks are left of the six that wait, enough to bring them from the file.
		_, left := d.Mem.Budget(memory.Upload)
		var err error
		if taken, err = d.AllocRegion(memory.Upload, left-4*want.Plan.BlockBytes, "somebody else"); err != nil {
			t.Error(err)
		}
	}
	defer func() { d.FreeRegion(taken) }()
	got := generate(t, d, c, o, request)
	if !bytes.Equal(got.Clip.Pix, want.Clip.Pix) || got.Stats.Swap.Loads == 0 {
		t.Errorf("the picture differs, or nothing was swapped: %+v", got.Stats.Swap)
	}
}

// What is less than any plan takes is refused before any work.
func tooLittle(t *testing.T, d *engine.Device, c *Checkpoint, taken *atomic.Int64) {
	taken.Store(plenty - 1<<20)
	defer taken.Store(0)
	d.Mem.ResetPeak()
	_, err := attempt(t, t.Context(), d, c, Options{Auto: true}, nil)
	if !errors.Is(err, memory.ErrBudget) || !strings.Contains(err.Error(), "the smallest budget that works is --vram-budget") {
		t.Errorf("got %v", err)
	}
	if peak := d.Mem.Peak(memory.Device); peak > 64<<10 {
		t.Errorf("%d bytes were taken before", peak)
	}
}

// An allocation that is refused after some steps costs no step: the smaller plan goes on from the last one that was made, with
// all that MagCache still needs of earlier ones.
func continuesAfterRefusal(t *testing.T, d *engine.Device, c *Checkpoint, faults *engine.Faults, taken *atomic.Int64) {
	config := *c.Config
	config.MagRatios = slices.Repeat([]float64{1}, 6) // skip whatever may be skipped
	c = &Checkpoint{Config: &config, Layout: c.Layout}
	request := guidedRequest()
	const steps = 4
	request.Steps, request.MagCache, request.Digests = steps, true, true
	var states []*State
	request.AfterStep = func(f Finished) (Decision, error) {
		states = append(states, f.State)
		return Go, nil
	}
	want := generate(t, d, c, Options{Auto: true}, request)
	at := slices.IndexFunc(states, func(s *State) bool { return len(s.Earlier) > 0 && s.Step > 1 }) + 1
	if at == 0 || at == steps {
		t.Fatalf("no step leaves latents of earlier ones to be kept")
	}
	r, loads, begun := request, 0, []int(nil)
	r.AfterStep = nil // a run keeps its state also where nobody asks for it
	r.Progress = func(p Progress) {
		switch {
		case p.Stage == StageLoad:
			loads++
			faults.AllocateFrom = 0
		case p.Stage == StageDenoise && p.Total > 0:
			if begun = append(begun, p.Done); p.Done == at && loads == 1 {
				// Blocks must go, and the driver refuses what is to take their place.
				taken.Store(plenty - p.DeviceBytes + 2*want.Plan.BlockBytes)
				faults.AllocateFrom = faults.Allocations() + 1
			}
		}
	}
	got := generate(t, d, c, Options{Auto: true}, r)
	taken.Store(0)
	if anew := slices.Repeat([]int{at}, 2); loads != 2 || len(begun) != steps+2 || !slices.Equal(begun[at:at+2], anew) {
		t.Errorf("the transformer was loaded %d times, progress told the steps %v; memory was refused after step %d", loads, begun, at)
	}
	if !bytes.Equal(got.Clip.Pix, want.Clip.Pix) || !reflect.DeepEqual(got.Digests, want.Digests) || got.Stats.StepsMade != steps {
		t.Errorf("%d steps, the same frames: %v; digests %+v, want %+v", got.Stats.StepsMade, bytes.Equal(got.Clip.Pix, want.Clip.Pix), got.Digests, want.Digests)
	}
}
