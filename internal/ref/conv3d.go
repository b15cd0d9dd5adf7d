package ref

// Conv3D describes a causal 3-D convolution over channels-last data: input [T, H, W, C], weights [O, kt, kh, kw, C],
// output [T', H', W', O]. The edge is replicated: kh/2 rows and kw/2 columns on both sides, kt−1 frames before and none
// after (Kandinsky 5's HunyuanVideo autoencoder, diffusers autoencoder_kl_hunyuan_video.py). Triples are (time, height,
// width).
type Conv3D struct {
	// Size is the input's (T, H, W); In and Out count channels.
	Size    [3]int
	In, Out int
	Kernel  [3]int
	// Stride and Upsample count as (1, 1, 1) when zero. Upsample repeats rows and columns and, in time, every frame but
	// the first, before the convolution.
	Stride, Upsample [3]int
}

func (c Conv3D) normal() Conv3D {
	if c.Stride == [3]int{} {
		c.Stride = [3]int{1, 1, 1}
	}
	if c.Upsample == [3]int{} {
		c.Upsample = [3]int{1, 1, 1}
	}
	return c
}

// upsampled returns the size of the input after upsampling.
func (c Conv3D) upsampled() [3]int {
	return [3]int{(c.Size[0]-1)*c.Upsample[0] + 1, c.Size[1] * c.Upsample[1], c.Size[2] * c.Upsample[2]}
}

// OutSize returns the output's (T', H', W').
func (c Conv3D) OutSize() [3]int {
	c = c.normal()
	var out [3]int
	for axis, n := range c.upsampled() {
		pad := c.Kernel[axis] / 2 * 2
		if axis == 0 {
			pad = c.Kernel[0] - 1
		}
		out[axis] = (n+pad-c.Kernel[axis])/c.Stride[axis] + 1
	}
	return out
}

// Apply convolves x; bias has Out elements or none.
func (c Conv3D) Apply(x, w, bias []float64) []float64 {
	c = c.normal()
	taps := c.Kernel[0] * c.Kernel[1] * c.Kernel[2]
	mustHold("Conv3D x", x, c.Size[0]*c.Size[1]*c.Size[2]*c.In)
	mustHold("Conv3D w", w, c.Out*taps*c.In)
	size := c.OutSize()
	y := make([]float64, 0, size[0]*size[1]*size[2]*c.Out)
	patch := make([]float64, taps*c.In)
	for t := range size[0] {
		for h := range size[1] {
			for wd := range size[2] {
				c.unfold(patch, x, t*c.Stride[0], h*c.Stride[1], wd*c.Stride[2])
				y = append(y, Matmul(patch, w, bias, 1, c.Out, len(patch))...)
			}
		}
	}
	return y
}

// unfold gathers the inputs of one output position, whose first tap lies at (t − kt + 1, h − kh/2, w − kw/2) of the
// upsampled input.
func (c Conv3D) unfold(patch, x []float64, t, h, w int) {
	full := c.upsampled()
	at := 0
	for dt := range c.Kernel[0] {
		st := max(t+dt-c.Kernel[0]+1, 0)
		st = (st + c.Upsample[0] - 1) / c.Upsample[0] // the first frame is not repeated
		for dh := range c.Kernel[1] {
			sh := min(max(h+dh-c.Kernel[1]/2, 0), full[1]-1) / c.Upsample[1]
			for dw := range c.Kernel[2] {
				sw := min(max(w+dw-c.Kernel[2]/2, 0), full[2]-1) / c.Upsample[2]
				from := ((st*c.Size[1]+sh)*c.Size[2] + sw) * c.In
				at += copy(patch[at:], x[from:from+c.In])
			}
		}
	}
}
