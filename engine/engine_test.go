package engine_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// fill records a dispatch that writes a pattern over a U32 tensor.
func fill(s *engine.Stream, t engine.Tensor, pattern uint32) {
	n := uint32(t.Elems())
	s.Dispatch(engine.Call{Shader: shaders.Fill, Push: shaders.FillPush{Count: n, Pattern: pattern}.Append(nil),
		Bind: []engine.Tensor{t}, Groups: [3]uint32{(n + 255) / 256, 1, 1}, Cost: float64(n), Label: "fill"})
}

func alloc(t *testing.T, d *engine.Device, n int) engine.Tensor {
	t.Helper()
	x, err := d.Alloc("test tensor", engine.U32, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(x) })
	return x
}

func TestDispatchesAndCopiesRunInOrder(t *testing.T) {
	for name, limits := range map[string]engine.TestLimits{
		"with push descriptors": {}, "with descriptor sets": {DescriptorSets: true}, "on one queue": {SingleQueue: true},
		"with a submit after every call": {MaxDispatchCost: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := enginetest.OpenWith(t, engine.Options{Limits: limits})
			x, y := alloc(t, d, 1000), alloc(t, d, 1000)
			s := d.Compute()
			for k := range uint32(700) {
				fill(s, x, k)
			}
			s.Copy(y, x)
			fill(s, x.Rows(64, 128), 9999)
			gotX, err := d.DownloadU32(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			gotY, err := d.DownloadU32(t.Context(), y)
			if err != nil {
				t.Fatal(err)
			}
			for k := range gotX {
				want := uint32(699)
				if gotY[k] != want {
					t.Fatalf("y[%d] = %d, want %d", k, gotY[k], want)
				}
				if k >= 64 && k < 128 {
					want = 9999
				}
				if gotX[k] != want {
					t.Fatalf("x[%d] = %d, want %d", k, gotX[k], want)
				}
			}
		})
	}
}

func TestFloatsSurviveTheRoundTrip(t *testing.T) {
	d := enginetest.Open(t)
	values := []float32{0, 1, -2.5, 0.15625, 1024}
	for _, dt := range []engine.DType{engine.F32, engine.BF16, engine.F16} {
		x, err := d.Alloc("floats", dt, len(values))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.UploadF32(t.Context(), x, values); err != nil {
			t.Fatal(err)
		}
		got, err := d.DownloadF32(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, values) {
			t.Errorf("%v: got %v, want %v", dt, got, values)
		}
		d.Free(x)
	}
}

func TestTransferStreamHandsOverToCompute(t *testing.T) {
	d := enginetest.Open(t)
	x, y := alloc(t, d, 4096), alloc(t, d, 4096)
	compute, transfer := d.Compute(), d.Transfer()
	for k := range uint32(20) {
		fill(compute, x, k)
		at, err := compute.Flush()
		if err != nil {
			t.Fatal(err)
		}
		transfer.Wait(engine.Point{Stream: compute, Value: at})
		transfer.Copy(y, x)
		if _, err := transfer.Flush(); err != nil {
			t.Fatal(err)
		}
		compute.Wait(transfer.Here())
	}
	got, err := d.DownloadU32(t.Context(), y)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range got {
		if v != 19 {
			t.Fatalf("y[%d] = %d, want 19", k, v)
		}
	}
}

func TestLeaksAreReportedByName(t *testing.T) {
	d, err := engine.Open(t.Context(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Alloc("the leaked tensor", engine.F32, 100); err != nil {
		t.Fatal(err)
	}
	err = d.Close()
	if err == nil || !strings.Contains(err.Error(), "the leaked tensor") {
		t.Errorf("close said %v, want the leak's name", err)
	}
}

func TestBudgetIsKeptAndNamed(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{DeviceBudget: 1 << 20})
	_, err := d.Alloc("a tensor of 2 MiB", engine.U8, 2<<20)
	var budget *memory.BudgetError
	if !errors.As(err, &budget) || budget.Budget != 1<<20 {
		t.Fatalf("got %v, want a budget error", err)
	}
	x, err := d.Alloc("a tensor that fits", engine.U8, 1<<19)
	if err != nil {
		t.Fatal(err)
	}
	if peak := d.Mem.Peak(memory.Device); peak > 1<<20 {
		t.Errorf("peak is %d bytes, budget %d", peak, 1<<20)
	}
	d.Free(x)
}

func TestFreedMemoryWaitsForTheGPU(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{DeviceBudget: 3 << 20})
	for range 8 { // each round needs the bytes of the round before
		x, err := d.Alloc("big", engine.U32, 1<<19)
		if err != nil {
			t.Fatal(err)
		}
		fill(d.Compute(), x, 7)
		d.Free(x)
	}
}

func TestEveryFailedAllocationIsAnErrorWithoutLeaks(t *testing.T) {
	for n := int64(1); ; n++ {
		faults := &engine.Faults{AllocateAt: n}
		err := useDevice(t, faults)
		if faults.Allocations() < n {
			if err != nil {
				t.Fatalf("clean run failed: %v", err)
			}
			break
		}
		// A failed shared chunk is tried again in the exact size, so not every failure is fatal.
		if err != nil && !errors.Is(err, vk.ErrOutOfDeviceMemory) {
			t.Errorf("allocation %d failed: got %v", n, err)
		}
	}
}

