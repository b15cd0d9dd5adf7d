package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/hostmem"
	"github.com/vkandinsky/vkandinsky/memory"
)

// examineDevice tells what the driver says about a device, and tries what it says about its memory.
func examineDevice(ctx context.Context, o Options, f *Findings) {
	summary, release, err := engine.FindDevice(o.Engine)
	switch {
	case errors.Is(err, engine.ErrNoDevice):
		f.BadDevice = err.Error()
		return
	case err != nil:
		r := Result{Title: "driver", Status: Failed, Summary: err.Error()}
		if errors.Is(err, vk.ErrNoVulkan) {
			r.advise("Install the GPU's driver, or Mesa's (mesa-vulkan-drivers), and the Vulkan loader (libvulkan1). VK_DRIVER_FILES and VK_ICD_FILENAMES must not point nowhere.")
		}
		f.Results = append(f.Results, r)
		return
	}
	defer release()
	info := summary.Physical.Info
	f.Header = &Report{Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, API: info.API, Kind: info.Kind, Tier: summary.Tier.String()}
	for _, t := range summary.Tiers() {
		f.Tiers = append(f.Tiers, t.String())
	}
	f.Results = append(f.Results, driver(summary), queues(summary), o.memory(ctx, f, summary), o.barMemory(ctx, f, summary))
}

func driver(s engine.DeviceSummary) Result {
	p := s.Physical
	r := Result{Title: "driver", Status: OK, Summary: fmt.Sprintf("%s %s, Vulkan %s, kernels %s", p.Info.Driver, p.Info.DriverInfo, p.Info.API, s.Tier)}
	r.fact("device", "%s (%s), vendor %04x, device %04x", p.Info.Name, p.Info.Kind, p.Info.VendorID, p.Info.DeviceID)
	var tiers []string
	for _, t := range s.Tiers() {
		tiers = append(tiers, t.String())
	}
	r.fact("kernel tiers", "%s", strings.Join(tiers, ", "))
	r.fact("chosen because", "%s", s.TierWhy)
	var have, lack []string
	for _, c := range []struct {
		is   bool
		name string
	}{
		{p.Features.Float16, "fp16"}, {p.Features.BFloat16, "bf16"}, {p.Features.Int8, "int8"},
		{p.Features.CooperativeMatrix, "cooperative matrices"}, {p.Features.Matrix2.Flexible, "cooperative matrices 2"},
		{p.Limits.MaxPushDescriptors > 0, "push descriptors"}, {p.Limits.ImportAlign > 0, "imported host memory"},
	} {
		if c.is {
			have = append(have, c.name)
		} else {
			lack = append(lack, c.name)
		}
	}
	r.fact("offers", "%s", listed(have))
	r.fact("lacks", "%s", listed(lack))
	r.fact("limits", "allocation %s, binding %s, shared memory %s, workgroup %d, subgroup %d", memory.Size(p.Limits.MaxAllocation), memory.Size(p.Limits.MaxStorageRange),
		memory.Size(p.Limits.MaxSharedMemory), p.Limits.MaxInvocations, p.Limits.SubgroupSize)
	if s.Problem != "" {
		r.Status, r.Summary = Failed, s.Problem
	} else if p.Info.Kind == "cpu" {
		r.Status = Warning
		r.Summary += ": a driver for the CPU, no GPU was found"
		r.advise("If there is a GPU in this machine, its Vulkan driver is not installed or not visible (in a container, its files must be inside).")
	}
	return r
}

// listed joins words; "none" for none.
func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func queues(s engine.DeviceSummary) Result {
	use := s.Queues()
	r := Result{Title: "queue layout", Status: OK}
	name := func(family, queue int) string { return fmt.Sprintf("family %d queue %d", family, queue) }
	compute, transfer := name(use.ComputeFamily, use.ComputeQueue), name(use.TransferFamily, use.TransferQueue)
	families := s.Physical.Families
	switch {
	case use.Shared:
		r.Status = Warning
		r.Summary = fmt.Sprintf("one queue (%s): copies and kernels take turns", compute)
		r.advise("Block swapping costs the time of its copies on this device: keep as many blocks on it as fit (--blocks-in-memory).")
	case use.ComputeFamily == use.TransferFamily:
		r.Summary = fmt.Sprintf("kernels on %s, copies on a second queue of it, %s", compute, transfer)
	default:
		r.Summary = fmt.Sprintf("kernels on %s, copies on %s, which does nothing else", compute, transfer)
	}
	if families[use.ComputeFamily].TimestampBits == 0 {
		r.Status = Warning
		r.advise("The compute queue has no timestamps: times here are the host's and bench prints no kernel times.")
	}
	for _, q := range families {
		var words []string
		for _, w := range []struct {
			is   bool
			name string
		}{{q.Graphics, "graphics"}, {q.Compute, "compute"}, {q.Transfer, "transfer"}, {q.Sparse, "sparse"}, {q.VideoOnly, "video"}} {
			if w.is {
				words = append(words, w.name)
			}
		}
		r.fact(fmt.Sprintf("family %d", q.Index), "%d × %s, %d bits of timestamps", q.Count, listed(words), q.TimestampBits)
	}
	return r
}

