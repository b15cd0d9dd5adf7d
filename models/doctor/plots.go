package doctor

import (
	"fmt"
	"html/template"
	"math"

	"github.com/vkandinsky/vkandinsky/memory"
)

// Measures of the plots, in units of the picture.
const (
	plotWidth  = 620
	nameWidth  = 128 // left of the bars
	valueWidth = 112 // right of the longest
	barHeight  = 16
	barStep    = 22
	groupGap   = 14
)

// bar is one line of a chart.
type bar struct {
	name, text, title, class string
	value                    float64
}

// group is lines that belong together.
type group struct {
	name string
	bars []bar
}

// barChart draws groups of horizontal bars on an axis from 0. Where own is true each group has an axis of its own, and
// none is drawn.
func barChart(name, unit string, groups []group, own bool) template.HTML {
	height := 8.0
	top := 0.0
	for _, g := range groups {
		if g.name != "" {
			height += 20
		}
		height += barStep*float64(len(g.bars)) + groupGap
		for _, b := range g.bars {
			top = max(top, b.value)
		}
	}
	if !own {
		height += 26
	}
	d := newDrawing(plotWidth, height)
	const right = plotWidth - valueWidth
	scale := axis{0, max(top*1.02, 1e-12), nameWidth, right, false}
	if !own {
		for _, v := range ticks(top) {
			d.line(scale.at(v), 4, scale.at(v), height-24, "grid")
			d.text(scale.at(v), height-8, "tick", "middle", label(v))
		}
		d.text(plotWidth-2, height-8, "tick", "end", unit)
	}
	y := 8.0
	for _, g := range groups {
		if g.name != "" {
			d.text(0, y+11, "group", "start", g.name)
			y += 20
		}
		if own {
			top := 0.0
			for _, b := range g.bars {
				top = max(top, b.value)
			}
			scale.high = max(top, 1e-12)
		}
		for _, b := range g.bars {
			d.text(nameWidth-10, y+12, "name", "end", b.name)
			d.bar(nameWidth, y, scale.at(b.value)-nameWidth, barHeight, b.class, b.title)
			d.text(scale.at(b.value)+7, y+12, "value", "start", b.text)
			y += barStep
		}
		y += groupGap
	}
	d.line(nameWidth, 4, nameWidth, y-groupGap+2, "base")
	return d.done(name)
}

// roundSeconds prints a power of ten of seconds.
func roundSeconds(s float64) string {
	switch {
	case s >= 0.99:
		return label(s) + " s"
	case s >= 0.99e-3:
		return label(s*1e3) + " ms"
	}
	return label(s*1e6) + " µs"
}

// label prints a value of an axis.
func label(v float64) string { return fmt.Sprintf("%.4g", v) }

// speedPlot compares the tiers' speeds, kernel by kernel.
func (r *Report) speedPlot() template.HTML {
	var groups []group
	at := map[string]int{}
	for _, result := range r.Results {
		for _, k := range result.Kernels {
			if k.Rate <= 0 || k.Unit != "TFLOP/s" {
				continue
			}
			n, ok := at[k.Kernel]
			if !ok {
				n = len(groups)
				at[k.Kernel] = n
				groups = append(groups, group{name: k.Kernel})
			}
			groups[n].bars = append(groups[n].bars, bar{result.Tier, speed(k), fmt.Sprintf("%s, tier %s, %s by %s: %s in %s", k.Kernel, result.Tier, k.Shape, k.Shader, speed(k), seconds(k.Seconds)),
				"bar tier-" + result.Tier, k.Rate})
		}
	}
	if len(groups) == 0 {
		return ""
	}
	return barChart("Speed of the kernels by tier", "", groups, true)
}

// errorPlot shows each kernel's error and its limit on a logarithmic axis.
func (r *Report) errorPlot() template.HTML {
	type row struct {
		tier string
		k    Kernel
	}
	var rows []row
	low, high := 1e-6, 1e-3
	for _, result := range r.Results {
		for _, k := range result.Kernels {
			rows = append(rows, row{result.Tier, k})
			if e := float64(k.Error); e > 0 && !math.IsInf(e, 0) {
				low, high = min(low, e), max(high, e)
			}
			high = max(high, k.Limit)
		}
	}
	if len(rows) == 0 {
		return ""
	}
	height := float64(len(rows))*barStep + 44
	d := newDrawing(plotWidth, height)
	scale := axis{math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high))), nameWidth + 40, plotWidth - 14, true}
	for _, v := range scale.decades() {
		d.line(scale.at(v), 4, scale.at(v), height-36, "grid")
		d.text(scale.at(v), height-20, "tick", "middle", power(v))
	}
	for n, row := range rows {
		y := 16 + float64(n)*barStep
		e, class := float64(row.k.Error), "dot tier-"+row.tier
		if !row.k.Pass {
			class = "dot bad"
		}
		name := row.k.Kernel
		if row.tier != everyTier {
			name += ", " + row.tier
		}
		d.text(nameWidth+26, y+4, "name", "end", name)
		d.line(scale.at(scale.low), y, scale.at(row.k.Limit), y, "range")
		d.line(scale.at(row.k.Limit), y-7, scale.at(row.k.Limit), y+7, "limit")
		if !math.IsNaN(e) && !math.IsInf(e, 0) {
			d.dot(scale.at(e), y, 5, class, fmt.Sprintf("%s, tier %s: relative error %.2g, limit %.2g", row.k.Kernel, row.tier, e, row.k.Limit))
		} else {
			d.text(scale.from, y+4, "value alarm", "start", "not a number")
		}
	}
	d.text(scale.from, height-4, "tick", "start", "relative error against float64; the tick is the limit")
	return d.done("Errors of the kernels and their limits")
}

