package main

import (
	"fmt"
	"io"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/units"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// generated is what generate prints as JSON.
type generated struct {
	Config       string                 `json:"config"` // name of the configuration
	Output       string                 `json:"output"`
	FramesDir    string                 `json:"frames_dir,omitempty"`
	ContactSheet string                 `json:"contact_sheet,omitempty"`
	Timeline     string                 `json:"timeline,omitempty"`
	Trace        string                 `json:"trace,omitempty"`
	Receipt      string                 `json:"receipt,omitempty"`
	Summary      string                 `json:"summary"` // where the time went, in a sentence
	Settings     kandinsky5.Settings    `json:"settings"`
	Stats        kandinsky5.Stats       `json:"stats"`
	Plan         *kandinsky5.MemoryPlan `json:"plan,omitempty"`     // what was planned before
	Previews     *previewStats          `json:"previews,omitempty"` // with --preview: what they cost
	Repeats      *receipt.Comparison    `json:"repeats,omitempty"`  // with --from: what has come out otherwise
}

func (o *outputFlags) generated(r *kandinsky5.Result) generated {
	return generated{Output: o.file, FramesDir: o.frames, ContactSheet: o.sheet, Timeline: o.files.picture, Trace: o.files.trace,
		Summary: whereTheTimeWent(r.Stats), Settings: r.Settings, Stats: r.Stats, Plan: r.Plan}
}

// report prints what was written, and the statistics where they were asked for.
func (o *outputFlags) report(c *console, g generated) error {
	if o.stats {
		if err := printStats(c, g); err != nil {
			return err
		}
	}
	if o.json {
		return c.printJSON(g)
	}
	_, err := fmt.Fprintln(c.out, g.Output)
	return err
}

// whereTheTimeWent says it in a sentence.
func whereTheTimeWent(s kandinsky5.Stats) string {
	var total, denoise time.Duration
	longest := kandinsky5.StageStats{}
	for _, stage := range s.Stages {
		total += stage.Took
		if stage.Stage == kandinsky5.StageDenoise {
			denoise = stage.Took
		}
		if stage.Took > longest.Took {
			longest = stage
		}
	}
	share := func(d time.Duration) string { return units.Percent(d.Seconds() / max(total.Seconds(), 1e-9)) }
	verdict := "not measured: the device has no timestamps on its compute queue"
	switch {
	case s.Verdict != nil:
		verdict = s.Verdict.Text
	case s.StepsMade == 0:
		verdict = "over before: no step was left to make"
	}
	if longest.Stage == kandinsky5.StageDenoise {
		return fmt.Sprintf("denoising took %s of %s and was %s", share(denoise), seconds(total), verdict)
	}
	return fmt.Sprintf("most of %s went into the stage %q (%s); denoising took %s and was %s", seconds(total), longest.Stage, share(longest.Took), share(denoise), verdict)
}

// printStats writes a table of where time and memory went, beside what was planned. It goes to the log's side: standard
// output has the path.
func printStats(w io.Writer, g generated) error {
	s := g.Stats
	if err := table(w, measuredRows(s, g.Plan)); err != nil {
		return err
	}
	var rows []string
	if s.SwapPlan != "" {
		rows = append(rows, "blocks\t"+s.SwapPlan)
	}
	if n := s.Swap; n.Accesses > 0 {
		rows = append(rows, fmt.Sprintf("swapping\t%d uses of blocks, %d of them already there, %d copies, %s over the bus", n.Accesses, n.Hits, n.Loads, memory.Size(n.Bytes)))
		rows = append(rows, fmt.Sprintf("host\t%d blocks waited in pinned memory, %d were read on the way; reading took %s, waiting for submits %s", n.PinnedBlocks, n.Reads, seconds(n.ReadTime), seconds(n.HostWait)))
	}
	if t := s.Timing; t != nil {
		waited, share := t.Stall, t.Stall.Seconds()/max(t.Compute.Seconds(), 1e-9)
		if s.Verdict != nil { // where copies and kernels share a queue it counts copies as waiting, which timestamps do not
			waited, share = s.Verdict.Waited, s.Verdict.Share
		}
		rows = append(rows, fmt.Sprintf("on the device\tcompute waited for copies %s (%s), copies took %s, the copy queue was idle for %s",
			seconds(waited), units.Percent(share), seconds(t.Copying), seconds(t.TransferIdle)))
	}
	if n := s.Kernels; n.Made > 0 {
		rows = append(rows, pipelinesRow(n))
	}
	if s.Skipped > 0 {
		rows = append(rows, fmt.Sprintf("MagCache\t%d passes skipped", s.Skipped))
	}
	if s.StepsMade > 0 {
		var steps time.Duration
		for _, d := range s.StepTimes {
			steps += d
		}
		rows = append(rows, fmt.Sprintf("between steps\tthe run took %s for states and previews (%.2f %% of the steps' time)", seconds(s.AfterSteps), 100*s.AfterSteps.Seconds()/max(steps.Seconds(), 1e-9)))
	}
	if g.Previews != nil {
		rows = append(rows, g.Previews.row())
	}
	return table(w, rows)
}
