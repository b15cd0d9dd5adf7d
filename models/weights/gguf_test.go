package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/quant"
)

// ggufText builds a GGUF file by hand: numbers are written by their size, strings with their length before them.
func ggufOf(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case int: // counts, lengths, offsets, extents
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case string:
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(v))), v...)
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

var magic3 = []byte("GGUF\x03\x00\x00\x00")

// pad fills a header up to a multiple and appends data.
func pad(header []byte, align int, data ...byte) []byte {
	for len(header)%align != 0 {
		header = append(header, 0)
	}
	return append(header, data...)
}

// ggufSample has metadata of every kind and three tensors: F32 [3], Q8_0 [2, 32], BF16 [2, 2].
func ggufSample() []byte {
	u32 := func(n uint32) uint32 { return n }
	header := ggufOf(magic3, 3, 7,
		"general.architecture", u32(8), "kandinsky5-dit",
		"dit.model_dim", u32(4), u32(4096),
		"flag", u32(7), []byte{1},
		"small", u32(1), []byte{0xff},
		"wide", u32(12), math.Float64bits(0.5),
		"numbers", u32(9), u32(5), 2, u32(1), u32(2),
		"words", u32(9), u32(8), 2, "one", "two",
		"bias", u32(1), 3, u32(0), 0,
		"matrix", u32(2), 32, 2, u32(8), 32,
		"other", u32(2), 2, 2, u32(30), 128,
	)
	data := make([]byte, 136)
	for i, f := range []float32{1, -2, 0.5} {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(f))
	}
	for row := range 2 {
		record := data[32+34*row:]
		binary.LittleEndian.PutUint16(record, numeric.F16FromF32(float32(row)+0.5))
		for j := range 32 {
			record[2+j] = byte(j - 16)
		}
	}
	for i, f := range []float32{1, 2, 3, -4} {
		binary.LittleEndian.PutUint16(data[128+2*i:], numeric.BF16FromF32(f))
	}
	return pad(header, 32, data...)
}

func TestGGUFIsReadAsItsFormatSays(t *testing.T) {
	f, err := OpenBytes("x.gguf", ggufSample())
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"general.architecture": "kandinsky5-dit", "dit.model_dim": "4096", "flag": "true", "small": "-1", "wide": "0.5", "numbers": "", "words": ""} {
		if got, ok := f.Metadata()[key]; !ok || got != want {
			t.Errorf("metadata %s is %q, want %q", key, got, want)
		}
	}
	bias, _ := f.Tensor("bias")
	matrix, _ := f.Tensor("matrix")
	other, _ := f.Tensor("other")
	if got := bias.Float32s(); !slices.Equal(got, []float32{1, -2, 0.5}) {
		t.Errorf("bias is %v", got)
	}
	if !slices.Equal(matrix.Shape, []int{2, 32}) || matrix.DType != Q8_0 || !matrix.IsWeight() {
		t.Fatalf("matrix is %s %v", matrix.DType, matrix.Shape)
	}
	for i, got := range matrix.Float32s() {
		if want := (float32(i/32) + 0.5) * float32(i%32-16); got != want {
			t.Fatalf("element %d is %g, want %g", i, got, want)
		}
	}
	if got := other.Float32s(); !slices.Equal(got, []float32{1, 2, 3, -4}) || !slices.Equal(other.Shape, []int{2, 2}) {
		t.Errorf("other is %v %v", other.Shape, got)
	}
}

