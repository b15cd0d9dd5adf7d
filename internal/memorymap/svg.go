// Package memorymap draws what lies in memory while a program goes through its stages: a column per stage, cut by owners,
// below the line of what may be used.
package memorymap

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"sort"
	"strings"
)

// Map is what is drawn.
type Map struct {
	Title  string
	Notes  []string
	Panels []Panel
}

// Panel is one kind of memory.
type Panel struct {
	Name    string
	Limit   int64 // bytes that may be used; 0: unknown
	Columns []Column
}

// Column is a stage.
type Column struct {
	Name  string
	Parts []Part
}

// Part is what one owner holds.
type Part struct {
	Label string
	Bytes int64
}

// The picture's measures in pixels.
const (
	width       = 1200
	margin      = 16
	gutter      = 76 // for the scale
	panelHeight = 380
	panelGap    = 56
	lineHeight  = 18
	nameHeight  = 22
	columnGap   = 14
	textHeight  = 15 // the least height of a part that is named
	charWidth   = 6.6
)

// fills keep apart for colour-blind eyes (Okabe and Ito's palette, lightened so that black text stands on them).
var fills = [...]string{"#8cc6ec", "#f6c56b", "#7fd0b4", "#f2a98a", "#f4ec9a", "#d9b3cf", "#b8bec8"}

// other takes the parts that are too many or too small.
const other = "other"

type drawing struct {
	*bufio.Writer
	size   func(int64) string
	colour map[string]string
}

// WriteSVG draws the map, 1200 pixels wide. size prints a number of bytes.
func (m Map) WriteSVG(w io.Writer, size func(int64) string) error {
	d := &drawing{Writer: bufio.NewWriter(w), size: size, colour: m.colours()}
	head := margin + 16 + lineHeight*len(m.Notes)
	height := head + 20 + len(m.Panels)*(panelHeight+panelGap) + margin
	d.line(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="DejaVu Sans, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">`, width, height, width, height)
	d.line(`<title>%s</title>`, escape(m.Title))
	d.line(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	d.line(`<text x="%d" y="%d" font-size="16" font-weight="bold" fill="#111827">%s</text>`, margin, margin+14, escape(m.Title))
	for k, note := range m.Notes {
		d.line(`<text x="%d" y="%d" fill="#374151">%s</text>`, margin, margin+14+lineHeight*(k+1), escape(note))
	}
	for k, p := range m.Panels {
		d.panel(p, head+36+k*(panelHeight+panelGap))
	}
	d.line(`</svg>`)
	return d.Flush()
}

// colours gives the largest owners of all a colour each; the others share one.
func (m Map) colours() map[string]string {
	largest := map[string]int64{}
	var labels []string
	for _, p := range m.Panels {
		for _, c := range p.Columns {
			for _, part := range c.Parts {
				if _, known := largest[part.Label]; !known {
					labels = append(labels, part.Label)
				}
				largest[part.Label] = max(largest[part.Label], part.Bytes)
			}
		}
	}
	sort.SliceStable(labels, func(i, j int) bool { return largest[labels[i]] > largest[labels[j]] })
	out := map[string]string{other: fills[len(fills)-1]}
	for k, label := range labels {
		out[label] = fills[k%(len(fills)-1)]
	}
	return out
}

func (c Column) bytes() (n int64) {
	for _, p := range c.Parts {
		n += p.Bytes
	}
	return n
}

// top is the value at a panel's upper end: a little above its highest column, and above the limit where that is near.
func (p Panel) top() float64 {
	most := int64(1)
	for _, c := range p.Columns {
		most = max(most, c.bytes())
	}
	if p.Limit > 0 && p.Limit < 2*most {
		most = max(most, p.Limit)
	}
	return 1.06 * float64(most)
}

func (d *drawing) panel(p Panel, y int) {
	top, bottom := p.top(), y+panelHeight-nameHeight
	space := float64(bottom - y)
	at := func(bytes int64) float64 { return float64(bottom) - space*float64(bytes)/top }
	d.line(`<text x="%d" y="%d" font-weight="bold" fill="#111827">%s</text>`, margin, y-8, escape(p.Name))
	d.scale(top, at)
	step := float64(width-2*margin-gutter) / float64(max(1, len(p.Columns)))
	for k, c := range p.Columns {
		x := float64(margin+gutter) + step*float64(k) + columnGap/2
		d.column(c, x, step-columnGap, at)
		name := fmt.Sprintf("%s: %s", c.Name, d.size(c.bytes()))
		d.line(`<text x="%.1f" y="%d" text-anchor="middle" fill="#111827">%s</text>`, x+(step-columnGap)/2, bottom+16, escape(name))
	}
	if p.Limit > 0 && float64(p.Limit) < top {
		d.line(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#b42318" stroke-width="1.5" stroke-dasharray="6 4"/>`, margin+gutter, at(p.Limit), width-margin, at(p.Limit))
		d.line(`<text x="%d" y="%.1f" text-anchor="end" fill="#b42318">may be used: %s</text>`, width-margin, at(p.Limit)-4, d.size(p.Limit))
	}
}

