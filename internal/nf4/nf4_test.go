package nf4

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// published is the positive part of the map as bitsandbytes writes it into checkpoints (nested_quant_map).
var published = []float32{
	5.500000384017767e-07, 3.250000190746505e-06, 7.749999895168003e-06, 2.1249998098937795e-05, 4.374999844003469e-05,
	6.625000241911039e-05, 8.874999912222847e-05, 0.00015625001105945557, 0.0002687500382307917, 0.0003812500217463821,
	0.000493750034365803, 0.0006062500760890543, 0.0007187500596046448, 0.0008312499849125743, 0.0009437500848434865,
	0.001281249918974936, 0.001843750011175871, 0.002406249986961484, 0.002968749962747097, 0.0035312497057020664,
	0.004093749914318323, 0.0046562496572732925, 0.0052187503315508366, 0.005781250074505806, 0.006343749817460775,
	0.006906250026077032, 0.0074687497690320015, 0.008031249977648258, 0.008593750186264515, 0.009156249463558197,
	0.009718749672174454, 0.011406250298023224, 0.014218750409781933, 0.017031250521540642, 0.019843751564621925,
	0.02265625074505806, 0.025468749925494194, 0.028281250968575478, 0.031093750149011612, 0.033906251192092896,
	0.03671875223517418, 0.039531249552965164, 0.04234374687075615, 0.04515625163912773, 0.047968748956918716, 0.05078125,
	0.053593751043081284, 0.05640624836087227, 0.05921875312924385, 0.062031250447034836, 0.06484375149011612,
	0.0676562562584877, 0.07046874612569809, 0.07328125089406967, 0.07609374821186066, 0.07890625298023224,
	0.08171875774860382, 0.08453124761581421, 0.08734375238418579, 0.09015624970197678, 0.09296875447034836,
	0.09578125923871994, 0.09859374910593033, 0.10703125596046448, 0.12109375, 0.13515624403953552, 0.14921875298023224,
	0.16328124701976776, 0.17734375596046448, 0.19140625, 0.20546874403953552, 0.21953125298023224, 0.23359374701976776,
	0.24765624105930328, 0.26171875, 0.2757812738418579, 0.28984373807907104, 0.30390626192092896, 0.3179687261581421,
	0.33203125, 0.3460937440395355, 0.36015623807907104, 0.37421876192092896, 0.3882812261581421, 0.40234375,
	0.4164062440395355, 0.43046873807907104, 0.44453126192092896, 0.4585937261581421, 0.47265625, 0.48671871423721313,
	0.500781238079071, 0.5148437023162842, 0.5289062261581421, 0.54296875, 0.5570312738418579, 0.5710937976837158,
	0.585156261920929, 0.5992187261581421, 0.61328125, 0.6273437738418579, 0.6414062976837158, 0.655468761920929,
	0.6695312261581421, 0.68359375, 0.6976562738418579, 0.7117187976837158, 0.725781261920929, 0.7398437261581421,
	0.75390625, 0.7679687738418579, 0.782031238079071, 0.796093761920929, 0.8101562261581421, 0.82421875,
	0.8382812738418579, 0.852343738079071, 0.866406261920929, 0.8804687261581421, 0.89453125, 0.9085937738418579,
	0.922656238079071, 0.936718761920929, 0.9507812261581421, 0.96484375, 0.9789062738418579, 0.992968738079071,
}

func TestTheMapIsThePublishedOne(t *testing.T) {
	m := DynamicMap()
	if m[127] != 0 || m[255] != 1 || len(published) != 127 {
		t.Fatalf("0 is at 127: %v, 1 at 255: %v", m[127], m[255])
	}
	for i, v := range published {
		if m[128+i] != v || m[126-i] != -v {
			t.Errorf("points %d and %d are %v and %v, want ±%v", 128+i, 126-i, m[128+i], m[126-i], v)
		}
	}
}

func TestBoundsLieBetweenTheCodePoints(t *testing.T) {
	code := Code()
	for i, b := range bounds() {
		middle := (float64(code[i]) + float64(code[i+1])) / 2
		if math.Abs(float64(b)-middle) > 0x1p-24*max(math.Abs(middle), 0.1) {
			t.Errorf("bound %d is %v, the middle is %v", i, b, middle)
		}
	}
}

// codeOf is the plain rule.
func codeOf(x float32) uint8 {
	c := uint8(0)
	for _, b := range bounds() {
		if x > b {
			c++
		}
	}
	return c
}

