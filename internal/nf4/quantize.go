package nf4

import (
	"encoding/binary"
	"math"
	"runtime"
	"sync"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Quantizer turns numbers into codes. It is read-only once made, for any number of goroutines.
//
// What a number's code is depends on the mantissas of number and scale, 7 bits each in bf16, on how far apart their exponents
// are, and on the sign: a table has all cases. A number that is more than five powers of two below its block's scale is 0.
type Quantizer struct {
	codes [128][2 * signOffset]uint8 // by the scale's mantissa; place says where a number's code is
}

const (
	signOffset = 1024    // of negative numbers
	depth      = 5 * 128 // bf16 patterns from an exponent to the fifth below it
	// Scales from the patterns least to most-1 have reciprocals that keep every bit, and so have numbers five powers below.
	least = 7 << 7
	most  = 250 << 7
)

// NewQuantizer makes the table.
func NewQuantizer() *Quantizer {
	q := &Quantizer{}
	const one = 127 << 7 // the pattern of 1.0
	for mantissa := range q.codes {
		inverse := 1 / numeric.F32FromBF16(uint16(one+mantissa))
		for k := range depth + 128 {
			x := numeric.F32FromBF16(uint16(one - depth + k))
			q.codes[mantissa][k] = code(x * inverse)
			q.codes[mantissa][signOffset+k] = code(-x * inverse)
		}
	}
	return q
}

// code returns the code of x, a number divided by its block's scale.
func code(x float32) uint8 {
	c := uint8(0)
	for _, b := range bounds() {
		if x > b {
			c++
		}
	}
	return c
}

// Blocks quantizes bf16 numbers (little-endian) that begin at a block: a scale for every block, two codes a byte. The last
// block may be short. Numbers must be finite.
func (q *Quantizer) Blocks(codes []byte, scales []float32, src []byte) {
	for i := range scales {
		block := src[2*Block*i : min(2*Block*(i+1), len(src))]
		top := largest(block)
		scales[i] = numeric.F32FromBF16(top)
		if dst := codes[Block/2*i:]; top < least || top >= most {
			rareBlock(dst, block, scales[i])
		} else {
			q.block(dst, block, top)
		}
	}
}

// largest returns the largest magnitude of bf16 numbers, four at a time while there are as many.
func largest(src []byte) uint16 {
	var a, b, c, d uint64
	for ; len(src) >= 8; src = src[8:] {
		v := binary.LittleEndian.Uint64(src)
		a, b, c, d = max(a, v&0x7fff), max(b, v>>16&0x7fff), max(c, v>>32&0x7fff), max(d, v>>48&0x7fff)
	}
	for ; len(src) >= 2; src = src[2:] {
		a = max(a, uint64(binary.LittleEndian.Uint16(src)&0x7fff))
	}
	return uint16(max(a, b, c, d))
}

// block quantizes one block whose scale has the pattern top.
func (q *Quantizer) block(codes, src []byte, top uint16) {
	table := &q.codes[top&127]
	low := int32(top&^127) - depth
	for ; len(src) >= 8; src, codes = src[8:], codes[2:] {
		v := binary.LittleEndian.Uint64(src)
		codes[1] = table[place(uint32(v>>32)&0xffff, low)]<<4 | table[place(uint32(v>>48), low)]
		codes[0] = table[place(uint32(v)&0xffff, low)]<<4 | table[place(uint32(v>>16)&0xffff, low)]
	}
	for i := 0; i < len(src)/2; i++ {
		putCode(codes, i, table[place(uint32(binary.LittleEndian.Uint16(src[2*i:])), low)])
	}
}

// place is where the code of a bf16 pattern is: what lies below the table is as its lowest entry.
func place(v uint32, low int32) uint32 {
	return (uint32(max(int32(v&0x7fff)-low, 0)) + v>>15*signOffset) % (2 * signOffset)
}

// putCode writes code i of a block; an odd one follows its neighbour.
func putCode(codes []byte, i int, c uint8) {
	if i%2 == 0 {
		codes[i/2] = c<<4 | zeroCode
	} else {
		codes[i/2] = codes[i/2]&0xf0 | c
	}
}

// rareBlock quantizes number by number. Numbers are multiplied by the reciprocal of the scale, as bitsandbytes does. Where that
// is infinite (a scale below 2⁻¹²⁸, and that of zeros) a zero is 0, which bitsandbytes leaves to what NaN compares as.
func rareBlock(codes, src []byte, scale float32) {
	inverse := 1 / scale
	for i := 0; i < len(src)/2; i++ {
		x := numeric.F32FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
		if x != 0 {
			x *= inverse
		}
		putCode(codes, i, code(x))
	}
}

// Nest quantizes the scales of a matrix into their parts of m and returns the mean, summed in double precision and rounded
// (bitsandbytes sums in fp32, in an order of the library's choosing). Of two points that are equally near it takes the one
// with the even number, as the search in the CUDA kernel does.
func (l Layout) Nest(m []byte, scales []float32) (mean float32) {
	var sum float64
	for _, s := range scales {
		sum += float64(s)
	}
	mean = float32(sum / float64(len(scales)))
	points := newNearest(DynamicMap())
	const least = 256 * NestedBlock // that are worth a goroutine
	part := max(least, (len(scales)/runtime.GOMAXPROCS(0)+NestedBlock)/NestedBlock*NestedBlock)
	var group sync.WaitGroup
	for from := 0; from < len(scales); from += part {
		group.Go(func() { l.nest(m, scales[from:min(from+part, len(scales))], from, mean, points) })
	}
	group.Wait()
	return mean
}

// nest quantizes scales from number first on, the first of its block.
func (l Layout) nest(m []byte, scales []float32, first int, mean float32, points *nearest) {
	codes, nested := l.Scales(m)[first:], l.NestedScales(m)[4*first/NestedBlock:]
	for i := 0; i < len(scales); i += NestedBlock {
		block := scales[i:min(i+NestedBlock, len(scales))]
		var top float32
		for _, s := range block {
			top = max(top, float32(math.Abs(float64(s-mean))))
		}
		putFloat(nested, i/NestedBlock, top)
		inverse := 1 / top
		for k, s := range block {
			if math.IsInf(float64(inverse), 0) {
				codes[i+k] = 0 // map[0]·0 is 0
				continue
			}
			codes[i+k] = points.number((s - mean) * inverse)
		}
	}
}

// nearest finds the nearest of 256 points.
type nearest struct {
	edge  [256]float32     // by point: what must be exceeded for the next one
	below [cells + 2]uint8 // by cell of [-1, 1]: points whose edge is below it
}

const cells = 256 // over [-1, 1]: of the upper decades, which are the most of it, each has at most one edge

func newNearest(points [256]float32) *nearest {
	n := &nearest{}
	for i := range 255 {
		n.edge[i] = float32(points[i]+points[i+1]) * 0.5
		if i%2 == 1 { // the even point is above
			n.edge[i] = math.Nextafter32(n.edge[i], -2)
		}
	}
	n.edge[255] = float32(math.Inf(1))
	for cell := range n.below {
		low := (float64(cell) - 1e-3 - cells/2) / (cells / 2) // a number's cell is rounded by less than a thousandth
		for n.below[cell] < 255 && float64(n.edge[n.below[cell]]) < low {
			n.below[cell]++
		}
	}
	return n
}

func (n *nearest) number(x float32) uint8 {
	k := n.below[max(0, min(cells+1, int32(float32(x*(cells/2))+cells/2)))]
	k += one(x > n.edge[k]) // as often as not, so no branch
	for x > n.edge[k] {
		k++
	}
	return k
}

func one(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