func TestHostileGGUFIsRefused(t *testing.T) {
	u32 := func(n uint32) uint32 { return n }
	f32, q8 := u32(0), u32(8)
	one := func(parts ...any) []byte {
		return pad(ggufOf(append([]any{magic3, 1, 0}, parts...)...), 32, make([]byte, 64)...)
	}
	value := func(parts ...any) []byte { return ggufOf(append([]any{magic3, 0, 1}, parts...)...) }
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"an unknown version", ggufOf([]byte("GGUF"), u32(9), 0, 0), "GGUF version 9"},
		{"version 1", ggufOf([]byte("GGUF"), u32(1), 0, 0), "GGUF version 1"},
		{"big-endian", ggufOf([]byte("GGUF"), u32(3<<24), 0, 0), "big-endian"},
		{"nothing after the magic", []byte("GGUF"), "too few"},
		{"the header ends", []byte("GGUF\x03\x00\x00\x00\x01\x00"), "ends in the middle"},
		{"a huge tensor count", ggufOf(magic3, uint64(1)<<63, 0), "header counts 9223372036854775808 tensors"},
		{"more tensors than the file has bytes for", ggufOf(magic3, 1000, 0), "header counts 1000 tensors"},
		{"a huge number of values", ggufOf(magic3, 0, uint64(math.MaxUint64)), "key-value pairs"},
		{"a key of 2^63 bytes", value(uint64(1)<<63, []byte("abc"), make([]byte, 32)), "9223372036854775808 bytes"},
		{"a string of 2^63 bytes", value("k", u32(8), uint64(1)<<63, make([]byte, 32)), "ends in the middle"},
		{"an array of 2^63 bytes", value("k", u32(9), u32(0), uint64(1)<<63, make([]byte, 32)), "an array of 9223372036854775808"},
		{"an array of 2^60 words", value("k", u32(9), u32(10), uint64(1)<<60, make([]byte, 32)), "an array of 1152921504606846976"},
		{"an array of 2^59 words", value("k", u32(9), u32(10), uint64(1)<<59, make([]byte, 32)), "ends in the middle"},
		{"an array of many strings", value("k", u32(9), u32(8), uint64(1)<<60, make([]byte, 32)), "ends in the middle"},
		{"an array of arrays", value("k", u32(9), u32(9), 1, make([]byte, 32)), "an array of type 9"},
		{"an unknown type of value", value("k", u32(77), make([]byte, 32)), "unknown type 77"},
		{"a key twice", ggufOf(magic3, 0, 2, "k", u32(0), []byte{1}, "k", u32(0), []byte{1}, make([]byte, 32)), `"k" twice`},
		{"an alignment of zero", value("general.alignment", u32(4), u32(0), make([]byte, 32)), "general.alignment"},
		{"an alignment of no power of two", value("general.alignment", u32(4), u32(48), make([]byte, 32)), "general.alignment"},
		{"a part of a split file", value("split.count", u32(2), []byte{3, 0}, make([]byte, 32)), "merge"},
		{"too many axes", one("a", u32(1000), make([]byte, 64)), "1000 axes"},
		{"an impossible extent", one("a", u32(1), uint64(1)<<63, f32, 0), "impossible extent"},
		{"a shape that overflows", one("a", u32(3), 1<<40, 1<<40, 1<<40, f32, 0), "overflows"},
		{"an unknown type", one("a", u32(1), 4, u32(200), 0), "number 200"},
		{"a type that is not read", one("a", u32(1), 256, u32(11), 0), "Q3_K"},
		{"rows that do not fill records", one("a", u32(2), 33, 2, q8, 0), "do not fill records"},
		{"a scalar of records", one("a", u32(0), q8, 0), "do not fill records"},
		{"misaligned", one("a", u32(1), 4, f32, 16), "alignment"},
		{"beyond the end", one("a", u32(1), 4, f32, 64), "truncated"},
		{"far beyond the end", one("a", u32(1), 4, f32, uint64(math.MaxUint64)-31), "beyond every file"},
		{"truncated data", ggufSample()[:len(ggufSample())-1], "truncated"},
		{"no data at all", ggufOf(magic3, 1, 0, "a", u32(1), 4, f32, 0), "truncated"},
		{"overlapping", pad(ggufOf(magic3, 2, 0, "a", u32(1), 16, f32, 0, "b", u32(1), 4, f32, 32), 32, make([]byte, 96)...), "inside the tensor"},
		{"the same place twice", pad(ggufOf(magic3, 2, 0, "a", u32(1), 4, f32, 0, "b", u32(1), 4, f32, 0), 32, make([]byte, 96)...), "inside the tensor"},
		{"a name twice", pad(ggufOf(magic3, 2, 0, "a", u32(1), 4, f32, 0, "a", u32(1), 4, f32, 32), 32, make([]byte, 96)...), `"a" twice`},
		{"a name that is no text", one("\xff\xfe", u32(1), 4, f32, 0), "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeTemp(t, "x.gguf", c.data)
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatal("was taken")
			}
			if text := err.Error(); !strings.Contains(text, c.want) || !strings.Contains(text, path) || strings.Contains(text, "\n") {
				t.Errorf("error %q, want one line with %q and the path", text, c.want)
			}
		})
	}
}

