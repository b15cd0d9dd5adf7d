package ref

import "math"

// Rope turns rows x [heads, tokens, dim] by the angles [tokens, dim/2]: pair j of a row by angle j of its token. Pairs are
// neighbours (2j, 2j+1), with split the elements (j, j + dim/2).
func Rope(x, angles []float64, heads, tokens, dim int, split bool) []float64 {
	mustHold("Rope x", x, heads*tokens*dim)
	mustHold("Rope angles", angles, tokens*dim/2)
	y := make([]float64, len(x))
	for h := range heads {
		for t := range tokens {
			row := (h*tokens + t) * dim
			for j := range dim / 2 {
				a, b := row+2*j, row+2*j+1
				if split {
					a, b = row+j, row+j+dim/2
				}
				sin, cos := math.Sincos(angles[t*dim/2+j])
				y[a] = x[a]*cos - x[b]*sin
				y[b] = x[b]*cos + x[a]*sin
			}
		}
	}
	return y
}