// TestEveryNumberHasItsCodeUnderEveryScale looks at all bf16 numbers, of either sign, under scales of every mantissa.
func TestEveryNumberHasItsCodeUnderEveryScale(t *testing.T) {
	q := NewQuantizer()
	for mantissa := range uint16(128) {
		top := 123<<7 | mantissa
		src := make([]byte, 0, 4*(top+1))
		for v := range top + 1 {
			src = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(src, v), v|0x8000)
		}
		codes := make([]byte, len(src)/4)
		q.block(codes, src, top)
		inverse := 1 / numeric.F32FromBF16(top)
		for i, c := range codes {
			x := numeric.F32FromBF16(uint16(i)) * inverse
			if want := codeOf(x)<<4 | codeOf(-x); c != want {
				t.Fatalf("±%v of the scale %#x are codes %#x, want %#x", x, top, c, want)
			}
		}
	}
}

func TestScalesOfAnySizeGiveTheSameRule(t *testing.T) {
	q := NewQuantizer()
	for top := uint16(1); top < 0x7f80; top += 31 {
		var src []byte
		for i := range uint16(64) {
			src = binary.LittleEndian.AppendUint16(src, max(top, i*29)-i*29|i%3/2<<15)
		}
		codes, scales := make([]byte, 32), make([]float32, 1)
		q.Blocks(codes, scales, src)
		inverse := 1 / scales[0]
		for i := range 64 {
			x := value(src, i)
			if x != 0 {
				x *= inverse
			}
			if got, want := codes[i/2]>>(4*(1-i%2))&15, codeOf(x); got != want {
				t.Fatalf("%v of the scale %v is code %d, want %d", value(src, i), scales[0], got, want)
			}
		}
	}
}

// numberOf searches as the CUDA kernel does (bitsandbytes, csrc/kernels.cu, dQuantize): by halves from the middle, then by
// the middle between the last point and the neighbour on x's side.
func numberOf(points [256]float32, x float32) uint8 {
	at, low, high := 127, 0, 255
	for step := 64; step > 0; step /= 2 {
		if x > points[at] {
			low = at
			at += step
		} else {
			high = at
			at -= step
		}
	}
	if x > points[at] {
		if x > float32(points[high]+points[at])*0.5 {
			return uint8(high)
		}
	} else if x < float32(points[low]+points[at])*0.5 {
		return uint8(low)
	}
	return uint8(at)
}

func TestNearestPointsAreThoseOfTheCUDASearch(t *testing.T) {
	points := DynamicMap()
	n := newNearest(points)
	check := func(x float32) {
		t.Helper()
		for _, v := range []float32{x, math.Nextafter32(x, 2), math.Nextafter32(x, -2)} {
			if got, want := n.number(v), numberOf(points, v); got != want {
				t.Fatalf("%v is point %d, want %d", v, got, want)
			}
		}
	}
	for i := range 255 {
		check(points[i])
		check(float32(points[i]+points[i+1]) * 0.5)
	}
	check(1)
	check(-1)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		x := rng.Float32()*2 - 1
		check(x)
		check(x * x * x * x * x)
	}
}

// quantize makes a matrix of bf16 numbers.
func quantize(l Layout, src []byte) []byte {
	m := make([]byte, l.Bytes())
	scales := make([]float32, l.Blocks())
	NewQuantizer().Blocks(l.Codes(m), scales, src)
	t := Tables{Code: Code()}
	if l.Plain {
		for i, s := range scales {
			putFloat(m, l.ScaleWord()+i, s)
		}
	} else {
		t.Map, t.Mean = DynamicMap(), l.Nest(m, scales)
	}
	l.PutTables(m, t)
	l.ClearGaps(m)
	return m
}

func random(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 7))
	src := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(src[2*i:], numeric.BF16FromF32(float32(rng.NormFloat64()*0.02)))
	}
	return src
}

// TestMatricesAgreeWithThePlainRule quantizes number by number, and takes the parts apart by the documented format.
func TestMatricesAgreeWithThePlainRule(t *testing.T) {
	points := DynamicMap()
	for _, shape := range [][2]int{{1, 1}, {3, 7}, {5, 13}, {64, 64}, {33, 100}, {300, 257}} {
		l := Layout{Rows: shape[0], Cols: shape[1]}
		src := random(l.Elements(), uint64(l.Elements()))
		m := quantize(l, src)
		var scales []float32
		var sum float64
		for b := range l.Blocks() {
			s := float32(0)
			for i := b * Block; i < min((b+1)*Block, l.Elements()); i++ {
				s = max(s, float32(math.Abs(float64(value(src, i)))))
			}
			scales, sum = append(scales, s), sum+float64(s)
		}
		for i := range l.Elements() {
			q := l.Codes(m)[i/2] >> 4
			if i%2 == 1 {
				q = l.Codes(m)[i/2] & 15
			}
			if want := codeOf(value(src, i) * (1 / scales[i/Block])); q != want {
				t.Fatalf("%v: number %d is code %d, want %d", l, i, q, want)
			}
		}
		mean := float32(sum / float64(len(scales)))
		for b, s := range scales {
			top := float32(0)
			for _, o := range scales[b/NestedBlock*NestedBlock : min((b/NestedBlock+1)*NestedBlock, len(scales))] {
				top = max(top, float32(math.Abs(float64(o-mean))))
			}
			want := uint8(0)
			if top > 0 {
				want = numberOf(points, (s-mean)*(1/top))
			}
			if got := l.Scales(m)[b]; got != want {
				t.Fatalf("%v: scale %d is point %d, want %d", l, b, got, want)
			}
			if got, want := l.Scale(m, b), float32(points[want]*top)+mean; got != want {
				t.Fatalf("%v: scale %d is %v, want %v", l, b, got, want)
			}
		}
	}
}

