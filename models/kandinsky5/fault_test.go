package kandinsky5

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// hangs is far more than any of these runs takes, also under a race detector on a busy machine.
const hangs = 5 * time.Minute

// walkOptions hold the networks in the two ways that differ in what can fail.
func walkOptions() map[string]Options {
	return map[string]Options{
		"pinned": {BlocksInMemory: 2},
		"mapped": {BlocksInMemory: 3, StreamSlots: 2, HostTier: swap.Mapped, QwenLayersInMemory: 1, QuantizeQwen: true, Offload: true},
	}
}

// attempt makes a picture and closes the pipeline. prepare may change the pipeline before. What is left on the device or
// runs on afterwards, and an error of several lines, fail the test.
func attempt(t *testing.T, ctx context.Context, d *engine.Device, c *Checkpoint, o Options, prepare func(*Pipeline)) (*Clip, error) {
	t.Helper()
	defer enginetest.Deadline(t, hangs, "a picture")()
	before := runtime.NumGoroutine()
	p, err := New(ctx, d, c, o)
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(p)
	}
	r := pictureRequest()
	r.Digests = true
	result, err := p.Generate(ctx, r)
	if closeErr := p.Close(); closeErr != nil {
		t.Errorf("closing after %v: %v", err, closeErr)
	}
	enginetest.CheckGoroutines(t, before)
	if err != nil {
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("an error of several lines: %q", err)
		}
		if result != nil {
			t.Errorf("a result besides the error %v", err)
		}
		return nil, err
	}
	return result.Clip, nil
}

// checkEmpty fails the test when anything but the device's own is allocated.
func checkEmpty(t *testing.T, d *engine.Device) {
	t.Helper()
	if err := d.Settle(); err != nil {
		t.Errorf("the device does not work any more: %v", err)
	}
	for _, o := range d.Mem.Map() {
		if o.Label != "unused binding" {
			t.Errorf("%s holds %s of %s memory", o.Label, memory.Size(o.Bytes), o.Kind)
		}
	}
}

