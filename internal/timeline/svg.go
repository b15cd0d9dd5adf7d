package timeline

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// The picture's measures in pixels.
const (
	width     = 1200
	margin    = 16
	gutter    = 110 // for the rows' names
	rowHeight = 30
	rowGap    = 8
	lineStep  = 18
	axisSpace = 34
	barLeft   = margin + gutter
	barWidth  = width - margin - barLeft
)

// style is how a kind looks; the colours keep apart for colour-blind eyes (Okabe and Ito's palette, darkened where white
// text stands on them).
type style struct{ name, fill, text string }

func (k Kind) style() style {
	return [...]style{
		{"compute", "#0b6fa4", "#ffffff"},
		{"waits for weights", "url(#stall)", "#7a1f00"},
		{"copy", "#e69f00", "#3a2800"},
		{"stage", "#6b7280", "#ffffff"},
		{"attention", "#00795a", "#ffffff"},
		{"linear layers", "#56a9de", "#06283d"},
		{"other kernels", "#b9a6c9", "#2d1f3a"},
	}[k]
}

// WriteSVG draws the chart, 1200 pixels wide.
func (c Chart) WriteSVG(w io.Writer) error {
	d := &drawing{Writer: bufio.NewWriter(w)}
	c.Title = shorten(c.Title, titleChars)
	c.Notes = wrap(c.Notes, noteChars)
	height := d.measure(c)
	d.line(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="DejaVu Sans, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">`, width, height, width, height)
	d.line(`<title>%s</title>`, escape(c.Title))
	d.line(`<defs><pattern id="stall" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="#ffd9c7"/><rect width="2.5" height="6" fill="#d55e00"/></pattern></defs>`)
	d.line(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	y := margin + 14
	d.line(`<text x="%d" y="%d" font-size="16" font-weight="bold" fill="#111827">%s</text>`, margin, y, escape(c.Title))
	for _, n := range c.Notes {
		y += lineStep
		d.line(`<text x="%d" y="%d" fill="#374151">%s</text>`, margin, y, escape(n))
	}
	y += lineStep + 4
	d.legend(c, y)
	y += 14
	for _, p := range c.Panels {
		y = d.panel(p, y)
	}
	d.line(`</svg>`)
	return d.Flush()
}

// How many characters of a title and of a note fit the picture's width.
const (
	titleChars = 110
	noteChars  = 165
)

// shorten cuts a text off.
func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// wrap breaks lines between words.
func wrap(lines []string, most int) (out []string) {
	for _, line := range lines {
		now := ""
		for _, word := range strings.Fields(line) {
			if now != "" && len([]rune(now))+1+len([]rune(word)) > most {
				out = append(out, now)
				now = ""
			}
			if now != "" {
				now += " "
			}
			now += shorten(word, most)
		}
		out = append(out, now)
	}
	return out
}

// measure returns the height of the picture.
func (d *drawing) measure(c Chart) int {
	y := margin + 14 + len(c.Notes)*lineStep + lineStep + 4 + 14
	for _, p := range c.Panels {
		y += panelHeight(p)
	}
	return y + margin
}

func panelHeight(p Panel) int { return 30 + len(p.Rows)*(rowHeight+rowGap) + axisSpace }

// drawing writes elements; the first error stays in the writer and comes out of Flush.
type drawing struct{ *bufio.Writer }

func (d *drawing) line(format string, args ...any) {
	fmt.Fprintf(d, format+"\n", args...)
}

// legend names the kinds that the chart has.
func (d *drawing) legend(c Chart, y int) {
	seen := map[Kind]bool{}
	for _, p := range c.Panels {
		for _, r := range p.Rows {
			for _, i := range r.Intervals {
				seen[i.Kind] = true
			}
		}
	}
	x := margin
	for k := Compute; k <= Other; k++ {
		if !seen[k] || k == Stage { // stages carry their names
			continue
		}
		s := k.style()
		d.line(`<rect x="%d" y="%d" width="14" height="12" fill="%s"/>`, x, y-10, s.fill)
		d.line(`<text x="%d" y="%d" fill="#374151">%s</text>`, x+19, y, escape(s.name))
		x += 19 + 8*len(s.name) + 16
	}
}

// panel draws a panel below y and returns where it ends.
func (d *drawing) panel(p Panel, y int) int {
	end := y + panelHeight(p)
	d.line(`<text x="%d" y="%d" font-weight="bold" fill="#111827">%s</text>`, margin, y+20, escape(p.Title))
	top := y + 30
	bottom := top + len(p.Rows)*(rowHeight+rowGap)
	d.axis(p, top, bottom)
	for k, r := range p.Rows {
		at := top + k*(rowHeight+rowGap)
		d.line(`<text x="%d" y="%d" fill="#111827">%s</text>`, margin, at+rowHeight/2+4, escape(r.Name))
		d.line(`<rect x="%d" y="%d" width="%d" height="%d" fill="#f3f4f6"/>`, barLeft, at, barWidth, rowHeight)
		d.row(p, r, at)
	}
	return end
}

// row draws the intervals that lie in the panel. Those narrower than a pixel would blur into one another: they are drawn as
// columns whose opacity is the share of the pixel's time that they cover.
func (d *drawing) row(p Panel, r Row, y int) {
	span := p.To - p.From
	if span <= 0 {
		return
	}
	thin := map[Kind][]float64{}
	for _, i := range r.Intervals {
		if i.End < p.From || i.Start > p.To {
			continue
		}
		from := barWidth * (max(i.Start, p.From) - p.From) / span
		to := barWidth * (min(i.End, p.To) - p.From) / span
		if to-from < 1.5 {
			if thin[i.Kind] == nil {
				thin[i.Kind] = make([]float64, barWidth)
			}
			cover(thin[i.Kind], from, to)
			continue
		}
		d.bar(i, from, to, y)
	}
	for k := Compute; k <= Other; k++ {
		d.columns(k, thin[k], y)
	}
}

// bar draws one interval, with its label where there is room for it.
func (d *drawing) bar(i Interval, from, to float64, y int) {
	s := i.Kind.style()
	d.line(`<rect x="%s" y="%d" width="%s" height="%d" fill="%s" stroke="#ffffff" stroke-width="0.5"><title>%s: %s</title></rect>`,
		px(barLeft+from), y, px(to-from), rowHeight, s.fill, escape(i.Label), escape(axisTime(i.End-i.Start, (i.End-i.Start)/100)))
	for _, label := range i.labels() {
		size := 12.0
		if len(label) < 4 {
			size = 10
		}
		if 0.62*size*float64(len([]rune(label))) > to-from-3 {
			continue
		}
		d.line(`<text x="%s" y="%d" font-size="%g" fill="%s" text-anchor="middle">%s</text>`, px(barLeft+(from+to)/2), y+rowHeight/2+4, size, s.text, escape(label))
		return
	}
}

// labels returns what may be written on the interval, the longest first: the number of a block, the first word of a kernel,
// nothing else of a stall.
func (i Interval) labels() []string {
	fields := strings.Fields(i.Label)
	switch {
	case len(fields) < 2 || i.Kind == Stall || i.Kind == Stage:
		return []string{i.Label}
	case i.Kind == Compute || i.Kind == Copy:
		return []string{i.Label, fields[len(fields)-1]}
	}
	return []string{i.Label, fields[0]}
}

// cover adds the stretch from…to to the pixels that it lies in.
func cover(pixels []float64, from, to float64) {
	for x := int(from); x < len(pixels) && float64(x) < to; x++ {
		pixels[x] += min(to, float64(x+1)) - max(from, float64(x))
	}
}

// columns draws runs of pixels that are covered alike, in eighths.
func (d *drawing) columns(k Kind, pixels []float64, y int) {
	level := func(x int) int {
		if pixels[x] <= 0 {
			return 0
		}
		return max(1, min(8, int(math.Round(8*pixels[x]))))
	}
	for x := 0; x < len(pixels); {
		from, l := x, level(x)
		for x < len(pixels) && level(x) == l {
			x++
		}
		if l > 0 {
			d.line(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s" fill-opacity="%g"/>`, barLeft+from, y, x-from, rowHeight, k.style().fill, float64(l)/8)
		}
	}
}

