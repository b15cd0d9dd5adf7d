package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Device is an opened GPU.
type Device struct {
	Summary DeviceSummary
	Mem     *memory.Allocator

	caps      Caps
	opts      Options
	log       *slog.Logger
	instance  *vk.Instance
	vk        *vk.Device
	buffers   *buffers
	pipelines *pipelines
	tuning    *Tuning
	watch     watch
	compute   *Stream
	transfer  *Stream
	copyQueue *queue     // of transfer and of further copy streams
	shared    bool       // compute and transfer are the same queue
	dummy     Tensor     // bound where an optional input is left out
	note      func(Call) // not nil: a rehearsal, see Rehearse

	mu          sync.Mutex // guards what follows
	condemned   []condemned
	copyStreams []*Stream // all that NewCopyStream made
	idleStreams []*Stream // of these, closed ones that can be used again
}

// condemned memory is freed when both streams have passed what was recorded before.
type condemned struct {
	region            memory.Region
	compute, transfer uint64
}

// List returns all devices of the machine. It opens none.
func List() ([]DeviceSummary, func(), error) {
	instance, err := vk.NewInstance(vk.InstanceOptions{})
	if err != nil {
		return nil, nil, err
	}
	list, err := summaries(instance, TierAuto)
	if err != nil {
		instance.Destroy()
		return nil, nil, err
	}
	return list, instance.Destroy, nil
}

func summaries(instance *vk.Instance, forced Tier) ([]DeviceSummary, error) {
	devices, err := instance.PhysicalDevices()
	if err != nil {
		return nil, err
	}
	list := make([]DeviceSummary, len(devices))
	for k, p := range devices {
		list[k] = DeviceSummary{Index: k, Physical: p}
		list[k].Tier, list[k].TierWhy, err = ChooseTier(p, forced)
		if err != nil {
			list[k].Problem = err.Error()
		}
		if !p.Features.Timeline {
			list[k].Problem = "the driver has no timeline semaphores (vulkan 1.2 is needed)"
		}
	}
	return list, nil
}