func value(src []byte, i int) float32 {
	return numeric.F32FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
}

func TestNumbersComeBackFromAnyPlace(t *testing.T) {
	for _, plain := range []bool{false, true} {
		l := Layout{Rows: 37, Cols: 59, Plain: plain}
		m := quantize(l, random(l.Elements(), 3))
		whole := make([]byte, 2*l.Elements())
		l.DequantizeBF16(whole, m, 0)
		for i := range l.Elements() {
			q := l.Codes(m)[i/2] >> (4 * (1 - i%2)) & 15
			if got, want := binary.LittleEndian.Uint16(whole[2*i:]), numeric.BF16FromF32(Code()[q]*l.Scale(m, i/Block)); got != want {
				t.Fatalf("plain %v: number %d is %#x, want %#x", plain, i, got, want)
			}
		}
		for _, r := range [][2]int{{0, 1}, {1, 2}, {63, 66}, {64, 129}, {101, 2000}, {2182, 2183}} {
			part := make([]byte, 2*(r[1]-r[0]))
			l.DequantizeBF16(part, m, r[0])
			if !bytes.Equal(part, whole[2*r[0]:2*r[1]]) {
				t.Errorf("plain %v: numbers %d to %d differ from those of the whole", plain, r[0], r[1])
			}
		}
	}
}

func TestBlocksOfZerosAndOfTheSmallestNumbers(t *testing.T) {
	l := Layout{Rows: 3, Cols: 64, Plain: true}
	src := make([]byte, 2*l.Elements())
	binary.LittleEndian.PutUint16(src[2*64:], 1)       // 2⁻¹³³, below what has a reciprocal
	binary.LittleEndian.PutUint16(src[2*65:], 0x8001)  // its negative
	binary.LittleEndian.PutUint16(src[2*128:], 0x7f7f) // the largest number
	back := make([]byte, len(src))
	l.DequantizeBF16(back, quantize(l, src), 0)
	if !bytes.Equal(back, src) {
		t.Error("zeros, 2⁻¹³³ and the largest number did not come back as they were")
	}
}

// TestScalesAreNestedAlikeByAnyNumberOfGoroutines compares one part with several, of which the last is short.
func TestScalesAreNestedAlikeByAnyNumberOfGoroutines(t *testing.T) {
	l := Layout{Rows: 200_001, Cols: 64}
	scales := make([]float32, l.Blocks())
	rng := rand.New(rand.NewPCG(3, 7))
	for i := range scales {
		scales[i] = 0.05 + 0.01*float32(rng.NormFloat64())
	}
	want, got := make([]byte, l.Bytes()), make([]byte, l.Bytes())
	mean := l.Nest(got, scales)
	l.nest(want, scales, 0, mean, newNearest(DynamicMap()))
	if !bytes.Equal(got, want) {
		t.Error("the scales differ")
	}
}

func TestAMatrixTakesJustOverFourBitsANumber(t *testing.T) {
	l := Layout{Rows: 18944, Cols: 3584}
	if bits := float64(8*l.Bytes()) / float64(l.Elements()); bits < 4.12 || bits > 4.13 {
		t.Errorf("%v bits a number", bits)
	}
}

func BenchmarkQuantize(b *testing.B) {
	src := random(1<<20, 1)
	codes, scales := make([]byte, 1<<19), make([]float32, 1<<14)
	q := NewQuantizer()
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		q.Blocks(codes, scales, src)
	}
}

func BenchmarkNest(b *testing.B) {
	l := Layout{Rows: 1 << 12, Cols: 1 << 12}
	m := make([]byte, l.Bytes())
	scales := make([]float32, l.Blocks())
	rng := rand.New(rand.NewPCG(1, 7))
	for i := range scales {
		scales[i] = 0.05 + 0.01*float32(rng.NormFloat64())
	}
	b.SetBytes(int64(4 * len(scales)))
	for b.Loop() {
		l.Nest(m, scales)
	}
}
