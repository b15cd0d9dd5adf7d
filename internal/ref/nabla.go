package ref

import (
	"math"
	"sort"
)

// Nabla describes NABLA's choice of key blocks (kandinsky-5, kandinsky/models/utils.py, nablaT_v2 and
// fast_sta_nabla) in float64. Tokens are in fractal order, so 64 consecutive ones are a block, and the blocks form a
// grid [Grid[0], Grid[1], Grid[2]] of frames, rows and columns.
type Nabla struct {
	Heads, Dim int
	Q, K       []float64 // [Heads, 64 * blocks, Dim]
	Grid       [3]int
	P          float64
	Window     [3]int // widths in blocks along t, y, x: 11, 3, 3 reach 5, 1, 1 blocks far
}

// Blocks returns the number of blocks.
func (n Nabla) Blocks() int { return n.Grid[0] * n.Grid[1] * n.Grid[2] }

// Mask returns [Heads, blocks, blocks], query block first, and for each entry how far the running sum that decided
// it lies from the threshold 1 - P: an implementation in fp32 may differ where that is tiny. The margin of an entry in
// the window is infinite.
func (n Nabla) Mask() (mask []bool, margin []float64) {
	s := n.Blocks()
	mustHold("Nabla Q", n.Q, n.Heads*s*64*n.Dim)
	mustHold("Nabla K", n.K, n.Heads*s*64*n.Dim)
	mask = make([]bool, n.Heads*s*s)
	margin = make([]float64, n.Heads*s*s)
	for h := range n.Heads {
		q := BlockMeans(n.Q[h*s*64*n.Dim:][:s*64*n.Dim], n.Dim)
		k := BlockMeans(n.K[h*s*64*n.Dim:][:s*64*n.Dim], n.Dim)
		for a := range s {
			at := (h*s + a) * s
			n.row(mask[at:at+s], margin[at:at+s], q[a*n.Dim:][:n.Dim], k, a)
		}
	}
	return mask, margin
}

// row decides one query block.
func (n Nabla) row(mask []bool, margin []float64, q, k []float64, a int) {
	p := make([]float64, len(mask))
	top := math.Inf(-1)
	for b := range p {
		for c := range n.Dim {
			p[b] += q[c] * k[b*n.Dim+c]
		}
		p[b] /= math.Sqrt(float64(n.Dim))
		top = math.Max(top, p[b])
	}
	sum := 0.0
	order := make([]int, len(p))
	for b := range p {
		p[b] = math.Exp(p[b] - top)
		sum += p[b]
		order[b] = b
	}
	sort.SliceStable(order, func(x, y int) bool { return p[order[x]] < p[order[y]] })
	running := 0.0
	for _, b := range order {
		running += p[b] / sum
		mask[b] = running >= 1-n.P
		margin[b] = math.Abs(running - (1 - n.P))
		if n.inWindow(a, b) {
			mask[b], margin[b] = true, math.Inf(1)
		}
	}
}

func (n Nabla) inWindow(a, b int) bool {
	size := n.Grid[1] * n.Grid[2]
	near := func(x, y, width int) bool { return max(x-y, y-x) <= width/2 }
	return near(a/size, b/size, n.Window[0]) &&
		near(a%size/n.Grid[2], b%size/n.Grid[2], n.Window[1]) &&
		near(a%n.Grid[2], b%n.Grid[2], n.Window[2])
}

// BlockMeans returns the mean of every 64 rows of x [rows, dim]: [rows/64, dim].
func BlockMeans(x []float64, dim int) []float64 {
	out := make([]float64, len(x)/64)
	for i, v := range x {
		row := i / dim
		out[row/64*dim+i%dim] += v / 64
	}
	return out
}

// FractalOrder returns, for a grid of t frames of h x w tokens (h and w multiples of 8), the raster index of every
// token in NABLA's order (kandinsky-5, kandinsky/models/utils.py, fractal_flatten): frame by frame, 8 x 8 patch by
// patch, row by row of the patch.
func FractalOrder(t, h, w int) []int {
	order := make([]int, 0, t*h*w)
	for f := range t {
		for y := 0; y < h; y += 8 {
			for x := 0; x < w; x += 8 {
				for i := range 64 {
					order = append(order, (f*h+y+i/8)*w+x+i%8)
				}
			}
		}
	}
	return order
}
