package weights

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// ggmlFile opens a file that ggml wrote (testdata/ggml/ggml.py write).
func ggmlFile(t *testing.T) *File {
	t.Helper()
	f, err := Open("testdata/ggml/records.gguf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestGGMLRecordsDecodeAsInGGML holds every type against what ggml decodes, to the bit.
func TestGGMLRecordsDecodeAsInGGML(t *testing.T) {
	f := ggmlFile(t)
	kinds := 0
	for _, name := range f.Names() {
		kind, ok := strings.CutPrefix(name, "decoded.")
		if !ok {
			continue
		}
		kinds++
		coded, _ := f.Tensor(kind)
		want, _ := f.Tensor(name)
		if coded.DType.String() != strings.ToUpper(kind) || !slices.Equal(coded.Shape, []int{3, 256}) {
			t.Errorf("%s is %s %v", kind, coded.DType, coded.Shape)
			continue
		}
		got := coded.Float32s()
		for i, w := range want.Float32s() {
			if math.Float32bits(got[i]) != math.Float32bits(w) && (got[i] != 0 || w != 0) { // zeros may differ in sign
				t.Errorf("%s: element %d is %g, ggml decodes %g", kind, i, got[i], w)
				break
			}
		}
	}
	if kinds != 11 {
		t.Errorf("%d types were compared, want 11", kinds)
	}
}

// TestGGMLRecordsAreReadInParts reads rows and single records, and as bfloat16.
func TestGGMLRecordsAreReadInParts(t *testing.T) {
	f := ggmlFile(t)
	for _, kind := range []string{"q4_0", "q8_0", "q4_K", "q5_K", "q6_K"} {
		coded, _ := f.Tensor(kind)
		all := coded.Float32s()
		if got := coded.Rows(1, 2).Float32s(); !slices.Equal(got, all[256:]) {
			t.Errorf("%s: rows 1 and 2 differ", kind)
		}
		last := make([]float32, 256)
		if err := coded.Values(last, 512); err != nil || !slices.Equal(last, all[512:]) {
			t.Errorf("%s: the last record differs, error %v", kind, err)
		}
		got, want := make([]byte, 2*len(all)), make([]byte, 2*len(all))
		numeric.BF16FromF32s(want, all)
		if err := ConvertFinite(got, coded, BF16); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: as bfloat16 it differs, error %v", kind, err)
		}
	}
}

// TestRecordsAreAsGoodAsGGMLs codes the same values: sizes are equal, and errors no larger than those of ggml's coder.
func TestRecordsAreAsGoodAsGGMLs(t *testing.T) {
	f := ggmlFile(t)
	source, _ := f.Tensor("f32")
	values := source.Float32s()
	for _, d := range []DType{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0} {
		theirs, _ := f.Tensor(strings.ToLower(d.String()))
		ours := Tensor{Name: "ours", DType: d, Shape: theirs.Shape, Data: make([]byte, d.Bytes(len(values)))}
		if len(ours.Data) != len(theirs.Data) {
			t.Fatalf("%s: %d bytes, ggml has %d", d, len(ours.Data), len(theirs.Data))
		}
		d.Block().Encode(ours.Data, values)
		equal := 0
		for i := range ours.Data {
			if ours.Data[i] == theirs.Data[i] {
				equal++
			}
		}
		a, b := squareError(ours.Float32s(), values), squareError(theirs.Float32s(), values)
		t.Logf("%s: error %.6f, ggml's %.6f; %d of %d bytes equal", d, math.Sqrt(a), math.Sqrt(b), equal, len(ours.Data))
		if !(a <= b) {
			t.Errorf("%s: squared error %g is above that of ggml's coder, %g", d, a, b)
		}
	}
}

func squareError(got, want []float32) (sum float64) {
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		sum += d * d
	}
	return sum
}

func TestGGMLMetadataIsRead(t *testing.T) {
	for key, want := range map[string]string{"general.architecture": "kandinsky5-dit", "small": "-3", "third": "0.33333334", "wide": "0.1",
		"big": "9223372036854775808", "flag": "true", "numbers": "", "words": ""} {
		if got, ok := ggmlFile(t).Metadata()[key]; !ok || got != want {
			t.Errorf("%s is %q (present: %v), want %q", key, got, ok, want)
		}
	}
}

// TestWrittenAsGGMLWrites writes the tensors of ggml's file in its order: descriptions and data must be the same bytes.
func TestWrittenAsGGMLWrites(t *testing.T) {
	f := ggmlFile(t)
	entries := inFileOrder(f)
	var infos []TensorInfo
	for _, e := range entries {
		infos = append(infos, TensorInfo{e.Name, e.DType, e.Shape})
	}
	path := t.TempDir() + "/again.gguf"
	w, err := CreateGGUF(path, infos, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := w.Write(e.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	tail := func(f *File) []byte { // from the first description on
		whole := append(slices.Clone(f.header), f.mapping[len(f.header):]...)
		return whole[bytes.Index(whole, []byte(entries[0].Name))-8 : len(f.header)]
	}
	if got, want := bytes.TrimRight(tail(again), "\x00"), bytes.TrimRight(tail(f), "\x00"); !bytes.Equal(got, want) {
		t.Errorf("descriptions are\n%x, ggml's are\n%x", got, want)
	}
	if got, want := again.mapping[len(again.header):], f.mapping[len(f.header):]; !bytes.Equal(got, want) {
		t.Errorf("data of %d bytes differ from ggml's %d", len(got), len(want))
	}
}

func inFileOrder(f *File) []Tensor {
	var all []Tensor
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tensor) int { return int(a.at - b.at) })
	return all
}

// TestNamesThatGGMLRefusesAreNotWritten: ggml's names have at most 63 bytes.
func TestNamesThatGGMLRefusesAreNotWritten(t *testing.T) {
	for n, ok := range map[int]bool{63: true, 64: false} {
		w, err := CreateGGUF(t.TempDir()+"/x.gguf", []TensorInfo{{strings.Repeat("n", n), F32, []int{1}}}, nil)
		if (err == nil) != ok {
			t.Errorf("a name of %d bytes: error %v", n, err)
		}
		if err == nil {
			w.Abort()
		}
	}
}