// Open opens a device. Errors say which device was meant and what it lacks; they wrap vk.ErrNoVulkan when there is no
// driver.
func Open(ctx context.Context, opts Options) (*Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	instance, err := vk.NewInstance(vk.InstanceOptions{Validate: opts.Validate})
	if err != nil {
		return nil, err
	}
	d := &Device{instance: instance, opts: opts, log: opts.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.open(ctx); err != nil {
		return nil, oneline.Join(err, d.Close())
	}
	return d, nil
}

func (d *Device) open(ctx context.Context) error {
	list, err := summaries(d.instance, d.opts.Tier)
	if err != nil {
		return err
	}
	if d.Summary, err = choose(list, d.opts.Device); err != nil {
		return err
	}
	p := d.Summary.Physical
	layout := chooseQueues(p.Families, d.opts.Limits)
	d.vk, err = p.NewDevice(vk.DeviceOptions{Queues: layout.requests(), NoPushDescriptors: d.opts.Limits.DescriptorSets || p.Limits.MaxPushDescriptors < vk.MaxBindings, Faults: d.opts.Faults})
	if err != nil {
		return err
	}
	d.caps = d.makeCaps()
	if d.buffers, err = newBuffers(d); err != nil {
		return err
	}
	if d.Mem, err = memory.New(d.buffers, p.Types, d.memoryOptions()); err != nil {
		return err
	}
	d.startWatch()
	if d.pipelines, err = newPipelines(d); err != nil {
		return err
	}
	d.tuning = loadTuning(d.opts.CacheDir, p.Info)
	d.shared = layout.compute == layout.transfer
	computeQueue := &queue{vk: d.vk.Queue(layout.compute.family, layout.compute.index)}
	transferQueue := computeQueue
	if !d.shared {
		transferQueue = &queue{vk: d.vk.Queue(layout.transfer.family, layout.transfer.index)}
	}
	if d.compute, err = newStream(d, "compute", computeQueue, p.Families[layout.compute.family]); err != nil {
		return err
	}
	d.compute.omitBarrier, d.compute.omitWait = d.opts.Limits.OmitBarrier, d.opts.Limits.OmitWait
	d.copyQueue = transferQueue
	if d.transfer, err = newStream(d, "transfer", transferQueue, p.Families[layout.transfer.family]); err != nil {
		return err
	}
	d.transfer.omitWait = d.opts.Limits.OmitCopyWait
	if d.dummy, err = d.Alloc(dummyLabel, U32, 64); err != nil {
		return err
	}
	if d.caps.Fragments, err = d.probeFragments(ctx); err != nil {
		return fmt.Errorf("trying the device's matrices: %w", err)
	}
	if d.caps.ByteFragments, err = d.probeByteFragments(ctx); err != nil {
		return fmt.Errorf("trying the device's matrices of bytes: %w", err)
	}
	d.log.Debug("opened device", "name", p.Info.Name, "tier", d.caps.Tier, "compute", layout.compute, "transfer", layout.transfer, "fragments", d.caps.Fragments, "byte fragments", d.caps.ByteFragments.Kind)
	return nil
}

// dummyLabel names what is bound where an optional input is left out.
const dummyLabel = "unused binding"

// ErrNoDevice is what Open's error wraps when the machine has no device of the number or name asked for.
var ErrNoDevice = errors.New("no device")

// choose finds the device that the user means.
func choose(list []DeviceSummary, want string) (DeviceSummary, error) {
	if n, err := strconv.Atoi(want); err == nil {
		if n < 0 || n >= len(list) {
			return DeviceSummary{}, fmt.Errorf("%w %d: there are %d (vkandinsky devices lists them)", ErrNoDevice, n, len(list))
		}
		return usable(list[n])
	}
	best, bestScore := -1, -1
	scores := map[string]int{"discrete gpu": 4, "virtual gpu": 3, "integrated gpu": 2, "other": 1, "cpu": 0}
	for k, s := range list {
		if want != "" && !strings.Contains(strings.ToLower(s.Physical.Info.Name), strings.ToLower(want)) {
			continue
		}
		if score := scores[s.Physical.Info.Kind]; score > bestScore && (s.Problem == "" || want != "") {
			best, bestScore = k, score
		}
	}
	if best < 0 {
		if want != "" {
			return DeviceSummary{}, fmt.Errorf("%w called %q (vkandinsky devices lists them)", ErrNoDevice, want)
		}
		return usable(list[0])
	}
	return usable(list[best])
}

func usable(s DeviceSummary) (DeviceSummary, error) {
	if s.Problem != "" {
		return s, fmt.Errorf("device %d (%s): %s", s.Index, s.Physical.Info.Name, s.Problem)
	}
	return s, nil
}

func (d *Device) makeCaps() Caps {
	l, t := d.Summary.Physical.Limits, d.opts.Limits
	c := Caps{
		Tier: d.Summary.Tier, MaxStorageRange: l.MaxStorageRange &^ 255, StorageAlign: l.StorageAlign, MaxAllocation: l.MaxAllocation,
		MaxSharedBytes: l.MaxSharedMemory, MaxInvocations: l.MaxInvocations, MaxGroups: l.MaxGroups, SubgroupSize: l.SubgroupSize,
		HasFloat16: d.Summary.Physical.Features.Float16, MaxDispatchCost: MaxDispatchCost,
	}
	if c.Tier >= TierMatrix {
		c.Matrix, _ = chooseMatrices(d.Summary.Physical)
	}
	if c.Tier >= TierMatrix2 {
		c.Matrix2, _ = chooseMatrices2(d.Summary.Physical)
	}
	if t.NoBFloat16 {
		c.Matrix.BF16, c.Matrix2.BF16 = MatrixShape{}, nil
	}
	if t.MaxAllocation > 0 {
		c.MaxAllocation = min(c.MaxAllocation, t.MaxAllocation)
	}
	if t.MaxStorageRange > 0 {
		c.MaxStorageRange = min(c.MaxStorageRange, t.MaxStorageRange)
	}
	if c.Tier >= TierMatrix {
		c.MaxDispatchCost = MaxMatrixDispatchCost
	}
	if t.MaxDispatchCost > 0 {
		c.MaxDispatchCost = t.MaxDispatchCost
	}
	c.MaxDispatchCost /= float64(max(1, d.opts.Shorter))
	return c
}

// memoryOptions fixes how memory is cut and its budgets.
func (d *Device) memoryOptions() memory.Options {
	device, host := d.heaps().budgets(d.opts.DeviceBudget, d.opts.HostBudget)
	return memory.Options{DeviceBudget: device, HostBudget: host, MaxAllocation: d.caps.MaxAllocation, ChunkSize: d.opts.Limits.Chunk, Align: max(d.caps.StorageAlign, 256)}
}

// Caps returns the limits that kernels obey.
func (d *Device) Caps() Caps { return d.caps }

// Compute returns the stream for kernels, Transfer the one for copies in the background. Where the device has only one
// queue both submit to it, see SharedQueue.
func (d *Device) Compute() *Stream { return d.compute }

// Transfer returns the stream of the transfer queue.
func (d *Device) Transfer() *Stream { return d.transfer }

// NewCopyStream returns a stream on the transfer queue, with a timeline that nobody else moves. Its owner closes it, before
// the device; memory that it uses must be freed after that.
func (d *Device) NewCopyStream(name string) (*Stream, error) {
	if d.Rehearsing() {
		return d.noting(name), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.idleStreams); n > 0 {
		s := d.idleStreams[n-1]
		d.idleStreams = d.idleStreams[:n-1]
		s.Name = name
		return s, nil
	}
	s, err := newStream(d, name, d.copyQueue, d.Summary.Physical.Families[d.copyQueue.vk.Family])
	if err != nil {
		s.destroy()
		return nil, err
	}
	s.omitWait = d.opts.Limits.OmitCopyWait
	d.copyStreams = append(d.copyStreams, s)
	return s, nil
}

// closeCopyStream keeps a stream for the next owner. It is not destroyed before the device: Mesa 22.3 touches a timeline
// that work has waited for once more after that work has signalled its end (vk_queue_submit_cleanup).
func (d *Device) closeCopyStream(s *Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.err == nil {
		d.idleStreams = append(d.idleStreams, s)
	}
}

// SharedQueue says whether compute and transfer are one queue, so that work must be submitted in an order in which it
// can run: nothing may wait for what is submitted later.
func (d *Device) SharedQueue() bool { return d.shared && !d.opts.Limits.Unshared }

// Validation returns the version of the validation layer in use ("" for none) and its messages from the n-th on.
func (d *Device) Validation(n int) (version string, messages []vk.Message) {
	return d.instance.LayerVersion(), d.instance.Messages(n)
}

// Alloc takes device memory for a tensor; Free gives it back. When the budget is exhausted but memory waits for the
// GPU to finish with it, Alloc waits too. Errors are a *memory.BudgetError or the driver's.
func (d *Device) Alloc(label string, dt DType, shape ...int) (Tensor, error) {
	t := Tensor{DType: dt, Shape: shape}
	region, err := d.AllocRegion(memory.Device, max(t.Bytes(), 4), label)
	t.Mem = region
	return t, err
}

// AllocRegion takes memory of any kind. Free it with FreeRegion.
func (d *Device) AllocRegion(kind memory.Kind, size int64, label string) (memory.Region, error) {
	d.reap()
	region, err := d.Mem.Alloc(kind, size, label)
	if err != nil && d.drainCondemned() {
		region, err = d.Mem.Alloc(kind, size, label)
	}
	if err == nil && kind == memory.Device && d.opts.Limits.Poison && d.compute != nil && d.transfer != nil {
		d.compute.Fill(Tensor{Mem: region, DType: U8, Shape: []int{int(region.Size)}}, 0xffffffff)
		if err := d.compute.Finish(context.Background()); err != nil {
			d.FreeRegion(region)
			return memory.Region{}, err
		}
	}
	return region, err
}

// Free gives a tensor's memory back once the GPU has passed the work recorded so far.
func (d *Device) Free(t Tensor) { d.FreeRegion(t.Mem) }

// FreeRegion gives memory back once the GPU has passed the work recorded so far.
func (d *Device) FreeRegion(r memory.Region) {
	if r.IsZero() {
		return
	}
	c := condemned{region: r, compute: d.compute.pendingValue(), transfer: d.transfer.pendingValue()}
	d.mu.Lock()
	d.condemned = append(d.condemned, c)
	d.mu.Unlock()
	d.reap()
}

// reap frees condemned memory that the GPU has passed.
func (d *Device) reap() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.condemned) == 0 {
		return
	}
	computeDone, transferDone := d.compute.reached(), d.transfer.reached()
	kept := d.condemned[:0]
	for _, c := range d.condemned {
		if c.compute <= computeDone && c.transfer <= transferDone {
			d.Mem.Free(c.region)
		} else {
			kept = append(kept, c)
		}
	}
	d.condemned = kept
}

