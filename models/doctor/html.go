package doctor

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/vkandinsky/vkandinsky/memory"
)

//go:embed report.gohtml
var page string

//go:embed report.css
var style string

// plot is a picture with what it shows.
type plot struct {
	Title, About string
	Picture      template.HTML
}

// kernelRow is a line of the page's table of kernels.
type kernelRow struct {
	Tier                               string
	Kernel                             Kernel
	Time, Speed, Error, Limit, Verdict string
	Status                             Status
}

// WriteHTML writes the report as one page that needs nothing else: no script, no file, no network. It is well-formed
// XML as well.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{"class": statusClass, "icon": statusIcon}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, map[string]any{
		"Report": r, "Style": template.CSS(style), "Origin": r.origin(), "Tiles": r.tiles(), "Plots": r.plots(), "Kernels": r.kernelRows(),
	})
}

// tile is a number that stands large on the page.
type tile struct{ Name, Value, Unit, Note string }

// tiles picks the numbers that one compares devices by: the kernels of the tier that the program takes, and copies.
func (r *Report) tiles() []tile {
	var out []tile
	for _, result := range r.Results {
		if result.Tier == r.Tier {
			for _, k := range result.Kernels {
				value, unit, _ := strings.Cut(speed(k), " ")
				out = append(out, tile{k.Kernel, value, unit, "tier " + result.Tier})
			}
		}
	}
	for _, result := range r.Results {
		for _, c := range result.Copies {
			if c.Rate > 0 && c.Beside == "nothing" {
				name := map[string]string{"up": "host to device", "down": "device to host"}[c.Direction]
				out = append(out, tile{name, three(c.Rate / 1e9), "GB/s", "copies of " + memory.Size(c.Bytes)})
			}
		}
	}
	return out
}

func (r *Report) plots() []plot {
	var out []plot
	for _, p := range []plot{
		{"Speed", "Each kernel in every tier of the device, at the largest shape that was measured.", r.speedPlot()},
		{"Errors", "How far numbers are from float64, and how far they may be.", r.errorPlot()},
		{"Copies", "Between host and device on the transfer queue.", r.copyPlot()},
		{"Longest dispatch", "The most costly dispatch that the program records on this device. Windows resets a driver that takes longer.", r.dispatchPlot()},
		{"Pinned memory", "How fast pieces of pinned host memory are allocated and touched while it grows.", r.pinnedPlot()},
	} {
		if p.Picture != "" {
			out = append(out, p)
		}
	}
	return out
}

func (r *Report) kernelRows() []kernelRow {
	var out []kernelRow
	for _, result := range r.Results {
		for _, k := range result.Kernels {
			row := kernelRow{Tier: result.Tier, Kernel: k, Time: seconds(k.Seconds), Speed: speed(k), Error: k.Error.String(),
				Limit: fmt.Sprintf("%.1e", k.Limit), Verdict: "ok", Status: OK}
			if !k.Pass {
				row.Verdict, row.Status = k.Problem, Failed
			}
			out = append(out, row)
		}
	}
	return out
}

func statusClass(s Status) string {
	return map[Status]string{OK: "ok", Warning: "warning", Failed: "failed", NotAvailable: "none"}[s]
}

func statusIcon(s Status) string {
	return map[Status]string{OK: "✓", Warning: "!", Failed: "✕", NotAvailable: "–"}[s]
}
