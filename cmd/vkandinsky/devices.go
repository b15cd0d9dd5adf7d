package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

func devicesCommand() *command {
	cmd := &command{
		name: "devices", summary: "list the Vulkan devices and what each offers",
		about: "Lists every Vulkan device with what matters here: memory, queues, number formats, matrix units, limits, and the\n" +
			"kernels it gets and why. No device is opened.",
		examples: []string{"vkandinsky devices", "vkandinsky devices --json"},
	}
	var asJSON bool
	cmd.flags.group("Output").BoolVar(&asJSON, "json", false, "print JSON")
	cmd.run = func(_ context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		list, release, err := engine.List()
		if err != nil {
			return err
		}
		defer release()
		reports := make([]deviceReport, len(list))
		for k, s := range list {
			reports[k] = reportDevice(s)
		}
		if asJSON {
			return c.printJSON(reports)
		}
		for k, r := range reports {
			if k > 0 {
				fmt.Fprintln(c.out)
			}
			if err := r.print(c.out); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// deviceReport is a device as the command prints it. Sizes are in bytes.
type deviceReport struct {
	Index      int    `json:"index"`
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Driver     string `json:"driver"`
	DriverInfo string `json:"driver_info"`
	API        string `json:"api"`
	Usable     bool   `json:"usable"`
	Problem    string `json:"problem,omitempty"`
	Tier       string `json:"kernels"`
	TierWhy    string `json:"kernels_why"`

	Heaps    []heapReport        `json:"heaps"`
	Memory   []memoryReport      `json:"memory"`
	Families []familyReport      `json:"queue_families"`
	Formats  map[string]bool     `json:"formats"`
	Limits   limitsReport        `json:"limits"`
	Matrices []vk.Matrix         `json:"matrices"`
	Flexible []vk.FlexibleMatrix `json:"flexible_matrices"`
}

type heapReport struct {
	Size        int64 `json:"size"`
	DeviceLocal bool  `json:"device_local"`
	Free        int64 `json:"free,omitempty"` // for this process, where the driver says it
	Known       bool  `json:"free_known"`
}

// memoryReport is a memory type that the program takes memory from, or could.
type memoryReport struct {
	Use  string `json:"use"`
	Type int    `json:"type"`
	Heap int    `json:"heap"`
	Text string `json:"properties"`
}

type familyReport struct {
	Index  int    `json:"index"`
	Count  int    `json:"count"`
	Offers string `json:"offers"`
	Use    string `json:"use,omitempty"`
}

type limitsReport struct {
	MaxAllocation   int64 `json:"max_allocation"`
	MaxBinding      int64 `json:"max_binding"`
	SharedMemory    int64 `json:"shared_memory"`
	Invocations     int   `json:"workgroup_invocations"`
	Subgroup        int   `json:"subgroup"`
	PushDescriptors int   `json:"push_descriptors"`
	ImportAlign     int64 `json:"host_import_alignment"`
}

func reportDevice(s engine.DeviceSummary) deviceReport {
	p := s.Physical
	r := deviceReport{
		Index: s.Index, Name: p.Info.Name, Kind: p.Info.Kind, Driver: p.Info.Driver, DriverInfo: p.Info.DriverInfo, API: p.Info.API,
		Usable: s.Problem == "", Problem: s.Problem, Tier: s.Tier.String(), TierWhy: s.TierWhy,
		Heaps: reportHeaps(p), Memory: reportMemory(p),
		Formats: map[string]bool{
			"fp16": p.Features.Float16, "int8": p.Features.Int8, "bf16": p.Features.BFloat16,
			"storage16": p.Features.Storage16, "storage8": p.Features.Storage8,
		},
		Limits: limitsReport{
			MaxAllocation: p.Limits.MaxAllocation, MaxBinding: p.Limits.MaxStorageRange, SharedMemory: p.Limits.MaxSharedMemory,
			Invocations: p.Limits.MaxInvocations, Subgroup: p.Limits.SubgroupSize, PushDescriptors: p.Limits.MaxPushDescriptors,
			ImportAlign: p.Limits.ImportAlign,
		},
		Matrices: append([]vk.Matrix{}, p.Matrices...), Flexible: append([]vk.FlexibleMatrix{}, p.Flexible...),
	}
	if s.Problem != "" {
		r.Tier, r.TierWhy = "none", s.Problem
	}
	for _, f := range p.Families {
		r.Families = append(r.Families, familyReport{Index: f.Index, Count: f.Count, Offers: familyOffers(f), Use: familyUse(s, f)})
	}
	return r
}

func reportHeaps(p *vk.PhysicalDevice) []heapReport {
	budget, usage, known := p.Budget()
	out := make([]heapReport, len(p.Heaps))
	for k, h := range p.Heaps {
		out[k] = heapReport{Size: h.Size, DeviceLocal: h.DeviceLocal}
		if known && budget[k] > 0 {
			out[k].Free, out[k].Known = max(0, budget[k]-usage[k]), true
		}
	}
	return out
}

// reportMemory lists the types the program uses, and the largest device-local one that the host sees (ReBAR).
func reportMemory(p *vk.PhysicalDevice) []memoryReport {
	out := []memoryReport{}
	for _, kind := range []memory.Kind{memory.Device, memory.Upload, memory.Readback} {
		if t, err := memory.ChooseType(p.Types, kind); err == nil {
			out = append(out, typeReport(p, t, kind.String()))
		}
	}
	rebar := -1
	for k, t := range p.Types {
		if t.DeviceLocal && t.HostVisible && (rebar < 0 || p.Heaps[t.Heap].Size > p.Heaps[p.Types[rebar].Heap].Size) {
			rebar = k
		}
	}
	if rebar >= 0 {
		out = append(out, typeReport(p, rebar, "device memory the host sees"))
	}
	return out
}

func typeReport(p *vk.PhysicalDevice, k int, use string) memoryReport {
	t := p.Types[k]
	var words []string
	for _, w := range []struct {
		is   bool
		name string
	}{{t.DeviceLocal, "device-local"}, {t.HostVisible, "host-visible"}, {t.Coherent, "coherent"}, {t.Cached, "cached"}} {
		if w.is {
			words = append(words, w.name)
		}
	}
	return memoryReport{Use: use, Type: k, Heap: t.Heap, Text: strings.Join(words, ", ")}
}

func familyOffers(f vk.QueueFamily) string {
	var words []string
	for _, w := range []struct {
		is   bool
		name string
	}{{f.Graphics, "graphics"}, {f.Compute, "compute"}, {f.Transfer, "transfer"}, {f.VideoOnly, "video"}} {
		if w.is {
			words = append(words, w.name)
		}
	}
	if f.TimestampBits == 0 {
		words = append(words, "no timestamps")
	}
	return strings.Join(words, ", ")
}

// familyUse says what the program submits to a family; "" for nothing.
func familyUse(s engine.DeviceSummary, f vk.QueueFamily) string {
	if s.Problem != "" {
		return ""
	}
	use := s.Queues()
	var words []string
	if use.ComputeFamily == f.Index {
		words = append(words, fmt.Sprintf("kernels (queue %d)", use.ComputeQueue))
	}
	if use.TransferFamily == f.Index {
		what := fmt.Sprintf("block copies (queue %d)", use.TransferQueue)
		if use.Shared {
			what = "block copies on the same queue, which take turns with kernels"
		}
		words = append(words, what)
	}
	return strings.Join(words, ", ")
}

func (r deviceReport) print(w io.Writer) error {
	fmt.Fprintf(w, "device %d: %s (%s)\n", r.Index, r.Name, r.Kind)
	rows := []string{
		fmt.Sprintf("  driver\t%s %s, Vulkan %s", r.Driver, r.DriverInfo, r.API),
		fmt.Sprintf("  kernels\t%s: %s", r.Tier, r.TierWhy),
	}
	for k, h := range r.Heaps {
		where := "host"
		if h.DeviceLocal {
			where = "device-local"
		}
		free := "free: the driver does not say"
		if h.Known {
			free = memory.Size(h.Free) + " free"
		}
		rows = append(rows, fmt.Sprintf("  heap %d\t%s, %s, %s", k, memory.Size(h.Size), where, free))
	}
	for _, m := range r.Memory {
		rows = append(rows, fmt.Sprintf("  %s\ttype %d of heap %d: %s", m.Use, m.Type, m.Heap, m.Text))
	}
	for _, f := range r.Families {
		row := fmt.Sprintf("  queue family %d\t%d × %s", f.Index, f.Count, f.Offers)
		if f.Use != "" {
			row += ": " + f.Use
		}
		rows = append(rows, row)
	}
	var formats []string
	for _, name := range []string{"fp16", "bf16", "int8"} {
		formats = append(formats, fmt.Sprintf("%s %s", name, yesNo(r.Formats[name])))
	}
	l := r.Limits
	rows = append(rows,
		"  arithmetic\t"+strings.Join(formats, ", "),
		"  matrix units\t"+matrixText(r.Matrices, r.Flexible),
		fmt.Sprintf("  limits\tallocation %s, binding %s, shared memory %s, workgroup %d, subgroup %d",
			memory.Size(l.MaxAllocation), memory.Size(l.MaxBinding), memory.Size(l.SharedMemory), l.Invocations, l.Subgroup),
	)
	return table(w, rows)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// matrixText lists shapes by types, each list once.
func matrixText(matrices []vk.Matrix, flexible []vk.FlexibleMatrix) string {
	var types []string
	shapes := map[string][]string{}
	add := func(key, shape string) {
		if len(shapes[key]) == 0 {
			types = append(types, key)
		}
		for _, s := range shapes[key] {
			if s == shape {
				return
			}
		}
		shapes[key] = append(shapes[key], shape)
	}
	for _, m := range matrices {
		add(fmt.Sprintf("%s·%s→%s", m.A, m.B, m.R), fmt.Sprintf("%d×%d×%d", m.M, m.N, m.K))
	}
	for _, m := range flexible {
		add(fmt.Sprintf("%s·%s→%s", m.A, m.B, m.R), fmt.Sprintf("multiples of %d×%d×%d (%s)", m.M, m.N, m.K, m.Scope))
	}
	if len(types) == 0 {
		return "none"
	}
	var parts []string
	for _, t := range types {
		parts = append(parts, t+" "+strings.Join(shapes[t], ", "))
	}
	return strings.Join(parts, "; ")
}