// memory reports heaps and what is free, and tries one allocation as large as the driver allows, or half of what is free.
func (o Options) memory(ctx context.Context, f *Findings, s engine.DeviceSummary) Result {
	p := s.Physical
	size, free, known := s.DeviceHeap()
	r := Result{Title: "heaps and budgets", Status: OK, Summary: fmt.Sprintf("%s of device memory, %s free", memory.Size(size), memory.Size(free))}
	if !known {
		r.Summary = fmt.Sprintf("%s of device memory; the driver does not say how much is free, 80 %% are taken for that", memory.Size(size))
		r.Status = Warning
		r.advise("Without VK_EXT_memory_budget other programs' memory is not seen: set --vram-budget where they use the GPU too.")
	}
	budget, usage, told := p.Budget()
	for k, h := range p.Heaps {
		where := "host"
		if h.DeviceLocal {
			where = "device-local"
		}
		text := fmt.Sprintf("%s, %s", memory.Size(h.Size), where)
		if told && budget[k] > 0 {
			text += fmt.Sprintf(", budget %s, %s in use by this process", memory.Size(budget[k]), memory.Size(usage[k]))
		}
		r.fact(fmt.Sprintf("heap %d", k), "%s", text)
	}
	if n, ok := hostmem.Available(); ok {
		r.fact("host memory", "%s available", memory.Size(n))
	}
	if s.Problem != "" {
		return r
	}
	if known && size > 0 && free < size/4 {
		r.Status = worse(r.Status, Warning)
		r.advise("Most of the device's memory is taken: other programs use it.")
	}
	o.onDevice(ctx, f, &r, nil, func(d *engine.Device) error {
		want := min(p.Limits.MaxAllocation, free/2) &^ 0xffff
		if host, ok := hostmem.Available(); ok && p.Info.Kind == "cpu" {
			want = min(want, host/4)
		}
		err := d.TryMemory(d.Mem.Type(memory.Device), want)
		if err != nil {
			r.fact("trial", "one allocation of %s fails", memory.Size(want))
			return fmt.Errorf("%s are free and one allocation of %s fails: %w", memory.Size(free), memory.Size(want), err)
		}
		r.fact("trial", "one allocation of %s works", memory.Size(want))
		return nil
	})
	return r
}

// smallWindow is the size up to which a window into device memory is the old fixed one of PCI: 256 MiB, of which drivers
// keep some.
const smallWindow = 256 << 20

// barMemory tells how much of the device's memory the host can write directly, from the memory types and by trying.
func (o Options) barMemory(ctx context.Context, f *Findings, s engine.DeviceSummary) Result {
	p := s.Physical
	r := Result{Title: "resizable BAR"}
	vram, _, _ := s.DeviceHeap()
	window, at := int64(0), -1
	for k, t := range p.Types {
		if t.DeviceLocal && t.HostVisible && p.Heaps[t.Heap].Size > window {
			window, at = p.Heaps[t.Heap].Size, k
		}
	}
	r.Status = OK
	switch kind := p.Info.Kind; {
	case at < 0:
		r.Status, r.Summary = NotAvailable, "the driver offers no device memory that the host sees"
		return r
	case kind == "integrated gpu" || kind == "cpu":
		r.Summary = "the device works in the host's memory: all of it is seen by both"
	case window <= smallWindow:
		r.Summary = fmt.Sprintf("off: the host sees %s of %s", memory.Size(window), memory.Size(vram))
		r.advise("This program does not need it, as weights cross the bus by copies; other programs gain from \"Resizable BAR\" or \"Above 4G decoding\" in the firmware's setup.")
	default:
		r.Summary = fmt.Sprintf("on: the host sees %s of %s", memory.Size(window), memory.Size(vram))
	}
	if s.Problem != "" {
		return r
	}
	o.onDevice(ctx, f, &r, nil, func(d *engine.Device) error {
		works, fails := tryGrowing(d, at, min(window/4, p.Limits.MaxAllocation, 1<<30))
		r.fact("memory type", "%d of heap %d", at, p.Types[at].Heap)
		if fails == 0 {
			r.fact("trial", "one allocation of %s works", memory.Size(works))
			return nil
		}
		r.fact("trial", "one allocation of %s works, one of %s fails", memory.Size(works), memory.Size(fails))
		r.Status = worse(r.Status, Warning)
		r.Summary += fmt.Sprintf(", but an allocation of %s fails", memory.Size(fails))
		r.advise("The driver lists this memory and gives little of it. This program takes none of it; one that does must be ready for that.")
		return nil
	})
	return r
}

// tryGrowing tries allocations of a memory type from 1 MiB on, each twice the last, and returns the largest that works and
// the first that fails, 0 for none.
func tryGrowing(d *engine.Device, memoryType int, limit int64) (works, fails int64) {
	for size := int64(1 << 20); size <= limit; size *= 2 {
		if err := d.TryMemory(memoryType, size); err != nil {
			return works, size
		}
		works = size
	}
	return works, 0
}
