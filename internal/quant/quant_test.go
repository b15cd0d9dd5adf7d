package quant

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

var blocks = map[string]Block{"q4_0": Q4_0, "q4_1": Q4_1, "q5_0": Q5_0, "q5_1": Q5_1, "q8_0": Q8_0}

// value is the slow reference of one element of a record, in float64 by the formats' definitions.
func value(b Block, record []byte, j int) float64 {
	f16 := func(at int) float64 {
		return float64(numeric.F32FromF16(binary.LittleEndian.Uint16(record[at:])))
	}
	nibble := func(at int) float64 {
		if j < 16 {
			return float64(record[at+j] & 15)
		}
		return float64(record[at+j-16] >> 4)
	}
	fifth := func(at int) float64 {
		return 16 * float64(record[at+j/8]>>(j%8)&1)
	}
	switch b {
	case Q4_0:
		return f16(0) * (nibble(2) - 8)
	case Q4_1:
		return f16(0)*nibble(4) + f16(2)
	case Q5_0:
		return f16(0) * (nibble(6) + fifth(2) - 16)
	case Q5_1:
		return f16(0)*(nibble(8)+fifth(4)) + f16(2)
	}
	return f16(0) * float64(int8(record[2+j]))
}

func TestDecodingFollowsTheDefinitions(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, b := range blocks {
		t.Run(name, func(t *testing.T) {
			const n = 200
			src := make([]byte, n*b.Bytes())
			for i := range src {
				src[i] = byte(rng.Uint32())
			}
			for k := range n { // scales and minima that are finite
				for at := 0; at < 4; at += 2 {
					if h := binary.LittleEndian.Uint16(src[k*b.Bytes()+at:]); h&0x7c00 == 0x7c00 && (at == 0 || b == Q4_1 || b == Q5_1) {
						binary.LittleEndian.PutUint16(src[k*b.Bytes()+at:], h&^0x4000)
					}
				}
			}
			got := make([]float32, n*BlockLen)
			b.Decode(got, src)
			for i, g := range got {
				record := src[i/BlockLen*b.Bytes():][:b.Bytes()]
				// d·q is exact in float32 (11 + 8 bits); adding m rounds once.
				if want := float32(value(b, record, i%BlockLen)); g != want {
					t.Fatalf("element %d of record %x is %g, want %g", i%BlockLen, record, g, want)
				}
			}
		})
	}
}

func TestEncodingIsAsNearAsTheFormatAllows(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for name, b := range blocks {
		t.Run(name, func(t *testing.T) {
			for round := range 300 {
				in := make([]float32, BlockLen)
				scale := math.Exp(rng.NormFloat64() * 3)
				for j := range in {
					in[j] = float32(rng.NormFloat64()*scale + scale*float64(round%3))
				}
				record, out := make([]byte, b.Bytes()), make([]float32, BlockLen)
				b.Encode(record, in)
				b.Decode(out, record)
				step := math.Abs(float64(half(record)))
				for j, f := range in {
					// Half a step, and for what lies at the ends: the scale and the minimum are rounded to 11 bits or to
					// multiples of 2⁻²⁴, and formats without a minimum reach one step less far on the side that the largest
					// element is not on.
					limit := step/2 + float64(Amax(in))*0x1p-10 + 127*0x1p-25
					if b == Q4_0 || b == Q5_0 {
						limit += step / 2
					}
					if diff := math.Abs(float64(out[j]) - float64(f)); !(diff <= limit*(1+1e-6)) {
						t.Fatalf("round %d: %g became %g, off by %g, allowed %g (step %g)", round, f, out[j], diff, limit, step)
					}
				}
			}
		})
	}
}

func TestBlocksOfEqualValuesAreExact(t *testing.T) {
	for name, b := range blocks {
		for _, f := range []float32{0, 1, -1, 0.5, -0.25, 127, 1e-12} {
			in, out, record := make([]float32, BlockLen), make([]float32, BlockLen), make([]byte, b.Bytes())
			for j := range in {
				in[j] = f
			}
			b.Encode(record, in)
			b.Decode(out, record)
			for j := range out {
				want := float64(f)
				if f == 1e-12 { // below fp16's smallest scale
					want = 0
				}
				if math.Abs(float64(out[j])-want) > math.Abs(want)*0x1p-10 {
					t.Errorf("%s: 32 times %g became %g", name, f, out[j])
				}
			}
		}
	}
}

func TestE4M3Table(t *testing.T) {
	table := E4M3()
	for code, want := range map[int]float32{0: 0, 1: 0x1p-9, 7: 7 * 0x1p-9, 8: 0x1p-6, 0x38: 1, 0x7e: 448, 0xfe: -448, 0xb8: -1, 0x39: 1.125} {
		if table[code] != want {
			t.Errorf("code %#x is %g, want %g", code, table[code], want)
		}
	}
	for code, f := range table {
		if nan := code&0x7f == 0x7f; nan != (f != f) {
			t.Errorf("code %#x is %g", code, f)
		}
	}
}

