package bench

import (
	"regexp"
	"sort"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
)

// Kernel is what one kind of call took in a pass.
type Kernel struct {
	Label string        `json:"label"`
	Calls int           `json:"calls"`
	Time  time.Duration `json:"ns"`
}

// marks are moments, not calls.
var marks = regexp.MustCompile(`^(block|copy) \d+ (begin|end)$`)

// byKernel adds spans up by label, most time first, and returns the time from the first start to the last end. Spans of
// calls that run at the same time count in full each.
func byKernel(spans []engine.Span) ([]Kernel, time.Duration) {
	if len(spans) == 0 {
		return nil, 0
	}
	first, last := spans[0].Start, spans[0].End
	sums := map[string]*Kernel{}
	for _, s := range spans {
		first, last = min(first, s.Start), max(last, s.End)
		if marks.MatchString(s.Label) {
			continue
		}
		k := sums[s.Label]
		if k == nil {
			k = &Kernel{Label: s.Label}
			sums[s.Label] = k
		}
		k.Calls++
		k.Time += time.Duration(s.End - s.Start)
	}
	return sorted(sums), time.Duration(last - first)
}

// sizes are the last words of a kernel's label.
var sizes = regexp.MustCompile(` [^ ]*\d.*$`)

// byPart adds kernels up whose labels differ in sizes only.
func byPart(kernels []Kernel) []Kernel {
	sums := map[string]*Kernel{}
	for _, k := range kernels {
		label := sizes.ReplaceAllString(k.Label, "")
		if sums[label] == nil {
			sums[label] = &Kernel{Label: label}
		}
		sums[label].Calls += k.Calls
		sums[label].Time += k.Time
	}
	return sorted(sums)
}

// sorted lists kernels, most time first.
func sorted(sums map[string]*Kernel) []Kernel {
	out := make([]Kernel, 0, len(sums))
	for _, k := range sums {
		out = append(out, *k)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Time != out[j].Time {
			return out[i].Time > out[j].Time
		}
		return out[i].Label < out[j].Label
	})
	return out
}
