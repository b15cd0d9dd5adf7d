package convert

import "math"

// Error is how far values are from the original's.
type Error struct {
	Max float64 `json:"max"` // largest difference, relative to the largest magnitude of its tensor
	RMS float64 `json:"rms"` // root of the mean squared difference, relative to that of the values
}

// deviation collects differences.
type deviation struct {
	count           int64
	squares, values float64 // sums of squares of the differences and of the original
	worst, largest  float64 // magnitudes
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
	d.count += o.count
	d.squares, d.values = d.squares+o.squares, d.values+o.values
	d.worst, d.largest = max(d.worst, o.worst), max(d.largest, o.largest)
}

// error is relative to the original; of zeros that stayed zeros it is zero.
func (d *deviation) error() Error {
	if d.squares == 0 || d.values == 0 {
		return Error{}
	}
	return Error{Max: d.worst / d.largest, RMS: math.Sqrt(d.squares / d.values)}
}
