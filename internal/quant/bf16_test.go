package quant

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// slow rounds decoded values and says whether all are finite.
func slow(values []float32) (out []byte, finite bool) {
	out, finite = make([]byte, 2*len(values)), true
	for i, f := range values {
		h := numeric.BF16FromF32(f)
		finite = finite && f-f == 0 && h&0x7f80 != 0x7f80
		binary.LittleEndian.PutUint16(out[2*i:], h)
	}
	return out, finite
}

func TestRecordsDecodeToTheSameBF16(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for name, b := range blocks {
		t.Run(name, func(t *testing.T) {
			broken := 0
			for range 4000 { // of random bits, so some scales are not finite
				src := make([]byte, 2*b.Bytes())
				for i := range src {
					src[i] = byte(rng.Uint32())
				}
				values, got := make([]float32, 2*BlockLen), make([]byte, 4*BlockLen)
				b.Decode(values, src)
				want, finite := slow(values)
				if ok := b.DecodeBF16(got, src); ok != finite {
					t.Fatalf("%x: finite %v, want %v", src, ok, finite)
				}
				if !finite {
					broken++
				} else if !bytes.Equal(got, want) {
					t.Fatalf("%x decodes to %x, want %x", src, got, want)
				}
			}
			if broken == 0 {
				t.Error("no broken record was tried")
			}
		})
	}
}

func TestCodesDecodeToTheSameBF16(t *testing.T) {
	src := make([]byte, 259) // every code, and a tail
	for i := range src {
		src[i] = byte(i * 37)
	}
	rng := rand.New(rand.NewPCG(9, 10))
	got, values := make([]byte, 2*len(src)), make([]float32, len(src))
	scales := []float32{0, 1, -1, 0.1, 1e-30, math.SmallestNonzeroFloat32, 1e35, 1e36, math.MaxFloat32, float32(math.NaN()), float32(math.Inf(1))}
	for range 200 {
		scales = append(scales, float32(rng.NormFloat64()))
	}
	for _, scale := range scales {
		for i, code := range src {
			values[i] = float32(int8(code)) * scale
		}
		want, finite := slow(values)
		// Large scales may take the slow way without need.
		if ok := Int8BF16(got, src, scale); ok && !finite || !ok && finite && scale < 1e36 || ok && !bytes.Equal(got, want) {
			t.Errorf("int8 by %g: %v, finite %v; %x, want %x", scale, ok, finite, got, want)
		}
		for name, table := range map[string]*Table{"e4m3": E4M3(), "e5m2": E5M2(), "int8": Int8()} {
			sound := make([]byte, 0, len(src))
			for _, code := range src {
				if f := table[code]; f-f == 0 {
					sound = append(sound, code)
				}
			}
			for _, codes := range [][]byte{sound, src} {
				values, got := make([]float32, len(codes)), make([]byte, 2*len(codes))
				scaled := table.Scaled(scale)
				scaled.Decode(values, codes)
				want, finite := slow(values)
				if ok := scaled.BF16().Decode(got, codes); ok != finite || ok && !bytes.Equal(got, want) {
					t.Errorf("%s by %g: %v, finite %v", name, scale, ok, finite)
				}
			}
		}
	}
}
