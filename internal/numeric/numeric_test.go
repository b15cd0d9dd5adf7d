package numeric

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// roundTo is the slow reference: f rounded to a format with the given explicit mantissa bits, smallest normal
// exponent and largest finite value, in exact float64 arithmetic.
func roundTo(f float64, mantissa, minExp int, limit float64) float64 {
	if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return f
	}
	_, e := math.Frexp(f) // f = m·2^e, m in [0.5, 1)
	ulp := math.Ldexp(1, max(e-1, minExp)-mantissa)
	r := math.RoundToEven(f/ulp) * ulp
	if math.Abs(r) > limit {
		return math.Inf(int(math.Copysign(1, f)))
	}
	return math.Copysign(r, f)
}

func refF16(f float32) float32 { return float32(roundTo(float64(f), 10, -14, 65504)) }
func refBF16(f float32) float32 {
	return float32(roundTo(float64(f), 7, -126, float64(math.Float32frombits(0x7f7f0000))))
}

func TestNarrowingMatchesExactRounding(t *testing.T) {
	formats := []struct {
		name   string
		narrow func(float32) uint16
		widen  func(uint16) float32
		ref    func(float32) float32
	}{
		{"bf16", BF16FromF32, F32FromBF16, refBF16},
		{"f16", F16FromF32, F32FromF16, refF16},
	}
	for _, fm := range formats {
		check := func(t *testing.T, f float32) {
			t.Helper()
			got, want := fm.widen(fm.narrow(f)), fm.ref(f)
			if math.Float32bits(got) != math.Float32bits(want) {
				t.Fatalf("%s of %g (%#08x) = %g, want %g", fm.name, f, math.Float32bits(f), got, want)
			}
		}
		t.Run(fm.name+" is exact on every bit pattern and nearest around every midpoint", func(t *testing.T) {
			for h := 0; h < 1<<16; h++ {
				w := fm.widen(uint16(h))
				if w != w {
					if g := fm.narrow(w); fm.widen(g) == fm.widen(g) {
						t.Fatalf("NaN %#04x became %#04x", h, g)
					}
					continue
				}
				if g := fm.narrow(w); g != uint16(h) {
					t.Fatalf("%#04x widened and narrowed is %#04x", h, g)
				}
				next := fm.widen(uint16(h) + 1)
				if math.IsInf(float64(w), 0) || next != next || math.IsInf(float64(next), 0) {
					continue
				}
				mid := float32((float64(w) + float64(next)) / 2)
				for _, f := range []float32{mid, math.Nextafter32(mid, w), math.Nextafter32(mid, next)} {
					check(t, f)
				}
			}
		})
		t.Run(fm.name+" is nearest on random bits and at the edges of its range", func(t *testing.T) {
			for _, f := range []float32{65504, 65519.996, 65520, -65520, 1e38, math.MaxFloat32, math.SmallestNonzeroFloat32,
				5.9604645e-08, 2.9802322e-08, 2.9802326e-08, float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1))} {
				check(t, f)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 2_000_000 {
				if f := math.Float32frombits(rng.Uint32()); f == f {
					check(t, f)
				}
			}
		})
		t.Run(fm.name+" keeps NaN and its sign whatever the payload", func(t *testing.T) {
			for _, u := range []uint32{0x7f800001, 0xff800001, 0x7fc00000, 0xffffffff, 0x7f80ffff} {
				g := fm.narrow(math.Float32frombits(u))
				if f := fm.widen(g); f == f || uint32(g)>>15 != u>>31 {
					t.Errorf("NaN %#08x became %#04x", u, g)
				}
			}
		})
	}
}

func TestBulkConversionsAgreeWithScalars(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	src := make([]float32, 1003)
	for i := range src {
		src[i] = float32(rng.NormFloat64() * 100)
	}
	b16, h16, f32 := make([]byte, 2*len(src)), make([]byte, 2*len(src)), make([]byte, 4*len(src))
	BF16FromF32s(b16, src)
	F16FromF32s(h16, src)
	BytesFromF32s(f32, src)
	fromB, fromH, fromF := make([]float32, len(src)), make([]float32, len(src)), make([]float32, len(src))
	F32sFromBF16(fromB, b16)
	F32sFromF16(fromH, h16)
	F32sFromBytes(fromF, f32)
	for i, f := range src {
		if fromB[i] != RoundBF16(f) || fromH[i] != RoundF16(f) || fromF[i] != f {
			t.Fatalf("element %d of %g: bf16 %g, f16 %g, f32 %g", i, f, fromB[i], fromH[i], fromF[i])
		}
	}
}