// sample picks numbers of 1 to total: the first ones, the last one, and some between.
func sample(seed uint64, total int64, first, between int) []int64 {
	r := rand.New(rand.NewPCG(seed, 5))
	list := []int64{total}
	for n := int64(1); n <= min(int64(first), total); n++ {
		list = append(list, n)
	}
	for range between {
		list = append(list, 1+r.Int64N(total))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestFailuresThatTheDeviceSurvives has one device for all its parts: after each failure it must work on.
func TestFailuresThatTheDeviceSurvives(t *testing.T) {
	c := smallCheckpoint(t)
	faults := &engine.Faults{}
	// With small chunks nearly every allocation of the pipeline is one of the driver's.
	d := enginetest.OpenPlainWith(t, engine.Options{Faults: faults, Limits: engine.TestLimits{MaxAllocation: 6 << 18}})
	t.Run("allocations", func(t *testing.T) { refuseAllocations(t, d, faults, c) })
	t.Run("reads", func(t *testing.T) { failReads(t, d, c) })
	t.Run("cancelling at any moment", func(t *testing.T) { cancelAtAnyMoment(t, d, c) })
	t.Run("files that shrink under the mapping", func(t *testing.T) { shrinkFiles(t, d) })
}

func refuseAllocations(t *testing.T, d *engine.Device, faults *engine.Faults, c *Checkpoint) {
	for name, o := range walkOptions() {
		want, err := attempt(t, t.Context(), d, c, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkEmpty(t, d)
		start := faults.Allocations()
		if _, err := attempt(t, t.Context(), d, c, o, nil); err != nil {
			t.Fatal(err)
		}
		total := faults.Allocations() - start
		if total < 20 {
			t.Fatalf("%s: a run allocates %d times", name, total)
		}
		for _, n := range sample(1, total, 2, 6) {
			t.Run(fmt.Sprintf("%s, no memory from allocation %d of %d on", name, n, total), func(t *testing.T) {
				faults.AllocateFrom = faults.Allocations() + n
				_, err := attempt(t, t.Context(), d, c, o, nil)
				faults.AllocateFrom = 0
				if !errors.Is(err, vk.ErrOutOfDeviceMemory) {
					t.Errorf("got %v", err)
				}
				checkEmpty(t, d)
			})
		}
		for _, n := range sample(2, total, 0, 1) {
			t.Run(fmt.Sprintf("%s, allocation %d of %d refused", name, n, total), func(t *testing.T) {
				faults.AllocateAt = faults.Allocations() + n
				got, err := attempt(t, t.Context(), d, c, o, nil)
				faults.AllocateAt = 0
				// A shared chunk that is refused is tried again in the size that is needed.
				if err == nil && !bytes.Equal(got.Pix, want.Pix) || err != nil && !errors.Is(err, vk.ErrOutOfDeviceMemory) {
					t.Errorf("got another picture, or %v", err)
				}
				checkEmpty(t, d)
			})
		}
		if got, err := attempt(t, t.Context(), d, c, o, nil); err != nil || !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%s: the picture after all failures differs, or %v", name, err)
		}
	}
}

func TestEveryLostOrRefusedSubmitIsAnErrorWithoutLeaks(t *testing.T) {
	c := smallCheckpoint(t)
	for name, o := range walkOptions() {
		// Without validation, which takes most of the time of opening so many devices; package swap does the same with it.
		run := func(t *testing.T, faults *engine.Faults) error {
			d, err := engine.Open(t.Context(), engine.Options{Faults: faults, Limits: enginetest.SmallChunks(engine.TestLimits{})})
			if err != nil {
				return err
			}
			_, err = attempt(t, t.Context(), d, c, o, nil)
			defer enginetest.Deadline(t, hangs, "closing the device")()
			if closeErr := d.Close(); closeErr != nil {
				t.Errorf("closing the device after %v: %v", err, closeErr)
			}
			return err
		}
		clean := &engine.Faults{}
		if err := run(t, clean); err != nil {
			t.Fatal(err)
		}
		total := clean.Submits()
		if total < 30 {
			t.Fatalf("%s: a run submits %d times", name, total)
		}
		for _, n := range sample(3, total, 1, 3) {
			t.Run(fmt.Sprintf("%s, device lost at submit %d of %d", name, n, total), func(t *testing.T) {
				if err := run(t, &engine.Faults{SubmitAt: n}); !errors.Is(err, vk.ErrDeviceLost) && n != total {
					t.Errorf("got %v", err)
				}
			})
		}
		for _, n := range sample(4, total-1, 0, 1) {
			t.Run(fmt.Sprintf("%s, submit %d of %d refused", name, n, total), func(t *testing.T) {
				// A copy ahead of need that fails at the end of a pass is nobody's any more.
				if err := run(t, &engine.Faults{RefuseAt: n}); err != nil && !errors.Is(err, vk.ErrOutOfHostMemory) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// flaky reads from another reader until a read fails.
type flaky struct {
	load.Reader
	reads  *atomic.Int64
	failAt int64
}

var errDisk = errors.New("the disk is broken")

func (f flaky) count(name string) error {
	if f.reads.Add(1) == f.failAt {
		return fmt.Errorf("%s: %w", name, errDisk)
	}
	return nil
}

func (f flaky) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if err := f.count(name); err != nil {
		return err
	}
	return f.Reader.Read(ctx, name, shape, to, dst)
}

func (f flaky) ReadRows(ctx context.Context, name string, shape []int, from, count int, to engine.DType, dst []byte) error {
	if err := f.count(name); err != nil {
		return err
	}
	return load.ReadRows(ctx, f.Reader, name, shape, from, count, to, dst)
}

func failReads(t *testing.T, d *engine.Device, c *Checkpoint) {
	for name, o := range walkOptions() {
		reads := &atomic.Int64{}
		read := func(t *testing.T, failAt int64) error {
			reads.Store(0)
			_, err := attempt(t, t.Context(), d, c, o, func(p *Pipeline) {
				for _, r := range []*load.Reader{&p.nets.ditReader, &p.nets.vaeReader, &p.nets.qwenReader, &p.nets.clipReader} {
					*r = flaky{*r, reads, failAt}
				}
			})
			checkEmpty(t, d)
			return err
		}
		if err := read(t, 0); err != nil {
			t.Fatal(err)
		}
		total := reads.Load()
		for _, n := range sample(5, total, 1, 8) {
			t.Run(fmt.Sprintf("%s, read %d of %d fails", name, n, total), func(t *testing.T) {
				// Mapped blocks are read ahead of need; such a read may fail when nobody asks for the block.
				if err := read(t, n); !errors.Is(err, errDisk) && (err != nil || o.HostTier != swap.Mapped) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

func cancelAtAnyMoment(t *testing.T, d *engine.Device, c *Checkpoint) {
	for name, o := range walkOptions() {
		start := time.Now()
		want, err := attempt(t, t.Context(), d, c, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		whole := time.Since(start)
		r := rand.New(rand.NewPCG(6, 6))
		for k := range 4 {
			after := time.Duration(r.Float64() * float64(whole))
			t.Run(fmt.Sprintf("%s, moment %d", name, k), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				got, err := attempt(t, ctx, d, c, o, nil)
				if err == nil && !bytes.Equal(got.Pix, want.Pix) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("after %v of %v: got another picture, or %v", after, whole, err)
				}
				checkEmpty(t, d)
			})
		}
	}
}

// shrinkFiles stands for disks that go away under the mapping.
func shrinkFiles(t *testing.T, d *engine.Device) {
	for _, part := range []weights.Component{weights.DiT, weights.VAE, weights.Qwen, weights.CLIP} {
		t.Run(string(part), func(t *testing.T) {
			c := smallCheckpoint(t)
			_, err := attempt(t, t.Context(), d, c, Options{BlocksInMemory: 2, HostTier: swap.Mapped}, func(p *Pipeline) {
				truncate(t, p.part(part).Files()[0].Path(), 4096)
			})
			if err == nil || !strings.Contains(err.Error(), ".safetensors") {
				t.Errorf("got %v, want an error that names the file", err)
			}
			checkEmpty(t, d)
		})
	}
}
