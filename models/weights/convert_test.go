package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// tensorOf packs values as one tensor of the given type.
func tensorOf(values []float32, d DType) Tensor {
	data := make([]byte, len(values)*d.Size())
	switch d {
	case F32:
		numeric.BytesFromF32s(data, values)
	case F16:
		numeric.F16FromF32s(data, values)
	case BF16:
		numeric.BF16FromF32s(data, values)
	}
	return Tensor{Name: "w", DType: d, Shape: []int{len(values)}, Data: data, File: "mem"}
}

func TestConvertToAgreesWithElementwiseRounding(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, n := range []int{0, 1, 4095, 4097, chunkBytes/2 + 3, chunkBytes + 5} { // around scratch and chunk borders
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(rng.NormFloat64())
		}
		for _, from := range []DType{F32, F16, BF16} {
			src := tensorOf(values, from)
			wide := src.Float32s()
			for _, to := range []DType{F32, F16, BF16} {
				t.Run(fmt.Sprintf("%d elements from %s to %s", n, from, to), func(t *testing.T) {
					got := make([]byte, n*to.Size())
					if err := ConvertTo(got, src, to); err != nil {
						t.Fatal(err)
					}
					if want := tensorOf(wide, to).Data; string(got) != string(want) {
						t.Error("bytes differ from element-by-element conversion")
					}
				})
			}
		}
	}
}

func TestConvertToReportsValuesThatDoNotFit(t *testing.T) {
	values := make([]float32, 5000)
	values[4999] = 70000
	dst := make([]byte, 2*len(values))
	if err := ConvertTo(dst, tensorOf(values, F32), F16); err == nil || !strings.Contains(err.Error(), "70000") {
		t.Errorf("70000 to F16: %v", err)
	}
	if err := ConvertTo(dst, tensorOf(values, F32), BF16); err != nil {
		t.Error(err)
	}
	values[4999] = math.MaxFloat32
	if err := ConvertTo(dst, tensorOf(values, F32), BF16); err == nil {
		t.Error("the largest float32 became a bf16 infinity without a word")
	}
	values[4999] = float32(math.Inf(1))
	if err := ConvertTo(dst, tensorOf(values, F32), F16); err != nil {
		t.Errorf("an infinity converts to itself: %v", err)
	}
	ints := Tensor{Name: "i", DType: I32, Shape: []int{1}, Data: make([]byte, 4)}
	if err := ConvertTo(dst[:2], ints, F16); err == nil {
		t.Error("I32 was converted to F16")
	}
}

func TestCheckFiniteFindsEachKindOfBadValueAnywhere(t *testing.T) {
	patterns := map[DType][]uint64{
		F32:  {0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000, 0xffffffff},
		F16:  {0x7c00, 0xfc00, 0x7c01, 0xffff},
		BF16: {0x7f80, 0xff80, 0x7f81, 0xffff},
		F64:  {0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000001},
	}
	good := map[DType][]uint64{
		F32: {0x7f7fffff, 0xff7fffff, 0, 0x80000000, 1}, F16: {0x7bff, 0xfbff, 0x8000, 1}, BF16: {0x7f7f, 0xff7f, 0x8000, 1},
		F64: {0x7fefffffffffffff, 1},
	}
	for d, bad := range patterns {
		t.Run(d.String(), func(t *testing.T) {
			n := chunkBytes/d.Size() + 9
			ten := Tensor{Name: "w", DType: d, Shape: []int{n}, Data: make([]byte, n*d.Size()), File: "mem"}
			put := func(i int, bits uint64) {
				for b := range d.Size() {
					ten.Data[i*d.Size()+b] = byte(bits >> (8 * b))
				}
			}
			for i := range n {
				put(i, good[d][i%len(good[d])])
			}
			if err := ten.CheckFinite(); err != nil {
				t.Fatal(err)
			}
			for _, i := range []int{0, 1, 2, 3, 5, n / 2, n - 10, n - 2, n - 1} {
				for _, bits := range bad {
					put(i, bits)
					if err := ten.CheckFinite(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("element %d of", i)) {
						t.Fatalf("%#x at %d: %v", bits, i, err)
					}
				}
				put(i, good[d][0])
			}
		})
	}
}

