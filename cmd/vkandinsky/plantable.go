package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/internal/memorymap"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// planned is a plan with what it was made for, as plan prints it.
type planned struct {
	*kandinsky5.MemoryPlan
	Limits     kandinsky5.PlanLimits `json:"limits"`
	Prediction kandinsky5.Prediction `json:"prediction"`
	Assumed    []string              `json:"assumed,omitempty"` // rates of the prediction that nobody gave or measured
}

// predict takes rates that were given before those that were measured, and assumes the rest.
func (p *planned) predict(given, measured kandinsky5.Rates) {
	r := given.Else(measured)
	if r.Compute == 0 {
		r.Compute = assumedTFLOPS * 1e12
		p.Assumed = append(p.Assumed, units.Rate(r.Compute, "FLOP/s"))
	}
	if r.Bus == 0 {
		r.Bus = assumedBus
		p.Assumed = append(p.Assumed, units.Rate(r.Bus, "B/s"))
	}
	p.Prediction = p.Predict(r)
}

// print writes the stages, their items, what the host gives, and time.
func (p *planned) print(w io.Writer, config *configs.Config) error {
	g := p.Settings.Geometry
	fmt.Fprintf(w, "%s: %d frames of %d×%d, %d tokens, %d steps\n", config.Name, g.Frames, p.Settings.Size.Width, p.Settings.Size.Height, g.Tokens, p.Settings.Steps)
	fmt.Fprintf(w, "%s; a block takes %s%s\n\n", choiceText(p.MemoryPlan), atMost(p.MemoryPlan), memory.Size(p.BlockBytes))
	if err := table(w, stageRows(p.MemoryPlan)); err != nil {
		return err
	}
	for _, s := range p.Stages {
		fmt.Fprintf(w, "\n%s\n", s.Stage)
		var rows []string
		for _, i := range s.Items {
			rows = append(rows, fmt.Sprintf("  %s\t%s\t%s\t%s", i.Where, i.Label, i.When, memory.Size(i.Bytes)))
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	if err := table(w, p.hostRows()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\npeak: device %s of %s, pinned host %s of %s: %s\n", memory.Size(p.Device), limitText(p.Limits.Device), memory.Size(p.Pinned), limitText(p.Limits.Host), fitText(p.Fits))
	return err
}

// stageRows are the stages with their peaks.
func stageRows(p *kandinsky5.MemoryPlan) []string {
	rows := []string{"stage\tdevice memory\tpinned host memory\tlargest on the device"}
	for _, s := range p.Stages {
		var largest kandinsky5.PlanItem
		for _, i := range s.Items {
			if i.Where == kandinsky5.OnDevice && i.Bytes > largest.Bytes {
				largest = i
			}
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s, %s", s.Stage, memory.Size(s.Device), memory.Size(s.Pinned), largest.Label, memory.Size(largest.Bytes)))
	}
	return rows
}

// measuredRows are the stages of a run with what was planned (if it was) and measured.
func measuredRows(s kandinsky5.Stats, plan *kandinsky5.MemoryPlan) []string {
	rows := []string{"stage\ttime\tdevice memory, planned\tmeasured\tpinned host memory, planned\tmeasured"}
	planned := func(of func(kandinsky5.StagePlan) int64, stage kandinsky5.Stage) string {
		if plan == nil || plan.Stage(stage) == nil {
			return "-"
		}
		return memory.Size(of(*plan.Stage(stage)))
	}
	device := func(s kandinsky5.StagePlan) int64 { return s.Device }
	pinned := func(s kandinsky5.StagePlan) int64 { return s.Pinned }
	for _, stage := range s.Stages {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", stage.Stage, seconds(stage.Took),
			planned(device, stage.Stage), memory.Size(stage.PeakDevice), planned(pinned, stage.Stage), memory.Size(stage.PeakPinned)))
	}
	peak := "peak\t\t-\t%s\t-\t%s"
	if plan != nil {
		peak = "peak\t\t" + memory.Size(plan.Device) + "\t%s\t" + memory.Size(plan.Pinned) + "\t%s"
	}
	return append(rows, fmt.Sprintf(peak, memory.Size(s.PeakDevice), memory.Size(s.PeakPinned)))
}

// hostRows are RAM, disk, bus and time.
func (p *planned) hostRows() []string {
	h, q := p.Host, p.Prediction
	quantized := ""
	if h.Quantized > 0 {
		quantized = fmt.Sprintf(", before that the text encoder in 4 bits %s", memory.Size(h.Quantized))
	}
	rows := []string{
		fmt.Sprintf("RAM\t%s: pinned %s, the clip %s, text conditions %s%s; the page cache not counted", memory.Size(h.RAM), memory.Size(p.Pinned), memory.Size(h.Clip), memory.Size(h.Conditions), quantized),
		fmt.Sprintf("disk\t%s are read of the checkpoint", memory.Size(h.Checkpoint)),
		fmt.Sprintf("bus\t%s%s a step, %d of %d blocks", atMost(p.MemoryPlan), memory.Size(p.BytesLoaded), len(p.Swap.Streamed), p.Swap.Blocks),
		fmt.Sprintf("time\t%s a step, %s of it waiting for blocks; denoising takes %s (%s) at %s and %s over the bus", units.Seconds(q.Step),
			units.Percent(q.Waiting.Seconds()/max(q.Step.Seconds(), 1e-12)), minutes(q.Denoise), stepsText(p.MemoryPlan), units.Rate(q.Rates.Compute, "FLOP/s"), units.Rate(q.Rates.Bus, "B/s")),
	}
	if h.DiskPerStep > 0 {
		rows[1] += fmt.Sprintf(", and %s again in every step, from the page cache where that holds them", memory.Size(h.DiskPerStep))
	}
	if len(p.Assumed) > 0 {
		rows = append(rows, fmt.Sprintf("\t(%s assumed: say --tflops and --bus-rate)", strings.Join(p.Assumed, " and ")))
	}
	return rows
}

// sizedMap is a map with its unit.
type sizedMap struct{ memorymap.Map }

func (m sizedMap) writeTo(w io.Writer) error { return m.WriteSVG(w, memory.Size) }

// memoryMap draws both kinds of memory, a column per stage.
func (p *planned) memoryMap(config *configs.Config) sizedMap {
	g := p.Settings.Geometry
	m := memorymap.Map{
		Title: fmt.Sprintf("%s: %d frames of %d×%d", config.Name, g.Frames, p.Settings.Size.Width, p.Settings.Size.Height),
		Notes: []string{choiceText(p.MemoryPlan)},
	}
	device := memorymap.Panel{Name: "device memory", Limit: p.Limits.Device}
	pinned := memorymap.Panel{Name: "pinned host memory", Limit: p.Limits.Host}
	for _, s := range p.Stages {
		d, h := memorymap.Column{Name: string(s.Stage)}, memorymap.Column{Name: string(s.Stage)}
		for _, i := range s.Items {
			part := memorymap.Part{Label: i.Label, Bytes: i.Bytes}
			if i.Where == kandinsky5.OnDevice {
				d.Parts = append(d.Parts, part)
			} else if i.Where == kandinsky5.InPinned {
				h.Parts = append(h.Parts, part)
			}
		}
		device.Columns, pinned.Columns = append(device.Columns, d), append(pinned.Columns, h)
	}
	m.Panels = []memorymap.Panel{device, pinned}
	return sizedMap{m}
}

func limitText(n int64) string {
	if n == 0 {
		return "any"
	}
	return memory.Size(n)
}

func fitText(fits bool) string {
	if fits {
		return "fits"
	}
	return "DOES NOT FIT"
}