func TestEveryLostSubmitIsAnErrorWithoutLeaks(t *testing.T) {
	for n := int64(1); ; n++ {
		faults := &engine.Faults{SubmitAt: n}
		err := useDevice(t, faults)
		if faults.Submits() < n {
			if err != nil {
				t.Fatalf("clean run failed: %v", err)
			}
			break
		}
		if !errors.Is(err, vk.ErrDeviceLost) {
			t.Errorf("submit %d lost: got %v", n, err)
		}
	}
}

// useDevice opens a device, does a little work and closes it; leaks fail the test.
func useDevice(t *testing.T, faults *engine.Faults) error {
	t.Helper()
	d, err := engine.Open(t.Context(), engine.Options{Faults: faults})
	if err != nil {
		return err
	}
	err = func() error {
		x, err := d.Alloc("x", engine.U32, 100)
		if err != nil {
			return err
		}
		defer d.Free(x)
		fill(d.Compute(), x, 3)
		if _, err := d.DownloadU32(context.Background(), x); err != nil {
			return err
		}
		d.Transfer().Fill(x, 4)
		return d.Transfer().Finish(context.Background())
	}()
	if closeErr := d.Close(); closeErr != nil {
		t.Errorf("close after %v: %v", err, closeErr)
	}
	return err
}

func TestSpansAreMeasured(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{Timings: true})
	x := alloc(t, d, 1<<16)
	d.Compute().Time("outer", func() { fill(d.Compute(), x, 1) })
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := d.Compute().TakeSpans()
	if len(spans) != 2 || spans[0].Label != "outer" || spans[1].Label != "fill" {
		t.Fatalf("spans are %v", spans)
	}
	if !(spans[0].Start <= spans[1].Start && spans[1].End <= spans[0].End && spans[1].Start < spans[1].End) {
		t.Errorf("inner span is not inside the outer one: %v", spans)
	}
}

func TestShorterDevicesCutWorkInMorePieces(t *testing.T) {
	whole := enginetest.Open(t).Caps().MaxDispatchCost
	if got := enginetest.OpenWith(t, engine.Options{Shorter: 4}).Caps().MaxDispatchCost; got != whole/4 {
		t.Errorf("a dispatch costs at most %g, want a quarter of %g", got, whole)
	}
}

func TestDeviceChoiceExplainsItself(t *testing.T) {
	for want, message := range map[string]string{"99": "no device 99", "no such gpu": "no device called"} {
		_, err := engine.Open(t.Context(), engine.Options{Device: want})
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("device %q: got %v, want %q", want, err, message)
		}
	}
}

func TestHostMemoryOfEveryKindIsCopiedUpAndDown(t *testing.T) {
	d := enginetest.Open(t)
	kinds := d.HostKinds()
	if len(kinds) == 0 {
		t.Fatal("no kind of host memory")
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			const words = 5000
			host, err := d.NewHostBuffer(kind, 4*words)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := host.Free(); err != nil {
					t.Error(err)
				}
			}()
			for k := range words {
				host.Bytes()[4*k], host.Bytes()[4*k+1] = byte(k), byte(k>>8)
			}
			x := alloc(t, d, words)
			d.Compute().CopyRange(engine.MemoryRange(x), host.Range(4*words))
			got, err := d.DownloadU32(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range got {
				if byte(v) != byte(k) || byte(v>>8) != byte(k>>8) {
					t.Fatalf("word %d is %#x", k, v)
				}
			}
		})
	}
	if _, err := d.NewHostBuffer("no such kind", 64); err == nil {
		t.Error("memory of an unknown kind was given")
	}
}

func TestTheDevicesClockRunsWithTheHosts(t *testing.T) {
	if _, err := enginetest.Open(t).Clock(t.Context()); !errors.Is(err, engine.ErrNoTimestamps) {
		t.Errorf("without marks: %v", err)
	}
	d := enginetest.OpenWith(t, engine.Options{Marks: true})
	d.Compute().Mark("kept")
	first, err := d.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	time.Sleep(30 * time.Millisecond)
	second, err := d.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	off := time.Duration(math.Abs(first.At(start) - second.At(start)))
	if limit := first.Error + second.Error + time.Millisecond; off > limit {
		t.Errorf("two comparisons differ by %v, at most %v are possible", off, limit)
	}
	if spans := d.Compute().TakeSpans(); len(spans) != 1 || spans[0].Label != "kept" {
		t.Errorf("spans %+v, want the one that was marked", spans)
	}
}

func TestReadbackFollowsATensorThroughItsChanges(t *testing.T) {
	d := enginetest.Open(t)
	x, err := d.Alloc("x", engine.U32, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(x)
	r, err := d.NewReadback("x on the host", x.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	s := d.Compute()
	for word := range uint32(3) {
		s.Fill(x, word)
		s.Fill(x.Rows(1, 2), 7)
		for _, view := range []engine.Tensor{x.Rows(1, 4), x} {
			r.Record(s, view)
			if err := s.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := r.Bytes()
			if int64(len(got)) != view.Bytes() {
				t.Fatalf("%d bytes of %v", len(got), view)
			}
			for k := range len(got) / 4 {
				want := word
				if row := k / 3; row == 0 && view.Dim(0) == 3 || row == 1 && view.Dim(0) == 4 {
					want = 7
				}
				if v := binary.LittleEndian.Uint32(got[4*k:]); v != want {
					t.Errorf("word %d of %v is %d, want %d", k, view, v, want)
				}
			}
		}
	}
	r.Free()
	r.Free()
	(*engine.Readback)(nil).Free()
	defer func() {
		if recover() == nil {
			t.Error("a tensor that is too large is taken")
		}
	}()
	small, err := d.NewReadback("small", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Free()
	small.Record(s, x)
}