func TestATruncatedMappingIsAnErrorNotACrash(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows refuses to truncate a mapped file, so this cannot happen there")
	}
	const n = 3 * chunkBytes
	path := writeTemp(t, "w.safetensors", raw(fmt.Sprintf(`{"w":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}`, n/2, n), make([]byte, n)))
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, chunkBytes); err != nil {
		t.Fatal(err)
	}
	w, _ := f.Tensor("w")
	for name, err := range map[string]error{
		"CheckFinite": w.CheckFinite(), "CopyTo": w.CopyTo(make([]byte, n)), "ConvertTo": ConvertTo(make([]byte, 2*n), w, F32),
	} {
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"w"`) || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("%s after truncation: %v", name, err)
		}
	}
}

func TestInt32sWidensEachIntegerType(t *testing.T) {
	for _, c := range []struct {
		d    DType
		data []byte
		want int32
	}{{I32, []byte{254, 255, 255, 255}, -2}, {I8, []byte{254}, -2}, {U8, []byte{254}, 254}, {BOOL, []byte{1}, 1}} {
		if got := (Tensor{DType: c.d, Shape: []int{1}, Data: c.data}).Int32s()[0]; got != c.want {
			t.Errorf("%s: %d, want %d", c.d, got, c.want)
		}
	}
}

func BenchmarkCheckFiniteBF16(b *testing.B) {
	data := make([]byte, 256<<20)
	for i := 0; i < len(data); i += 2 {
		binary.LittleEndian.PutUint16(data[i:], 0x3f80)
	}
	ten := Tensor{Name: "w", DType: BF16, Shape: []int{len(data) / 2}, Data: data}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := ten.CheckFinite(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConvertF32ToBF16(b *testing.B) {
	ten := tensorOf(make([]float32, 32<<20), F32)
	dst := make([]byte, 2*ten.Elements())
	b.SetBytes(int64(len(ten.Data)))
	for b.Loop() {
		if err := ConvertTo(dst, ten, BF16); err != nil {
			b.Fatal(err)
		}
	}
}

func TestConvertFiniteIsConvertToThatLooks(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const n = 3*pieceElements + 5
	floats := make([]float32, n)
	for k := range floats {
		floats[k] = float32(rng.NormFloat64())
	}
	for _, from := range []DType{F32, F16, BF16} {
		data := make([]byte, n*from.Size())
		if err := ConvertTo(data, tensorOf(floats, F32), from); err != nil {
			t.Fatal(err)
		}
		x := Tensor{Name: "x", DType: from, Shape: []int{n}, Data: data}
		for _, to := range []DType{F32, F16, BF16} {
			want, got := make([]byte, n*to.Size()), make([]byte, n*to.Size())
			if err := errors.Join(ConvertTo(want, x, to), ConvertFinite(got, x, to)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v to %v differs from ConvertTo", from, to)
			}
			for _, at := range []int{0, 1, pieceElements, n - 1} {
				broken := Tensor{Name: "x", DType: from, Shape: []int{n}, Data: bytes.Clone(data)}
				for k := range from.Size() {
					broken.Data[at*from.Size()+k] = 0xff // a NaN in every format
				}
				err := ConvertFinite(got, broken, to)
				if !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), fmt.Sprintf("element %d ", at)) {
					t.Errorf("%v to %v with a NaN at %d: %v", from, to, at, err)
				}
			}
		}
	}
	for _, to := range []DType{F16, BF16} { // finite, but rounds to an infinity
		err := ConvertFinite(make([]byte, 4), tensorOf([]float32{1, math.MaxFloat32}, F32), to)
		if err == nil || errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("the largest float32 to %v: %v", to, err)
		}
	}
}