// axis draws ticks at round times, counted from the panel's beginning.
func (d *drawing) axis(p Panel, top, bottom int) {
	span := p.To - p.From
	d.line(`<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#9ca3af"/>`, barLeft, bottom+2, barLeft+barWidth, bottom+2)
	if span <= 0 {
		return
	}
	step := tick(span)
	for n := 0; float64(n)*step <= span; n++ {
		x := barLeft + barWidth*float64(n)*step/span
		d.line(`<line x1="%s" y1="%d" x2="%s" y2="%d" stroke="#d1d5db"/>`, px(x), top, px(x), bottom+6)
		anchor := "middle"
		if x > barLeft+barWidth-20 {
			anchor = "end"
		}
		d.line(`<text x="%s" y="%d" fill="#374151" font-size="11" text-anchor="%s">%s</text>`, px(x), bottom+20, anchor, axisTime(float64(n)*step, step))
	}
}

// tick returns a round step, 1, 2 or 5 times a power of ten, that gives 6 to 15 ticks.
func tick(span float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(span/12)))
	for _, m := range []float64{1, 2, 5, 10} {
		if span/(m*power) <= 15 {
			return m * power
		}
	}
	return 20 * power
}

// axisTime prints ns with the unit and the digits that a step asks for.
func axisTime(ns, step float64) string {
	unit, name := 1e9, "s"
	switch {
	case ns == 0:
		return "0"
	case max(ns, step) < 1e6:
		unit, name = 1e3, "µs"
	case max(ns, step) < 1e9:
		unit, name = 1e6, "ms"
	}
	digits := 0
	if step < unit {
		digits = int(math.Ceil(-math.Log10(step/unit) - 1e-9))
	}
	return fmt.Sprintf("%.*f %s", min(digits, 3), ns/unit, name)
}

func px(v float64) string {
	return strconv.FormatFloat(math.Round(100*v)/100, 'f', -1, 64)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