func TestE5M2Table(t *testing.T) {
	table := E5M2()
	for code, want := range map[int]float32{0: 0, 1: 0x1p-16, 3: 3 * 0x1p-16, 4: 0x1p-14, 0x3c: 1, 0x7b: 57344, 0xbc: -1, 0x7c: float32(math.Inf(1))} {
		if table[code] != want {
			t.Errorf("code %#x is %g, want %g", code, table[code], want)
		}
	}
	if f := table[0x7d]; f == f {
		t.Errorf("code 0x7d is %g, want NaN", f)
	}
}

// TestE4M3IsTheNearest compares with a search through the table, ties to the even code.
func TestE4M3IsTheNearest(t *testing.T) {
	table := E4M3()
	nearest := func(f float32) byte {
		best, at := math.Inf(1), byte(0)
		for code := range byte(0x7f) {
			diff := math.Abs(math.Abs(float64(f)) - float64(table[code]))
			if diff < best || diff == best && code%2 == 0 {
				best, at = diff, code
			}
		}
		return at | byte(math.Float32bits(f)>>24&0x80)
	}
	check := func(f float32) {
		var got [1]byte
		EncodeE4M3(got[:], []float32{f}, 1)
		if want := nearest(f); got[0] != want {
			t.Fatalf("%g has code %#x, want %#x", f, got[0], want)
		}
	}
	for code := range 0x7e {
		mid := (table[code] + table[code+1]) / 2
		for _, f := range []float32{table[code], mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, 1000)} {
			check(f)
			check(-f)
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		check(float32(rng.NormFloat64() * math.Exp(rng.NormFloat64()*4)))
	}
}

func TestInt8RoundsAndSaturates(t *testing.T) {
	got := make([]byte, 6)
	EncodeInt8(got, []float32{0, 0.25, 0.75, 2.5, 1000, -1000}, 0.5)
	for i, want := range []int8{0, 0, 2, 5, 127, -127} {
		if int8(got[i]) != want {
			t.Errorf("element %d is %d, want %d", i, int8(got[i]), want)
		}
	}
	EncodeInt8(got, make([]float32, 6), 0)
	if got[0] != 0 {
		t.Errorf("zero by a scale of zero is %d", got[0])
	}
	out := make([]float32, 6)
	Int8().Scaled(0.5).Decode(out, []byte{0, 1, 2, 255, 127, 128})
	for i, want := range []float32{0, 0.5, 1, -0.5, 63.5, -64} {
		if out[i] != want {
			t.Errorf("element %d is %g, want %g", i, out[i], want)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add(uint8(Q5_1), []byte("some numbers that are not all small"))
	f.Fuzz(func(t *testing.T, format uint8, data []byte) {
		b := Block(format)
		if b.Bytes() == 0 {
			return
		}
		n := len(data) / b.Bytes()
		values := make([]float32, n*BlockLen)
		b.Decode(values, data[:n*b.Bytes()])
		for k := range n {
			run := values[k*BlockLen:][:BlockLen]
			if a := Amax(run); a != a || a > 60000 {
				continue
			}
			// What a record decodes to can be coded again with little loss.
			record, again := make([]byte, b.Bytes()), make([]float32, BlockLen)
			b.Encode(record, run)
			b.Decode(again, record)
			step := math.Abs(float64(half(record)))
			for j := range run {
				if diff := math.Abs(float64(run[j]) - float64(again[j])); !(diff <= step+float64(Amax(run))*0x1p-9+0x1p-24*32) {
					t.Fatalf("%v: %g became %g (step %g)", b, run[j], again[j], step)
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	const n = 1 << 16
	dst := make([]float32, n)
	for name, format := range blocks {
		b.Run(name, func(b *testing.B) {
			src := make([]byte, n/BlockLen*format.Bytes())
			b.SetBytes(2 * n) // as bf16
			for b.Loop() {
				format.Decode(dst, src)
			}
		})
	}
	b.Run("fp8", func(b *testing.B) {
		src, table := make([]byte, n), E4M3()
		b.SetBytes(2 * n)
		for b.Loop() {
			table.Decode(dst, src)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	const n = 1 << 16
	src := make([]float32, n)
	for i := range src {
		src[i] = float32(math.Sin(float64(i)))
	}
	run := func(name string, encode func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(2 * n)
			for b.Loop() {
				encode()
			}
		})
	}
	for name, format := range blocks {
		dst := make([]byte, n/BlockLen*format.Bytes())
		run(fmt.Sprint(name), func() { format.Encode(dst, src) })
	}
	dst := make([]byte, n)
	run("fp8", func() { EncodeE4M3(dst, src, 1./448) })
	run("int8", func() { EncodeInt8(dst, src, 1./127) })
}
