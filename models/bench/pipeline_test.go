package bench

import (
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/synth"
)

// madeUp is a made-up model of eight visual blocks and a picture to make with it.
func madeUp(t *testing.T) PipelineOptions {
	t.Helper()
	m, err := synth.Preset(synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	m.Weights.DiT.NumVisualBlocks, m.Config.Model.DiT.NumVisualBlocks = 8, 8
	c, err := m.MadeUp()
	if err != nil {
		t.Fatal(err)
	}
	prompt := "a fox runs"
	r := kandinsky5.Request{Prompt: prompt, NegativePrompt: &prompt, Width: 32, Height: 32, Steps: 2, Seed: 3}
	if m.Config.Pipeline == "i2v" {
		r.Image = media.NewImage(32, 32)
	}
	return PipelineOptions{Checkpoint: c, Options: kandinsky5.Options{Auto: true}, Request: r}
}

func TestWholeRunsOfAMadeUpModelKeepTheirBudgets(t *testing.T) {
	const plenty, little, tooLittle = 8 << 20, 3 << 20, 1 << 20
	// Chunks so small that the plans of a small model can be judged to a percent.
	d := enginetest.OpenWith(t, engine.Options{DeviceBudget: plenty, Marks: true, Limits: engine.TestLimits{Chunk: 64 << 10}})
	o := madeUp(t)
	o.Budgets, o.Smallest = []int64{tooLittle, plenty, little}, true
	var began []int64
	o.Began = func(run, runs int, budget int64) {
		if began = append(began, budget); run+1 != len(began) || runs != 4 {
			t.Errorf("run %d of %d was told as the %d-th", run, runs, len(began))
		}
	}
	r, err := RunPipeline(t.Context(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{plenty, little, tooLittle, r.Least}; !slices.Equal(began, want) || len(r.Runs) != 4 {
		t.Fatalf("budgets %v, %d runs; want %v", began, len(r.Runs), want)
	}
	if r.Least <= tooLittle || r.Least >= little || r.Blocks != 8 || r.Steps != 2 || r.Branches != 2 || r.Geometry.Frames != 1 {
		t.Errorf("report %+v", r)
	}
	for k, run := range r.Runs {
		if run.Budget == tooLittle {
			if run.Fits || run.Step != 0 || !strings.Contains(run.Error, "the smallest budget that works is --vram-budget") {
				t.Errorf("too little: %+v", run)
			}
			continue
		}
		if !run.Fits || run.Error != "" || run.PeakDevice > run.Budget || run.PlannedDevice > run.Budget || run.Deviation > 0.02 || run.PeakPinned > run.PlannedPinned {
			t.Errorf("run %d: %+v", k, run)
		}
		if run.Step <= 0 || run.Ratio <= 0 || run.Planned < 0 || run.Latents == "" || run.Latents != r.Runs[0].Latents || run.Choice.Tile == [2]int{} {
			t.Errorf("run %d: step %v, %g of the first, latents %s, want %s", k, run.Step, run.Ratio, run.Latents, r.Runs[0].Latents)
		}
		for _, s := range run.Stages {
			if s.PlannedDevice > 0 && s.PeakPinned > s.PlannedPinned {
				t.Errorf("run %d, %s: %d bytes pinned, %d planned", k, s.Stage, s.PeakPinned, s.PlannedPinned)
			}
		}
		if n := len(run.Stages); n < 4 || run.Stages[0].Stage != kandinsky5.StageText || run.Stages[n-1].Stage != kandinsky5.StageDecode || run.Stages[n-1].PlannedDevice == 0 {
			t.Errorf("run %d: stages %+v", k, run.Stages)
		}
	}
	if r.Runs[0].Ratio != 1 || r.Runs[0].Choice.BlocksInMemory != 8 || r.Runs[3].Choice.BlocksInMemory != 1 {
		t.Errorf("choices %+v and %+v", r.Runs[0].Choice, r.Runs[3].Choice)
	}
	if budget, _ := d.Mem.Budget(memory.Device); budget != plenty || d.Mem.Used(memory.Device) > 64<<10 {
		t.Errorf("afterwards %d bytes are in use, the budget is %d", d.Mem.Used(memory.Device), budget)
	}
}

func TestSomeRequestsCannotBeMeasured(t *testing.T) {
	d := enginetest.Open(t)
	o := madeUp(t)
	o.Request.Steps = -1
	if _, err := RunPipeline(t.Context(), d, o); err == nil || !strings.Contains(err.Error(), "-1 sample steps") {
		t.Errorf("got %v", err)
	}
	o = madeUp(t)
	o.Request.ExpandPrompt = true
	if _, err := RunPipeline(t.Context(), d, o); err == nil || !strings.Contains(err.Error(), "writes no prompts") {
		t.Errorf("got %v", err)
	}
}