func TestBulkConversionPanicsOnMismatchedLengths(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("3 bytes for two bf16 elements were accepted")
		}
	}()
	F32sFromBF16(make([]float32, 2), make([]byte, 3))
}

func BenchmarkF16FromF32s(b *testing.B) {
	src := make([]float32, 1<<16)
	for i := range src {
		src[i] = float32(i) * 0.01
	}
	dst := make([]byte, 2*len(src))
	b.SetBytes(int64(4 * len(src)))
	for b.Loop() {
		F16FromF32s(dst, src)
	}
}

func BenchmarkF32sFromBF16(b *testing.B) {
	src := make([]byte, 2<<16)
	dst := make([]float32, 1<<16)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		F32sFromBF16(dst, src)
	}
}

func TestBF16FromF32BytesRoundsAsOneByOne(t *testing.T) {
	interesting := []uint32{0, 1, 0x80000000, 0x7f7fffff, 0x7f7f7fff, 0x7f7f8000, 0xff7f7fff, 0x3f808000, 0x3f818000, 0x3f80ffff, 0x00008000, 0x00007fff,
		0x7f800000, 0xff800000, 0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f800001}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := 0; n < 40; n++ {
		src, dst := make([]byte, 4*n), make([]byte, 2*n)
		for round := range 200 {
			finite := true
			for k := range n {
				u := rng.Uint32()
				switch {
				case round%4 == 0 && rng.IntN(n) == 0:
					u = interesting[rng.IntN(len(interesting))]
				case u&0x7f800000 == 0x7f800000:
					u &^= 0x40000000
				}
				binary.LittleEndian.PutUint32(src[4*k:], u)
				h := BF16FromF32(math.Float32frombits(u))
				finite = finite && u&0x7f800000 != 0x7f800000 && h&0x7f80 != 0x7f80
			}
			if got := BF16FromF32Bytes(dst, src); got != finite {
				t.Fatalf("%d elements %x: finite %v, want %v", n, src, got, finite)
			}
			for k := 0; finite && k < n; k++ {
				want := BF16FromF32(math.Float32frombits(binary.LittleEndian.Uint32(src[4*k:])))
				if got := binary.LittleEndian.Uint16(dst[2*k:]); got != want {
					t.Fatalf("element %d of %x is %#x, want %#x", k, src, got, want)
				}
			}
		}
	}
}

func BenchmarkBF16FromF32Bytes(b *testing.B) {
	src, dst := make([]byte, 64<<10), make([]byte, 32<<10)
	for k := range src {
		src[k] = byte(k * 31 & 0x3f)
	}
	b.SetBytes(int64(len(src)))
	for range b.N {
		BF16FromF32Bytes(dst, src)
	}
}

func TestBF16FromFiniteF32sRoundsAsOneByOne(t *testing.T) {
	interesting := []uint32{0, 1, 0x80000000, 0x7f7fffff, 0x7f7f7fff, 0x7f7f8000, 0xff7f7fff, 0xff7f8000, 0x3f808000, 0x3f818000, 0x3f80ffff,
		0x7f800000, 0xff800000, 0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f800001}
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 14 {
		src, dst := make([]float32, n), make([]byte, 2*n)
		for round := range 400 {
			finite := true
			for k := range src {
				u := rng.Uint32()
				switch {
				case round%4 == 0 && rng.IntN(n) == 0:
					u = interesting[rng.IntN(len(interesting))]
				case u&0x7f800000 == 0x7f800000:
					u &^= 0x40000000
				}
				src[k] = math.Float32frombits(u)
				finite = finite && u&0x7f800000 != 0x7f800000 && BF16FromF32(src[k])&0x7f80 != 0x7f80
			}
			if got := BF16FromFiniteF32s(dst, src); got != finite {
				t.Fatalf("%v: finite %v, want %v", src, got, finite)
			}
			for k := 0; finite && k < n; k++ {
				if got, want := binary.LittleEndian.Uint16(dst[2*k:]), BF16FromF32(src[k]); got != want {
					t.Fatalf("element %d of %v is %#x, want %#x", k, src, got, want)
				}
			}
		}
	}
}

func BenchmarkBF16FromFiniteF32s(b *testing.B) {
	src, dst := make([]float32, 4096), make([]byte, 8192)
	for k := range src {
		src[k] = float32(k) * 0.01
	}
	b.SetBytes(int64(len(dst)))
	for b.Loop() {
		BF16FromFiniteF32s(dst, src)
	}
}