func TestGGUFScalesThatAreNotFinite(t *testing.T) {
	for _, bits := range []uint16{0x7c00, 0xfc00, 0x7e00} {
		data := ggufSample()
		at := bytes.Index(data, binary.LittleEndian.AppendUint16(nil, numeric.F16FromF32(1.5)))
		binary.LittleEndian.PutUint16(data[at:], bits)
		f, err := OpenBytes("x.gguf", data)
		if err != nil {
			t.Fatal(err)
		}
		matrix, _ := f.Tensor("matrix")
		dst := make([]byte, 2*64)
		for name, err := range map[string]error{"CheckFinite": matrix.CheckFinite(), "ConvertFinite": ConvertFinite(dst, matrix, BF16), "ConvertTo": ConvertTo(dst, matrix, BF16)} {
			if !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "matrix") {
				t.Errorf("%s with a scale of %#x: %v", name, bits, err)
			}
		}
	}
}

func TestGGUFWriterIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "веса.gguf")
	infos := []TensorInfo{{"a", F32, []int{3}}, {"b", Q4_1, []int{2, 64}}, {"none", F16, []int{0}}, {"c", F16, []int{1, 2, 3}}, {"d", BF16, nil}}
	w, err := CreateGGUF(path, infos, []GGUFValue{{"general.name", "имя"}, {"dit.ff_dim", uint32(7)}})
	if err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	if err := w.CopyTo(&whole); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	want := map[string][]byte{}
	for k, info := range w.Order() {
		data := make([]byte, info.Bytes())
		for i := range data {
			data[i] = byte(k + 1)
		}
		want[info.Name] = data
		stream = append(stream, data...)
	}
	for len(stream) > 0 { // pieces that do not end where tensors do
		n := min(5, len(stream))
		if _, err := w.Write(stream[:n]); err != nil {
			t.Fatal(err)
		}
		stream = stream[n:]
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file has its name before Close")
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if onDisk, err := os.ReadFile(path); err != nil || !bytes.Equal(onDisk, whole.Bytes()) {
		t.Errorf("the copy differs from the file: %v", err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Metadata()["general.name"] != "имя" || f.Metadata()["dit.ff_dim"] != "7" || len(f.Names()) != len(infos) {
		t.Errorf("metadata %v, tensors %v", f.Metadata(), f.Names())
	}
	for _, info := range infos {
		got, _ := f.Tensor(info.Name)
		if got.DType != info.DType || !slices.Equal(got.Shape, info.Shape) || !bytes.Equal(got.Data, want[info.Name]) {
			t.Errorf("%s is %s %v %x", info.Name, got.DType, got.Shape, got.Data)
		}
	}
}

func TestGGUFWriterRefuses(t *testing.T) {
	for name, infos := range map[string][]TensorInfo{
		"declared twice":         {{"a", F32, []int{1}}, {"a", F32, []int{1}}},
		"GGUF has no type":       {{"a", F8E4M3, []int{1}}},
		"more axes":              {{"a", F32, []int{1, 1, 1, 1, 1}}},
		"do not fill records of": {{"a", Q8_0, []int{33}}},
	} {
		dir := t.TempDir()
		if _, err := CreateGGUF(filepath.Join(dir, "x.gguf"), infos, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %q", err, name)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestAFolderWithAGGUFFileIsACheckpoint(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.gguf"), ggufSample(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	matrix, err := c.Require("matrix", 2, 32)
	if err != nil {
		t.Fatal(err)
	}
	rows := matrix.Rows(1, 1)
	if got := rows.Float32s(); got[0] != -16*1.5 || len(got) != quant.BlockLen {
		t.Errorf("row 1 is %v", got)
	}
}

func FuzzOpenGGUF(f *testing.F) {
	f.Add(ggufSample())
	f.Add(comfyGGUF("wan", "a.weight", ggufI32, i32s(2, 32), 2, []int{1, 64}, 8, 68))
	f.Add(ggufOf(magic3, 1, 0, "a", uint32(1), 4, uint32(0), 0, make([]byte, 64)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, []byte(ggufMagic)) {
			data = append([]byte(ggufMagic), data...)
		}
		file, err := OpenBytes("fuzz", data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
			return
		}
		for _, name := range file.Names() {
			tensor, _ := file.Tensor(name)
			if len(tensor.Data) != tensor.DType.Bytes(tensor.Elements()) {
				t.Fatalf("%s %v has %d bytes", tensor.DType, tensor.Shape, len(tensor.Data))
			}
			_ = tensor.CheckFinite()
			if !tensor.IsWeight() {
				continue
			}
			got, want := make([]byte, 2*tensor.Elements()), make([]byte, 2*tensor.Elements())
			if ConvertFinite(got, tensor, BF16) != nil {
				continue
			}
			if numeric.BF16FromF32s(want, tensor.Float32s()); !bytes.Equal(got, want) {
				t.Errorf("%s %v decodes to %x, want %x", tensor.DType, tensor.Shape, got, want)
			}
		}
	})
}