// drainCondemned waits until condemned memory is free; false when there is none or the wait fails.
func (d *Device) drainCondemned() bool {
	d.mu.Lock()
	n := len(d.condemned)
	d.mu.Unlock()
	if n == 0 {
		return false
	}
	ok := d.compute.Finish(context.Background()) == nil && d.transfer.waitSubmitted() == nil
	d.reap()
	return ok
}

// Close waits for the GPU, frees everything and reports what was leaked.
func (d *Device) Close() error {
	var errs []error
	if d.vk != nil {
		if err := d.vk.WaitIdle(); err != nil && !errors.Is(err, vk.ErrDeviceLost) {
			errs = append(errs, err)
		}
		for _, s := range append([]*Stream{d.compute, d.transfer}, d.copyStreams...) {
			if s != nil {
				s.destroy()
			}
		}
		if d.pipelines != nil {
			errs = append(errs, d.pipelines.close())
		}
		if d.Mem != nil {
			d.mu.Lock()
			for _, c := range d.condemned {
				d.Mem.Free(c.region)
			}
			d.condemned = nil
			d.mu.Unlock()
			d.Mem.Free(d.dummy.Mem)
			errs = append(errs, d.Mem.Close())
		}
		errs = append(errs, d.vk.Destroy())
		d.vk = nil
	}
	if d.instance != nil {
		d.instance.Destroy()
		d.instance = nil
	}
	runtime.KeepAlive(d)
	return oneline.Join(errs...)
}

// Settle waits for the GPU and gives back all memory that waited for it, so that the budget shows what is really free.
func (d *Device) Settle() error {
	err := d.compute.Finish(context.Background())
	if err == nil {
		err = d.transfer.waitSubmitted()
	}
	d.reap()
	return err
}
