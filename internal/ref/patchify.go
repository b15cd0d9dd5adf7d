package ref

// Patches describes the tokens of a video latent [Frames, Height, Width, channels]: one token for 1×2×2 places.
type Patches struct {
	Frames, Height, Width int
	Fractal               bool // NABLA's token order instead of row-major
}

// Token returns the number of the token at frame t, token row i, token column j.
func (p Patches) Token(t, i, j int) int {
	h, w := p.Height/2, p.Width/2
	if !p.Fractal {
		return (t*h+i)*w + j
	}
	return ((t*(h/8)+i/8)*(w/8)+j/8)*64 + i%8*8 + j%8
}

// Cut returns the token rows [tokens, 4·channels], the channel running fastest inside a row
// (kandinsky-5, kandinsky/models/nn.py, VisualEmbeddings).
func (p Patches) Cut(x []float64, channels int) []float64 {
	mustHold("Patches x", x, p.Frames*p.Height*p.Width*channels)
	y := make([]float64, len(x))
	p.each(channels, func(pixel, token, corner, c int) {
		y[token*4*channels+corner*channels+c] = x[pixel*channels+c]
	})
	return y
}

// Join is the way back from the output layer's rows, where the channel runs slowest (OutLayer of the same file).
func (p Patches) Join(rows []float64, channels int) []float64 {
	mustHold("Patches rows", rows, p.Frames*p.Height*p.Width*channels)
	y := make([]float64, len(rows))
	p.each(channels, func(pixel, token, corner, c int) {
		y[pixel*channels+c] = rows[token*4*channels+c*4+corner]
	})
	return y
}

func (p Patches) each(channels int, visit func(pixel, token, corner, c int)) {
	for t := range p.Frames {
		for y := range p.Height {
			for x := range p.Width {
				for c := range channels {
					visit((t*p.Height+y)*p.Width+x, p.Token(t, y/2, x/2), y%2*2+x%2, c)
				}
			}
		}
	}
}