// scale draws lines at even powers of two.
func (d *drawing) scale(top float64, at func(int64) float64) {
	step := int64(1)
	for float64(step)*8 < top {
		step *= 2
	}
	for n := int64(0); float64(n) < top; n += step {
		d.line(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e5e7eb"/>`, margin+gutter, at(n), width-margin, at(n))
		d.line(`<text x="%d" y="%.1f" text-anchor="end" fill="#6b7280">%s</text>`, margin+gutter-6, at(n)+4, d.size(n))
	}
}

func (d *drawing) column(c Column, x, width float64, at func(int64) float64) {
	var below int64
	for _, p := range c.stacked(at) {
		y, end := at(below+p.Bytes), at(below)
		below += p.Bytes
		d.line(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="#ffffff" stroke-width="0.7"><title>%s</title></rect>`,
			x, y, width, max(end-y, 0.5), d.colour[p.Label], escape(p.Label+": "+d.size(p.Bytes)))
		if end-y >= textHeight {
			d.line(`<text x="%.1f" y="%.1f" fill="#111827">%s</text>`, x+5, (y+end)/2+4, escape(named(p.Label, d.size(p.Bytes), int((width-8)/charWidth))))
		}
	}
}

// stacked returns the parts as they lie on each other, the largest lowest; those that are too thin to be told apart are one.
func (c Column) stacked(at func(int64) float64) []Part {
	parts := c.joined()
	sort.SliceStable(parts, func(i, j int) bool { return parts[i].Bytes > parts[j].Bytes })
	rest := Part{Label: other}
	for k, p := range parts {
		if at(0)-at(p.Bytes) < 3 {
			for _, thin := range parts[k:] {
				rest.Bytes += thin.Bytes
			}
			parts = parts[:k]
			break
		}
	}
	if rest.Bytes > 0 {
		parts = append(parts, rest)
	}
	return parts
}

// joined adds up what has the same label.
func (c Column) joined() []Part {
	var parts []Part
	at := map[string]int{}
	for _, p := range c.Parts {
		k, known := at[p.Label]
		if !known {
			k = len(parts)
			at[p.Label] = k
			parts = append(parts, Part{Label: p.Label})
		}
		parts[k].Bytes += p.Bytes
	}
	return parts
}

// named joins a label and a size; where there is no room for both it is the label that is cut.
func named(label, size string, most int) string {
	return shorten(label, most-1-len([]rune(size))) + " " + size
}

// shorten cuts a text off.
func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:max(most-1, 0)]) + "…"
	}
	return s
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return ""
	}
	return b.String()
}

func (d *drawing) line(format string, args ...any) {
	fmt.Fprintf(d, format, args...) // errors stay in the writer until Flush
	d.WriteString("\n")
}
