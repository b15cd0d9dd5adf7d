package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/swap"
)

// printChoice says in three lines how a run will hold its networks, what it takes of the memory and, where rates are known,
// of time.
// clips is how many there are.
func printChoice(w io.Writer, p *kandinsky5.MemoryPlan, limits kandinsky5.PlanLimits, r kandinsky5.Rates, clips int) {
	fmt.Fprintf(w, "plan: %s\n", choiceText(p))
	fmt.Fprintf(w, "memory: %s\n", memoryText(p, limits))
	of := ""
	if clips > 1 {
		of = fmt.Sprintf(", for the first of %d clips", clips)
	}
	fmt.Fprintf(w, "time: %s%s\n", timeText(p, r), of)
}

// choiceText says where the networks lie.
func choiceText(p *kandinsky5.MemoryPlan) string {
	c := p.Choice
	parts := []string{blocksText(p)}
	if c.HeadGroups > 1 {
		parts = append(parts, fmt.Sprintf("attention in %d groups of heads", c.HeadGroups))
	}
	if c.TextLayers < c.TextLayersOf {
		parts = append(parts, fmt.Sprintf("%d of %d layers of the text encoder", c.TextLayers, c.TextLayersOf))
	} else {
		parts = append(parts, "the whole text encoder")
	}
	parts = append(parts, tileText(c))
	if c.KeepTransformer {
		parts = append(parts, "the transformer stays while frames are decoded")
	}
	return strings.Join(parts, ", ")
}

func blocksText(p *kandinsky5.MemoryPlan) string {
	s := p.Swap
	if len(s.Streamed) == 0 {
		return fmt.Sprintf("all %d visual blocks on the device", s.Blocks)
	}
	wait := " from pinned memory"
	switch p.HostTier {
	case swap.Mapped:
		wait = " from the checkpoint file"
	case swap.Mixed:
		wait = fmt.Sprintf(", %d from pinned memory and %d from the checkpoint file", p.Choice.PinnedBlocks, len(s.Streamed)-p.Choice.PinnedBlocks)
	}
	slots := fmt.Sprintf("%d slots", s.Stream)
	if s.Stream == 1 {
		slots = "one slot"
	}
	return fmt.Sprintf("%d of %d visual blocks on the device (%d stay, %d stream through %s%s)", s.Slots, s.Blocks, s.Slots-s.Stream, len(s.Streamed), slots, wait)
}

func tileText(c kandinsky5.Choice) string {
	if c.Tile == c.WholeTile {
		return fmt.Sprintf("frames decoded in tiles of %d×%d, the largest", c.Tile[1], c.Tile[0])
	}
	return fmt.Sprintf("frames decoded in tiles of %d×%d (of %d×%d: the picture differs slightly at their seams)", c.Tile[1], c.Tile[0], c.WholeTile[1], c.WholeTile[0])
}

// memoryText names the peaks, and the stage of the device's.
func memoryText(p *kandinsky5.MemoryPlan, limits kandinsky5.PlanLimits) string {
	stage := ""
	for _, s := range p.Stages {
		if s.Device == p.Device {
			stage = fmt.Sprintf(" (%s)", s.Stage)
		}
	}
	return fmt.Sprintf("%s of %s on the device%s, %s of %s pinned, %s of RAM besides the page cache",
		memory.Size(p.Device), limitText(limits.Device), stage, memory.Size(p.Pinned), limitText(limits.Host), memory.Size(p.Host.RAM))
}

// atMost is said before bytes of a plan that are a bound.
func atMost(p *kandinsky5.MemoryPlan) string {
	if p.AtMost {
		return "at most "
	}
	return ""
}

// timeText predicts what rates allow to.
func timeText(p *kandinsky5.MemoryPlan, r kandinsky5.Rates) string {
	text := "nothing crosses the bus in a step"
	if p.BytesLoaded > 0 {
		text = fmt.Sprintf("%s%s cross the bus in a step", atMost(p), memory.Size(p.BytesLoaded))
		if r.Bus > 0 {
			text += " at " + units.Rate(r.Bus, "B/s")
		}
	}
	if r.Compute <= 0 || r.Bus <= 0 {
		return text + "; seconds a step are known after the first run on this device"
	}
	q := p.Predict(r)
	return text + fmt.Sprintf(", %s a step at %s, %s of it waiting; %s take %s", units.Seconds(q.Step), units.Rate(r.Compute, "FLOP/s"),
		units.Percent(q.Waiting.Seconds()/max(q.Step.Seconds(), 1e-12)), stepsText(p), minutes(q.Denoise))
}

// stepsText counts the steps that are to be made.
func stepsText(p *kandinsky5.MemoryPlan) string {
	if n := p.StepsToMake(); n != p.Settings.Steps {
		return fmt.Sprintf("%d of %d steps", n, p.Settings.Steps)
	}
	return fmt.Sprintf("%d steps", p.Settings.Steps)
}

// minutes prints a long time as people plan with it.
func minutes(d time.Duration) string {
	if d < 2*time.Minute {
		return units.Seconds(d)
	}
	return fmt.Sprintf("%.1f min", d.Minutes())
}

// admit plans the run for the device, prints the choice and refuses what cannot fit, before any work.
func (j *job) admit(ctx context.Context, c *console, d *engine.Device, p *kandinsky5.Pipeline, show bool) error {
	plan, err := p.Plan(j.request)
	if err != nil {
		return badInput(err) // the checkpoint has been looked at, and the request refused
	}
	limits := kandinsky5.LimitsOf(d, j.options)
	if j.promptOnly {
		return plan.Only(kandinsky5.StageExpand, limits).Error(limits)
	}
	if err := plan.Error(limits); err != nil || !show {
		return err
	}
	rates, err := p.Rates(ctx)
	if err != nil {
		return err
	}
	plan.StopAfter = j.stopAfter
	printChoice(c, plan, limits, rates, j.clips)
	return nil
}
