package ref

import "math"

// RowNorm describes the normalisation of rows of Dim elements: y = n(x)·Weight + Bias, then y·(1+Scale) + Shift. A nil
// slice leaves its part out.
type RowNorm struct {
	Dim int
	Eps float64
	// Centre takes the mean off and divides by the deviation (LayerNorm, biased variance); without it rows are divided by
	// their root mean square (RMSNorm).
	Centre                     bool
	Weight, Bias, Scale, Shift []float64 // [Dim] or nil
}

// Apply normalises x, whole rows of Dim elements.
func (r RowNorm) Apply(x []float64) []float64 {
	mustHold("RowNorm x", x, len(x)/r.Dim*r.Dim)
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += r.Dim {
		r.row(y[at:at+r.Dim], x[at:at+r.Dim])
	}
	return y
}

func (r RowNorm) row(y, x []float64) {
	n := float64(r.Dim)
	mean, squares := 0.0, 0.0
	if r.Centre {
		for _, v := range x {
			mean += v / n
		}
	}
	for _, v := range x {
		squares += (v - mean) * (v - mean) / n
	}
	deviation := math.Sqrt(squares + r.Eps)
	for i, v := range x {
		v = (v - mean) / deviation
		if r.Weight != nil {
			v *= r.Weight[i]
		}
		if r.Bias != nil {
			v += r.Bias[i]
		}
		if r.Scale != nil {
			v = v*(1+r.Scale[i]) + r.Shift[i]
		}
		y[i] = v
	}
}
