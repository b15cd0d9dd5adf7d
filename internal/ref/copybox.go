package ref

// Box is a run of elements of a flat slice along four axes: element p lies at Offset + Σ p[k]·Stride[k].
type Box struct {
	Data   []float64
	Offset int
	Stride [4]int
}

func (b Box) at(p [4]int) int {
	at := b.Offset
	for k, i := range p {
		at += i * b.Stride[k]
	}
	return at
}

// CopyBox copies a box of the given size. With extent > 0 it fades along axis: dst = src·(1 − i/extent) + dst·i/extent,
// i the place along the axis (kandinsky-5, kandinsky/models/vae.py, blend_v).
func CopyBox(dst, src Box, size [4]int, axis, extent int) {
	var p [4]int
	for p[0] = range size[0] {
		for p[1] = range size[1] {
			for p[2] = range size[2] {
				for p[3] = range size[3] {
					v := src.Data[src.at(p)]
					if extent > 0 {
						w := float64(p[axis]) / float64(extent)
						v = v*(1-w) + dst.Data[dst.at(p)]*w
					}
					dst.Data[dst.at(p)] = v
				}
			}
		}
	}
}
