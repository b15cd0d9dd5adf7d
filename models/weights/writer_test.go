package weights

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func sample() []Tensor {
	rng := rand.New(rand.NewPCG(5, 6))
	var out []Tensor
	for _, t := range []Tensor{
		{Name: "z", DType: U8, Shape: []int{3}}, {Name: "b \"quoted\" й", DType: BF16, Shape: []int{2, 3}}, {Name: "a", DType: BF16, Shape: []int{1}},
		{Name: "wide", DType: I64, Shape: []int{2}}, {Name: "f", DType: F32, Shape: []int{}}, {Name: "empty", DType: F32, Shape: []int{0, 4}},
	} {
		t.Data = make([]byte, t.Elements()*t.DType.Size())
		for i := range t.Data {
			t.Data[i] = byte(rng.Uint32())
		}
		out = append(out, t)
	}
	return out
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteFileRoundTripsAlignedAndDeterministic(t *testing.T) {
	dir := t.TempDir()
	meta := map[string]string{"z": "1", "a": "две"}
	tensors := sample()
	one, two := filepath.Join(dir, "1.safetensors"), filepath.Join(dir, "2.safetensors")
	if err := WriteFile(one, tensors, meta); err != nil {
		t.Fatal(err)
	}
	shuffled := slices.Clone(tensors)
	slices.Reverse(shuffled)
	if err := WriteFile(two, shuffled, meta); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(one)
	b, _ := os.ReadFile(two)
	if !bytes.Equal(a, b) {
		t.Error("the order of the arguments changes the file")
	}
	var out bytes.Buffer
	if err := Encode(&out, shuffled, meta); err != nil || !bytes.Equal(out.Bytes(), a) {
		t.Errorf("Encode writes other bytes than WriteFile, or %v", err)
	}
	if err := Encode(&out, []Tensor{{Name: "a", DType: F32, Shape: []int{2}, Data: make([]byte, 7)}}, nil); err == nil {
		t.Error("Encode takes a tensor that lacks data")
	}
	if n := binary.LittleEndian.Uint64(a); n%8 != 0 {
		t.Errorf("data starts at %d, not a multiple of 8", 8+n)
	}
	f, err := Open(one)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Metadata()["a"] != "две" || len(f.Metadata()) != 2 || len(f.Names()) != len(tensors) {
		t.Errorf("metadata %v, names %v", f.Metadata(), f.Names())
	}
	for _, want := range tensors {
		got, ok := f.Tensor(want.Name)
		if !ok || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: %v %s", want.Name, got.Shape, got.DType)
		}
		if at := bytes.Index(a, want.Data); len(want.Data) >= 6 && at%want.DType.Size() != 0 {
			t.Errorf("%s is not aligned", want.Name)
		}
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("files left: %v", got)
	}
}

func TestWriterLeavesNothingBehindWhenItDoesNotFinish(t *testing.T) {
	infos := []TensorInfo{{"a", F32, []int{4}}, {"b", F32, []int{4}}}
	cases := map[string]func(t *testing.T, w *Writer){
		"aborted": func(t *testing.T, w *Writer) {
			_, _ = w.Write(make([]byte, 8))
			if err := w.Abort(); err != nil {
				t.Error(err)
			}
		},
		"closed too early": func(t *testing.T, w *Writer) {
			_, _ = w.Write(make([]byte, 31))
			if err := w.Close(); err == nil || !strings.Contains(err.Error(), "31 of 32") {
				t.Errorf("Close: %v", err)
			}
		},
		"given too much": func(t *testing.T, w *Writer) {
			if _, err := w.Write(make([]byte, 33)); err == nil {
				t.Error("33 bytes were accepted")
			}
			if err := w.Close(); err == nil {
				t.Error("Close after a failed write succeeded")
			}
		},
	}
	for name, finish := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w, err := Create(filepath.Join(dir, "m.safetensors"), infos, nil)
			if err != nil {
				t.Fatal(err)
			}
			finish(t, w)
			if err := w.Close(); err == nil {
				t.Error("a later Close reports success")
			}
			if got := names(t, dir); len(got) != 0 {
				t.Errorf("files left: %v", got)
			}
		})
	}
}

func TestWriterKeepsTheOldFileUntilTheNewOneIsWhole(t *testing.T) {
	path := writeTemp(t, "m.safetensors", tiny("old"))
	w, err := Create(path, []TensorInfo{{"new", U8, []int{1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := Open(path); err != nil {
		t.Errorf("the old file is gone: %v", err)
	} else {
		f.Close()
	}
	if _, err := w.Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.Tensor("new"); !ok {
		t.Error("the new file is not there")
	}
}

func TestCreateRefusesBadDeclarations(t *testing.T) {
	dir := t.TempDir()
	for name, infos := range map[string][]TensorInfo{
		"twice": {{"a", F32, nil}, {"a", F32, nil}}, "reserved": {{"__metadata__", F32, nil}}, "no type": {{"a", Invalid, nil}},
		"negative": {{"a", F32, []int{-1}}}, "overflow": {{"a", F32, []int{1 << 40, 1 << 40}}}, "sum overflow": {{"a", U8, []int{1 << 62}}, {"b", U8, []int{1 << 62}}},
	} {
		if w, err := Create(filepath.Join(dir, "m.safetensors"), infos, nil); err == nil {
			t.Errorf("%s: accepted", name)
			_ = w.Abort()
		}
	}
	if err := WriteFile(filepath.Join(dir, "m.safetensors"), []Tensor{{Name: "a", DType: F32, Shape: []int{2}, Data: make([]byte, 4)}}, nil); err == nil {
		t.Error("a tensor with too little data was accepted")
	}
	if _, err := Create(filepath.Join(dir, "absent", "m.safetensors"), nil, nil); err == nil {
		t.Error("a file in an absent folder was created")
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("files left: %v", got)
	}
}
