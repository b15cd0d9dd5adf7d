package doctor

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

const int8Layer = "int8 layer"

// int8Limit bounds the relative error of a sum of products of bytes, which is exact: it is rounded to fp32, so is the product
// of the two scales, and that of both, each by at most 2⁻²⁴.
const int8Limit = 3 * 0x1p-24

// int8Trial is a linear layer in 8-bit integers: rows × columns × k.
func int8Trial() trial {
	sizes := []size{{dims: [4]int{200, 130, 1088}, whole: true}, {dims: [4]int{2048, 2048, 2048}}, {dims: [4]int{4096, 4096, 4096}}, {dims: [4]int{16384, 4096, 4096}}}
	for n := range sizes {
		z := &sizes[n]
		m, cols, k := z.dims[0], z.dims[1], z.dims[2]
		z.text = fmt.Sprintf("%d×%d×%d", m, cols, k)
		z.work = 2 * float64(m) * float64(cols) * float64(k) / 1e12
		z.bytes = int64(m*k + cols*k + 4*m*cols)
	}
	return trial{int8Layer, "TFLOP/s", sizes, func(b *bench, z size) (func(*engine.Stream), func() verdict) {
		m, n, k := z.dims[0], z.dims[1], z.dims[2]
		x, w := b.bytes(m, k), b.bytes(n, k)
		xScale, wScale := b.noise(engine.F32, 1, m), b.noise(engine.F32, 1, n)
		y := b.tensor(engine.F32, m, n)
		return func(s *engine.Stream) {
				ops.Matmul(s, ops.MatmulArgs{X: x.Tensor, W: w.Tensor, Y: y, XScale: xScale.Tensor, WScale: wScale.Tensor})
			}, func() verdict {
				return verdict{b.compareInt8(z, x, w, xScale, wScale, y), int8Limit}
			}
	}}
}

// compareInt8 compares all of y, or 256 columns of 8 rows.
func (b *bench) compareInt8(z size, x, w, xScale, wScale data, y engine.Tensor) float64 {
	m, n, k := z.dims[0], z.dims[1], z.dims[2]
	rows, cols := samples(8, m), samples(256, n)
	if z.whole {
		rows, cols = samples(m, m), samples(n, n)
	}
	if b.err != nil {
		return math.NaN()
	}
	var weights []float64
	for _, col := range cols {
		for _, v := range w.part(int64(col*k), k) {
			weights = append(weights, v*wScale.at(int64(col)))
		}
	}
	var d distance
	read := b.reader(int8Layer, y, z.whole)
	for _, row := range rows {
		all := read(int64(row*n), n)
		if b.err != nil {
			return math.NaN()
		}
		want := ref.Matmul(x.part(int64(row*k), k), weights, nil, 1, len(cols), k)
		got := make([]float64, len(cols))
		for j, col := range cols {
			got[j] = all[col]
			want[j] *= xScale.at(int64(row))
		}
		d.add(got, want)
	}
	return d.relative()
}
