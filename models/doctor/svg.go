package doctor

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// drawing is an SVG picture in the making. Colours and type come from the page's style, by class.
type drawing struct {
	b             strings.Builder
	width, height float64
}

func newDrawing(width, height float64) *drawing { return &drawing{width: width, height: height} }

// text writes a line; anchor is "start", "middle" or "end".
func (d *drawing) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(&d.b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, template.HTMLEscapeString(s))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

// bar draws a bar from x to the right, rounded at its end only; the title shows when the pointer rests on it.
func (d *drawing) bar(x, y, w, h float64, class, title string) {
	w = max(w, 1.5)
	r := min(3, w/2, h/2)
	fmt.Fprintf(&d.b, `<path class="%s" d="M%.1f %.1fh%.1fa%.1f %.1f 0 0 1 %.1f %.1fv%.1fa%.1f %.1f 0 0 1 %.1f %.1fh%.1fz"><title>%s</title></path>`,
		class, x, y, w-r, r, r, r, r, h-2*r, r, r, -r, r, -(w - r), template.HTMLEscapeString(title))
}

func (d *drawing) dot(x, y, r float64, class, title string) {
	fmt.Fprintf(&d.b, `<circle cx="%.1f" cy="%.1f" r="%.1f" class="%s"><title>%s</title></circle>`, x, y, r, class, template.HTMLEscapeString(title))
}

func (d *drawing) path(points string, class string) {
	fmt.Fprintf(&d.b, `<path class="%s" d="%s"/>`, class, points)
}

// done returns the picture with a name for readers that do not see it.
func (d *drawing) done(name string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">%s</svg>`,
		d.width, d.height, d.width, d.height, template.HTMLEscapeString(name), d.b.String()))
}

// axis maps values to positions from one to another, evenly or by their logarithm.
type axis struct {
	low, high, from, to float64
	log                 bool
}

func (a axis) at(v float64) float64 {
	if a.log {
		v = min(max(v, a.low), a.high)
		return a.from + (math.Log10(v)-math.Log10(a.low))/(math.Log10(a.high)-math.Log10(a.low))*(a.to-a.from)
	}
	return a.from + (v-a.low)/(a.high-a.low)*(a.to-a.from)
}

// decades lists the powers of ten of an axis, every step-th.
func (a axis) decades() []float64 {
	first, last := math.Ceil(math.Log10(a.low)-1e-9), math.Floor(math.Log10(a.high)+1e-9)
	step := math.Ceil((last - first + 1) / 7)
	var out []float64
	for e := first; e <= last; e += step {
		out = append(out, math.Pow(10, e))
	}
	return out
}

// round returns the least 1, 2, 2.5 or 5 times a power of ten that is not below v.
func round(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// ticks are up to five round values from 0 to high.
func ticks(high float64) []float64 {
	step := round(high / 4.0001)
	var out []float64
	for v := 0.0; v <= high*(1+1e-9); v += step {
		out = append(out, v)
	}
	return out
}

// power writes 1e-6 as 10⁻⁶.
func power(v float64) string {
	e := fmt.Sprintf("%.0f", math.Log10(v))
	return "10" + strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹").Replace(e)
}
