package convert

import "math"

// Error is how far values are from the original's.
type Error struct {
	Max float64 `json:"max"` // largest difference, relative to the largest magnitude of its tensor
	RMS float64 `json:"rms"` // root of the mean squared difference, relative to that of the values
}

// deviation collects differences.
type deviation struct {
	Count   int64   `json:"count"`
	Squares float64 `json:"squares"` // sum of those of the differences
	Values  float64 `json:"values"`  // and of those of the original
	Worst   float64 `json:"worst"`   // magnitude of a difference
	Largest float64 `json:"largest"` // and of an original value
}

// compare adds the differences of two runs of values.
func (d *deviation) compare(original, now []float32) {
	var squares, values float64
	var worst, largest float32
	for i, f := range original {
		diff := now[i] - f
		squares += float64(diff) * float64(diff)
		values += float64(f) * float64(f)
		worst, largest = max(worst, diff, -diff), max(largest, f, -f)
	}
	d.add(deviation{int64(len(original)), squares, values, float64(worst), float64(largest)})
}

// add joins two collections.
func (d *deviation) add(o deviation) {
	d.Count += o.Count
	d.Squares, d.Values = d.Squares+o.Squares, d.Values+o.Values
	d.Worst, d.Largest = max(d.Worst, o.Worst), max(d.Largest, o.Largest)
}

// error is relative to the original; of zeros that stayed zeros it is zero.
func (d *deviation) error() Error {
	if d.Squares == 0 || d.Values == 0 {
		return Error{}
	}
	return Error{Max: d.Worst / d.Largest, RMS: math.Sqrt(d.Squares / d.Values)}
}
