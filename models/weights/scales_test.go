package weights

import (
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

func floats(d DType, shape []int, values ...float32) Tensor {
	t := tensorOf(values, d)
	t.Shape = shape
	return t
}

func codes(d DType, shape []int, values ...byte) Tensor {
	return Tensor{DType: d, Shape: shape, Data: values}
}

// checkpointOf writes tensors under their names and opens them as a checkpoint.
func checkpointOf(t *testing.T, tensors map[string]Tensor) (*Checkpoint, error) {
	t.Helper()
	var list []Tensor
	for name, tensor := range tensors {
		tensor.Name = name
		list = append(list, tensor)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := WriteFile(path, list, nil); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(path)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// e4m3 codes of 1, −2, 448 and 0.5.
const one8, minusTwo8, most8, half8 = 0x38, 0xc0, 0x7e, 0x30

func TestQuantisedTensorsFindTheirScales(t *testing.T) {
	minus1 := byte(0xff)
	for _, c := range []struct {
		name    string
		tensors map[string]Tensor
		want    []float32
	}{
		{"int8 with a scale for every two columns", map[string]Tensor{
			"a.weight_int8":   codes(I8, []int{2, 4}, 1, 2, 3, 4, minus1, 6, 7, 128),
			"a.weight_scales": floats(F32, []int{2, 2}, 0.5, 2, 1, 10),
		}, []float32{0.5, 1, 6, 8, -1, 6, 70, -1280}},
		{"fp8 with one scale", map[string]Tensor{
			"a.weight_fp8":   codes(F8E4M3, []int{2, 2}, one8, minusTwo8, most8, half8),
			"a.weight_scale": floats(F32, nil, 0.25),
		}, []float32{0.25, -0.5, 112, 0.125}},
		{"fp8 under the plain name with one scale", map[string]Tensor{
			"a.weight":       codes(F8E4M3, []int{2, 2}, one8, minusTwo8, most8, half8),
			"a.scale_weight": floats(BF16, []int{1}, 2),
			"scaled_fp8":     codes(F8E4M3, []int{0}),
		}, []float32{2, -4, 896, 1}},
		{"fp8 with a scale for each row", map[string]Tensor{
			"a.weight":       codes(F8E4M3, []int{2, 2}, one8, minusTwo8, one8, half8),
			"a.scale_weight": floats(F32, []int{2, 1}, 2, 3),
		}, []float32{2, -4, 3, 1.5}},
		{"fp8 with scales for blocks of each row", map[string]Tensor{
			"a.weight":       codes(F8E4M3, []int{2, 2}, one8, minusTwo8, one8, half8),
			"a.scale_weight": floats(F16, []int{2, 2, 1}, 1, 2, 3, 4),
		}, []float32{1, -4, 3, 2}},
		{"fp8 without scales", map[string]Tensor{"a.weight": codes(F8E5M2, []int{1, 4}, 0x3c, 0xbc, 0x7b, 0)}, []float32{1, -1, 57344, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ckpt, err := checkpointOf(t, c.tensors)
			if err != nil {
				t.Fatal(err)
			}
			shape := c.tensors["a.weight"].Shape
			for _, suffix := range []string{".weight_int8", ".weight_fp8"} {
				if stored, ok := c.tensors["a"+suffix]; ok {
					shape = stored.Shape
				}
			}
			got, err := ckpt.Require("a.weight", shape...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Float32s(), c.want) {
				t.Errorf("values %v, want %v", got.Float32s(), c.want)
			}
			if r := Check(ckpt, Spec{{"a.weight", shape}}); !r.OK() {
				t.Errorf("not taken as a weight: %v", r.Err())
			}
			for row := range shape[0] {
				if rows := got.Rows(row, 1).Float32s(); !slices.Equal(rows, c.want[row*shape[1]:(row+1)*shape[1]]) {
					t.Errorf("row %d is %v", row, rows)
				}
			}
			for _, name := range ckpt.Names() {
				if strings.Contains(name, "scale_weight") || strings.Contains(name, "weight_") {
					t.Errorf("%s is still a tensor", name)
				}
			}
		})
	}
}

func TestQuantisedTensorsThatDoNotFitAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		tensors    map[string]Tensor
	}{
		{"no scales", "a.weight_scales", map[string]Tensor{"a.weight_int8": codes(I8, []int{1, 2}, 1, 2)}},
		{"too few scales", "do not fit", map[string]Tensor{
			"a.weight_int8": codes(I8, []int{4, 2}, 1, 2, 3, 4, 5, 6, 7, 8), "a.weight_scales": floats(F32, []int{2, 1}, 1, 2)}},
		{"scales that do not divide a row", "do not fit", map[string]Tensor{
			"a.weight_int8": codes(I8, []int{2, 4}, 1, 2, 3, 4, 5, 6, 7, 8), "a.weight_scales": floats(F32, []int{2, 3}, 1, 2, 3, 4, 5, 6)}},
		{"no scales at all", "do not fit", map[string]Tensor{
			"a.weight_int8": codes(I8, []int{1, 2}, 1, 2), "a.weight_scales": floats(F32, []int{0})}},
		{"scales in integers", "want F32", map[string]Tensor{
			"a.weight_fp8": codes(F8E4M3, []int{1, 2}, 1, 2), "a.weight_scale": codes(I8, nil, 1)}},
		{"codes of another type", "want I8", map[string]Tensor{
			"a.weight_int8": floats(F32, []int{1, 2}, 1, 2), "a.weight_scales": floats(F32, []int{1}, 1)}},
		{"the plain weight as well", "also has", map[string]Tensor{
			"a.weight": floats(F32, []int{1, 2}, 1, 2), "a.weight_int8": codes(I8, []int{1, 2}, 1, 2), "a.weight_scales": floats(F32, []int{1}, 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := checkpointOf(t, c.tensors); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.safetensors") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	ckpt, err := checkpointOf(t, map[string]Tensor{"a.weight": codes(I8, []int{1, 2}, 1, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(ckpt, Spec{{"a.weight", []int{1, 2}}}).Err(); err == nil || !strings.Contains(err.Error(), "I8") {
		t.Errorf("integers without scales: %v", err)
	}
}

func TestScalesThatAreNotFiniteAreRefused(t *testing.T) {
	nan := float32(math.NaN())
	for name, tensors := range map[string]map[string]Tensor{
		"int8":  {"a.weight_int8": codes(I8, []int{1, 4}, 1, 2, 3, 4), "a.weight_scales": floats(F32, []int{1, 2}, 1, nan)},
		"fp8":   {"a.weight_fp8": codes(F8E4M3, []int{1, 4}, one8, one8, one8, one8), "a.weight_scale": floats(F32, nil, float32(math.Inf(1)))},
		"codes": {"a.weight": codes(F8E4M3, []int{1, 4}, one8, one8, 0x7f, one8)},
		"large": {"a.weight_fp8": codes(F8E4M3, []int{1, 2}, most8, one8), "a.weight_scale": floats(F32, nil, math.MaxFloat32)},
	} {
		ckpt, err := checkpointOf(t, tensors)
		if err != nil {
			t.Fatal(err)
		}
		if err := ckpt.CheckFinite(t.Context()); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "a.weight") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDecodingAcrossPieces compares tensors of more elements than one goroutine, one scratch buffer and one run of scales
// have with a plain loop.
func TestDecodingAcrossPieces(t *testing.T) {
	const rows, columns = 5, 1 << 19
	data := make([]byte, rows*columns)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
		if data[i]&0x7f == 0x7f {
			data[i]-- // no NaN in fp8
		}
	}
	for _, run := range []int{128, columns / 4, columns, rows * columns} {
		for _, dt := range []DType{I8, F8E4M3} {
			tensor := Tensor{Name: "w", DType: dt, Shape: []int{rows, columns}, Data: data, Scales: Scales{DType: F32, Run: run}}
			for k := range rows * columns / run {
				tensor.Scales.Data = binary.LittleEndian.AppendUint32(tensor.Scales.Data, math.Float32bits(float32(k%100+1)/64))
			}
			got := make([]byte, 2*len(data))
			if err := ConvertFinite(got, tensor, BF16); err != nil {
				t.Fatal(err)
			}
			table := tensor.decoder().table
			for i, code := range data {
				want := numeric.BF16FromF32(table[code] * float32(i/run%100+1) / 64)
				if h := binary.LittleEndian.Uint16(got[2*i:]); h != want {
					t.Fatalf("%s, a scale for %d: element %d is %#x, want %#x", dt, run, i, h, want)
				}
			}
		}
	}
}

func TestInt8CodesAreCopiedAsTheyAre(t *testing.T) {
	tensor := Tensor{Name: "w", DType: I8, Shape: []int{2, 8}, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Scales: Scales{DType: BF16, Run: 8, Data: floats(BF16, nil, 0.5, 2).Data}}
	codes, scales := make([]byte, 16), make([]byte, 16)
	if ok, err := tensor.CopyInt8(codes, scales, 4); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if want := floats(F32, nil, 0.5, 0.5, 2, 2).Data; string(scales) != string(want) || string(codes) != string(tensor.Data) {
		t.Errorf("codes %x, scales %x", codes, scales)
	}
	if ok, _ := tensor.CopyInt8(codes, scales, 3); ok {
		t.Error("scales for 8 elements were taken as some for 3")
	}
	plain := tensor
	plain.DType = F8E4M3
	if ok, _ := plain.CopyInt8(codes, scales, 4); ok {
		t.Error("fp8 was taken as int8")
	}
	for _, broken := range []float32{float32(math.NaN()), float32(math.Inf(-1)), math.MaxFloat32} {
		tensor.Scales = Scales{DType: F32, Run: 8, Data: floats(F32, nil, 0.5, broken).Data}
		if _, err := tensor.CopyInt8(codes, scales, 4); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), `"w"`) {
			t.Errorf("a scale of %g: %v", broken, err)
		}
	}
}

func FuzzScales(f *testing.F) {
	f.Add(uint8(2), uint8(4), uint8(2), uint8(2), false)
	f.Fuzz(func(t *testing.T, rows, columns, scaleRows, scaleColumns uint8, fp8 bool) {
		weight := Tensor{Name: "a.weight_int8", DType: I8, Shape: []int{int(rows), int(columns)}, Data: make([]byte, int(rows)*int(columns))}
		if fp8 {
			weight.DType = F8E4M3
		}
		scales := Tensor{Name: "a.weight_scales", DType: F32, Shape: []int{int(scaleRows), int(scaleColumns)}, Data: make([]byte, 4*int(scaleRows)*int(scaleColumns))}
		joined, err := withScales(weight, scales)
		if err != nil {
			return
		}
		if n := len(joined.Float32s()); n != int(rows)*int(columns) {
			t.Errorf("%d values", n)
		}
		for row := range int(rows) {
			joined.Rows(row, 1).Float32s()
		}
	})
}

func BenchmarkConvertFinite(b *testing.B) {
	const rows, columns = 4096, 4096
	for _, c := range []struct {
		name  string
		dtype DType
		run   int
	}{{"q8_0", Q8_0, 0}, {"q5_1", Q5_1, 0}, {"q4_0", Q4_0, 0}, {"int8", I8, 128}, {"fp8", F8E4M3, rows * columns}, {"bf16", BF16, 0}} {
		b.Run(c.name, func(b *testing.B) {
			t := Tensor{Name: "w", DType: c.dtype, Shape: []int{rows, columns}, Data: make([]byte, c.dtype.Bytes(rows*columns))}
			if c.run > 0 {
				t.Scales = Scales{DType: F32, Run: c.run, Data: make([]byte, 4*rows*columns/c.run)}
			}
			dst := make([]byte, 2*rows*columns)
			b.SetBytes(int64(len(dst)))
			for b.Loop() {
				if err := ConvertFinite(dst, t, BF16); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
