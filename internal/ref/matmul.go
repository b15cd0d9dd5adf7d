package ref

import "math"

// Matmul returns x·wᵀ + bias: x is [m, k], w is [n, k], bias has n elements or none, the result is [m, n].
func Matmul(x, w, bias []float64, m, n, k int) []float64 {
	mustHold("Matmul x", x, m*k)
	mustHold("Matmul w", w, n*k)
	if bias != nil {
		mustHold("Matmul bias", bias, n)
	}
	y := make([]float64, m*n)
	for i := range m {
		row := x[i*k : (i+1)*k]
		for j := range n {
			sum := 0.0
			for l, v := range w[j*k : (j+1)*k] {
				sum += row[l] * v
			}
			if bias != nil {
				sum += bias[j]
			}
			y[i*n+j] = sum
		}
	}
	return y
}

// HeadMajor reorders y from [m, heads·d] to [heads, m, d].
func HeadMajor(y []float64, m, heads, d int) []float64 {
	mustHold("HeadMajor y", y, m*heads*d)
	out := make([]float64, len(y))
	for i := range m {
		for h := range heads {
			copy(out[(h*m+i)*d:(h*m+i+1)*d], y[(i*heads+h)*d:])
		}
	}
	return out
}

// GELU returns u·Φ(u), Φ the cumulative function of the normal distribution.
func GELU(u float64) float64 { return 0.5 * u * math.Erfc(-u/math.Sqrt2) }

// QuickGELU returns u·sigmoid(1.702u), the activation of OpenAI's CLIP.
func QuickGELU(u float64) float64 { return u / (1 + math.Exp(-1.702*u)) }

// SiLU returns u·sigmoid(u).
func SiLU(u float64) float64 { return u / (1 + math.Exp(-u)) }