// copyPlot compares rates up and down, alone and beside computing.
func (r *Report) copyPlot() template.HTML {
	groups := []group{{name: "host to device"}, {name: "device to host"}}
	found := false
	for _, result := range r.Results {
		for _, c := range result.Copies {
			if c.Rate <= 0 {
				continue
			}
			found = true
			n, name, class := 0, "alone", "bar copy"
			if c.Direction == "down" {
				n = 1
			}
			if c.Beside != "nothing" {
				name, class = "beside computing", "bar copy busy"
			}
			text := three(c.Rate/1e9) + " GB/s"
			groups[n].bars = append(groups[n].bars, bar{name, text, fmt.Sprintf("%s, %s: %s in copies of %s", groups[n].name, name, text, memory.Size(c.Bytes)), class, c.Rate / 1e9})
		}
	}
	if !found {
		return ""
	}
	return barChart("Copy rates", "GB/s", groups, false)
}

// dispatchPlot shows the longest dispatches and the watchdog's limit on a logarithmic axis.
func (r *Report) dispatchPlot() template.HTML {
	var all []Dispatch
	low, high := 1e-2, 10.0
	for _, result := range r.Results {
		for _, d := range result.Dispatch {
			if d.Seconds > 0 {
				all = append(all, d)
				low, high = min(low, d.Seconds/2), max(high, d.Seconds)
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	height := float64(len(all))*barStep + 56
	d := newDrawing(plotWidth, height)
	scale := axis{math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high))), nameWidth, plotWidth - valueWidth, true}
	for _, v := range scale.decades() {
		d.line(scale.at(v), 24, scale.at(v), height-26, "grid")
		d.text(scale.at(v), height-10, "tick", "middle", roundSeconds(v))
	}
	for n, one := range all {
		y := 30 + float64(n)*barStep
		class := "bar dispatch"
		if one.Seconds > watchdog && r.Kind != "cpu" {
			class = "bar bad"
		}
		how := "measured"
		if !one.Measured {
			how = "estimated"
			class += " estimated"
		}
		d.text(nameWidth-10, y+12, "name", "end", one.Kernel)
		d.bar(nameWidth, y, scale.at(one.Seconds)-nameWidth, barHeight, class, fmt.Sprintf("%s of %.2g operations: %s, %s", one.Kernel, one.Cost, seconds(one.Seconds), how))
		text := seconds(one.Seconds)
		if !one.Measured {
			text = "≈ " + text
		}
		d.text(scale.at(one.Seconds)+7, y+12, "value", "start", text)
	}
	x := scale.at(watchdog)
	d.line(x, 20, x, height-26, "limit")
	d.text(x, 14, "tick", "middle", fmt.Sprintf("watchdog, %g s", watchdog))
	return d.done("The longest dispatches and the watchdog's limit")
}

// pinnedPlot shows how long each piece of pinned memory took while it grew.
func (r *Report) pinnedPlot() template.HTML {
	var points []PinnedPoint
	for _, result := range r.Results {
		points = append(points, result.Pinned...)
	}
	if len(points) < 2 {
		return ""
	}
	const height, left, bottom = 190.0, 64.0, 30.0
	d := newDrawing(plotWidth, height)
	most, rates := float64(points[len(points)-1].Total)/(1<<30), make([]float64, len(points))
	top, before := 0.0, int64(0)
	for n, p := range points {
		rates[n] = float64(p.Total-before) / (1 << 30) / max(p.Seconds, 1e-9)
		before = p.Total
		top = max(top, rates[n])
	}
	x, y := axis{0, most, left, plotWidth - 14, false}, axis{0, top * 1.05, height - bottom, 12, false}
	for _, v := range ticks(top) {
		d.line(left, y.at(v), plotWidth-14, y.at(v), "grid")
		d.text(left-8, y.at(v)+4, "tick", "end", label(v))
	}
	for _, v := range ticks(most) {
		d.text(x.at(v), height-12, "tick", "middle", label(v))
	}
	d.text(plotWidth-14, height-1, "tick", "end", "GiB pinned")
	d.text(0, 12, "tick", "start", "GiB a second")
	line, area := "", fmt.Sprintf("M%.1f %.1f", x.at(float64(points[0].Total)/(1<<30)), y.at(0))
	for n, p := range points {
		px, py := x.at(float64(p.Total)/(1<<30)), y.at(rates[n])
		verb := "L"
		if n == 0 {
			verb = "M"
		}
		line += fmt.Sprintf("%s%.1f %.1f", verb, px, py)
		area += fmt.Sprintf("L%.1f %.1f", px, py)
	}
	area += fmt.Sprintf("L%.1f %.1fz", x.at(most), y.at(0))
	d.path(area, "area")
	d.path(line, "curve")
	for n, p := range points {
		d.dot(x.at(float64(p.Total)/(1<<30)), y.at(rates[n]), 2.5, "dot copy", fmt.Sprintf("%s pinned, the last piece at %s GiB a second", memory.Size(p.Total), three(rates[n])))
	}
	return d.done("Pinned memory while it grew")
}
