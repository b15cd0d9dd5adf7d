package timeline

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// element is a shape of a picture.
type element struct {
	name string
	attr map[string]string
}

func (e element) number(t *testing.T, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(e.attr[name], 64)
	if err != nil {
		t.Fatalf("%s of %+v: %v", name, e, err)
	}
	return v
}

// drawn parses a chart's picture.
func drawn(t *testing.T, c Chart) []element {
	t.Helper()
	var text bytes.Buffer
	if err := c.WriteSVG(&text); err != nil {
		t.Fatal(err)
	}
	var all []element
	d := xml.NewDecoder(&text)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		if s, ok := token.(xml.StartElement); ok {
			e := element{s.Name.Local, map[string]string{}}
			for _, a := range s.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			all = append(all, e)
		}
	}
}

func panel(rows ...Row) Chart {
	from, to, _ := Bounds(rows)
	return Chart{Title: "a & b <c>", Panels: []Panel{{Title: "panel", From: from, To: to, Rows: rows}}}
}

func TestEveryShapeLiesInsideThePicture(t *testing.T) {
	many := Row{Name: "many"}
	for k := range 5000 { // far more than pixels
		many.Intervals = append(many.Intervals, Interval{"block 1", Compute, float64(10 * k), float64(10*k + 7)})
	}
	for name, c := range map[string]Chart{
		"nothing":      {},
		"an empty row": panel(Row{Name: "row"}),
		"no time":      panel(Row{Name: "row", Intervals: []Interval{{"x", Copy, 5, 5}}}),
		"many":         panel(many),
		"a window":     {Panels: []Panel{{From: 100, To: 200, Rows: []Row{{Name: "r", Intervals: []Interval{{"a", Copy, 0, 120}, {"b", Stall, 150, 900}, {"c", Copy, 950, 990}}}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			elements := drawn(t, c)
			height := elements[0].number(t, "height")
			for _, e := range elements {
				if e.name != "rect" || e.attr["x"] == "" {
					continue
				}
				x, y := e.number(t, "x"), e.number(t, "y")
				if x < 0 || y < 0 || x+e.number(t, "width") > width+0.01 || y+e.number(t, "height") > height {
					t.Errorf("%+v is outside of %d×%g", e, width, height)
				}
			}
			if n := len(elements); n > 3000 {
				t.Errorf("%d elements", n)
			}
		})
	}
}

func TestABarIsAsLongAsItsInterval(t *testing.T) {
	elements := drawn(t, panel(Row{Name: "r", Intervals: []Interval{{"a", Copy, 0, 250}, {"b", Compute, 500, 1000}}}))
	var bars []element
	for _, e := range elements {
		if e.attr["stroke-width"] == "0.5" {
			bars = append(bars, e)
		}
	}
	if len(bars) != 2 {
		t.Fatalf("%d bars, want 2", len(bars))
	}
	for k, want := range [][2]float64{{0, 0.25}, {0.5, 0.5}} {
		x, wide := bars[k].number(t, "x"), bars[k].number(t, "width")
		if math.Abs(x-barLeft-want[0]*barWidth) > 0.1 || math.Abs(wide-want[1]*barWidth) > 0.1 {
			t.Errorf("bar %d lies at %g and is %g wide, want %g and %g of %d", k, x-barLeft, wide, want[0], want[1], barWidth)
		}
	}
}

func TestCheckFindsOverlaps(t *testing.T) {
	for name, c := range map[string]struct {
		list []Interval
		want string
	}{
		"in order":  {[]Interval{{"a", Copy, 0, 1}, {"b", Copy, 1, 2}}, ""},
		"overlap":   {[]Interval{{"a", Copy, 0, 3}, {"b", Copy, 1, 4}}, `"b" begins at 1, before "a" ends at 3`},
		"backwards": {[]Interval{{"a", Copy, 4, 3}}, "before it begins"},
	} {
		err := Row{Name: "row", Intervals: c.list}.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	sorted := Row{Intervals: []Interval{{"b", Copy, 1, 4}, {"a", Copy, 0, 1.01}}}.Sort()
	if err := sorted.Check(); err != nil || sorted.Intervals[0].Label != "a" {
		t.Errorf("sorted: %+v, %v", sorted, err)
	}
}

func TestTicksAreRoundAndNotTooMany(t *testing.T) {
	for span := 1.0; span < 1e13; span *= 1.7 {
		step := tick(span)
		if n := span / step; n < 5 || n > 15 {
			t.Errorf("span %g: %g ticks", span, n)
		}
		if m := step / math.Pow(10, math.Floor(math.Log10(step)+1e-9)); math.Abs(m-1) > 1e-6 && math.Abs(m-2) > 1e-6 && math.Abs(m-5) > 1e-6 {
			t.Errorf("span %g: step %g", span, step)
		}
	}
	for _, c := range []struct {
		ns, step float64
		want     string
	}{{0, 1e6, "0"}, {2e6, 5e5, "2.0 ms"}, {1.5e9, 5e8, "1.5 s"}, {2e10, 1e10, "20 s"}, {5e3, 5e3, "5 µs"}, {5e8, 5e8, "500 ms"}} {
		if got := axisTime(c.ns, c.step); got != c.want {
			t.Errorf("%g in steps of %g is %q, want %q", c.ns, c.step, got, c.want)
		}
	}
}
