package doctor

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/vkandinsky/vkandinsky/memory"
)

// WriteText writes the report for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	if r.Device != "" {
		fmt.Fprintf(&b, "%s (%s), %s, Vulkan %s\n", r.Device, r.Kind, r.Driver, r.API)
	}
	fmt.Fprintf(&b, "%s\n\n", r.origin())
	rows := [][]string{}
	for _, result := range r.Results {
		rows = append(rows, []string{string(result.Status), result.Title, result.Summary})
	}
	columns(&b, "", rows)
	r.textKernels(&b)
	r.textRest(&b)
	for _, result := range r.Results {
		if len(result.Facts) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", result.Title)
		rows := [][]string{}
		for _, f := range result.Facts {
			rows = append(rows, []string{f.Name, f.Text})
		}
		columns(&b, "  ", rows)
	}
	first := true
	for _, result := range r.Results {
		for _, a := range result.Advice {
			if first {
				b.WriteString("\nadvice\n")
				first = false
			}
			fmt.Fprintf(&b, "  %s: %s\n", result.Title, a)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.Verdict())
	if r.Took > 0 {
		fmt.Fprintf(&b, "%s\n", r.timing())
	}
	_, err := w.Write(b.Bytes())
	return err
}

// origin says what made the report and on which machine.
func (r *Report) origin() string {
	parts := []string{r.Program, fmt.Sprintf("%s/%s, %d CPUs", r.Host.OS, r.Host.Arch, r.Host.CPUs)}
	if r.Host.MemoryFree > 0 {
		parts = append(parts, memory.Size(r.Host.MemoryFree)+" of memory available")
	}
	parts = append(parts, r.Time.Format("2006-01-02 15:04 UTC"))
	if r.Quick {
		parts = append(parts, "quick")
	}
	return strings.TrimPrefix(strings.Join(parts, ", "), ", ")
}

// timing says what the examination took.
func (r *Report) timing() string {
	text := "took " + seconds(r.Took.Seconds())
	if r.Compiling > 0 {
		text += fmt.Sprintf(", %s of them to compile kernels, which are kept for the next time", seconds(r.Compiling.Seconds()))
	}
	return text
}

// Verdict is one line about all results.
func (r *Report) Verdict() string {
	text := fmt.Sprintf("%d ok", r.Count(OK))
	for _, s := range []Status{Warning, Failed, NotAvailable} {
		if n := r.Count(s); n > 0 {
			word := string(s)
			if s == Warning && n > 1 {
				word = "warnings"
			}
			text += fmt.Sprintf(", %d %s", n, word)
		}
	}
	return text
}

func (r *Report) textKernels(w io.Writer) {
	rows := [][]string{{"tier", "kernel", "shape", "by", "time", "speed", "error", "limit", ""}}
	for _, result := range r.Results {
		for _, k := range result.Kernels {
			verdict := "ok"
			if !k.Pass {
				verdict = "FAILED: " + k.Problem
			}
			rows = append(rows, []string{result.Tier, k.Kernel, k.Shape, k.Shader, seconds(k.Seconds), speed(k), k.Error.String(), fmt.Sprintf("%.1e", k.Limit), verdict})
		}
	}
	if len(rows) > 1 {
		fmt.Fprintln(w)
		columns(w, "", rows)
	}
}

// textRest lists copies and dispatches.
func (r *Report) textRest(w io.Writer) {
	for _, result := range r.Results {
		var rows [][]string
		for _, c := range result.Copies {
			slower := ""
			if c.Slowdown > 0 {
				slower = fmt.Sprintf("computing takes %.2f times as long", c.Slowdown)
			}
			rows = append(rows, []string{"copy " + c.Direction, "beside " + c.Beside, memory.Size(c.Bytes), three(c.Rate/1e9) + " GB/s", slower})
		}
		for _, d := range result.Dispatch {
			how := "measured"
			if !d.Measured {
				how = "estimated"
			}
			rows = append(rows, []string{"longest dispatch", d.Kernel, fmt.Sprintf("%.2g operations", d.Cost), seconds(d.Seconds), how})
		}
		if len(rows) > 0 {
			fmt.Fprintln(w)
			columns(w, "", rows)
		}
	}
}

// columns writes rows with aligned columns.
func columns(w io.Writer, indent string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.TrimRight(indent+strings.Join(row, "\t"), "\t "))
	}
	_ = t.Flush() // into memory
}
