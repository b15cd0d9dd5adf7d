package main

import (
	"fmt"
	"io"

	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// generated is what generate prints as JSON.
type generated struct {
	Output       string              `json:"output"`
	FramesDir    string              `json:"frames_dir,omitempty"`
	ContactSheet string              `json:"contact_sheet,omitempty"`
	Settings     kandinsky5.Settings `json:"settings"`
	Stats        kandinsky5.Stats    `json:"stats"`
}

// report prints what was written, and the statistics where they were asked for.
func (o *outputFlags) report(c *console, s kandinsky5.Settings, stats kandinsky5.Stats) error {
	if o.stats {
		if err := printStats(c, stats); err != nil {
			return err
		}
	}
	if o.json {
		return c.printJSON(generated{Output: o.file, FramesDir: o.frames, ContactSheet: o.sheet, Settings: s, Stats: stats})
	}
	_, err := fmt.Fprintln(c.out, o.file)
	return err
}

// printStats writes a table of where time and memory went. It goes to the log's side: standard output has the path.
func printStats(w io.Writer, s kandinsky5.Stats) error {
	rows := []string{"stage\ttime\tpeak device memory"}
	for _, stage := range s.Stages {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", stage.Stage, seconds(stage.Took), memory.Size(stage.PeakDevice)))
	}
	if s.SwapPlan != "" {
		rows = append(rows, "blocks\t"+s.SwapPlan)
	}
	if n := s.Swap; n.Accesses > 0 {
		rows = append(rows, fmt.Sprintf("swapping\t%d uses of blocks, %d of them already there, %d copies, %s over the bus", n.Accesses, n.Hits, n.Loads, memory.Size(n.Bytes)))
		rows = append(rows, fmt.Sprintf("host\tread blocks %s, waited for submits %s", seconds(n.ReadTime), seconds(n.HostWait)))
	}
	if t := s.Timing; t != nil {
		rows = append(rows, fmt.Sprintf("on the device\tcompute waited for copies %s (%.1f %% of the blocks' time), copies took %s, the copy queue was idle for %s",
			seconds(t.Stall), 100*t.Stall.Seconds()/max(t.Compute.Seconds(), 1e-9), seconds(t.Copying), seconds(t.TransferIdle)))
	}
	if s.Skipped > 0 {
		rows = append(rows, fmt.Sprintf("MagCache\t%d passes skipped", s.Skipped))
	}
	rows = append(rows, fmt.Sprintf("peak\tdevice %s, pinned %s", memory.Size(s.PeakDevice), memory.Size(s.PeakPinned)))
	return table(w, rows)
}
