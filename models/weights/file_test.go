package weights

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
)

// raw builds a safetensors file from a literal header.
func raw(header string, data []byte) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data...)
}

func writeTemp(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenReadsEveryGoldenFile(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(testdata.Shared(t, "golden/README.md")), "*.safetensors"))
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d golden files: %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Metadata()["component"] == "" || len(f.Names()) == 0 {
				t.Errorf("metadata %v, %d tensors", f.Metadata(), len(f.Names()))
			}
			for _, name := range f.Names() {
				ten, ok := f.Tensor(name)
				if !ok || ten.Elements()*ten.DType.Size() != len(ten.Data) {
					t.Errorf("%s: %v %s with %d bytes", name, ten.Shape, ten.DType, len(ten.Data))
				}
				if err := ten.CheckFinite(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOpenTakesPathsWithSpacesAndCyrillicLetters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "модель два 模型")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "веса и смещения.safetensors")
	data := raw(`{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}  `, []byte{1, 0, 0, 0, 255, 255, 255, 255})
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := f.Tensor("a")
	if got := a.Int32s(); got[0] != 1 || got[1] != -1 {
		t.Errorf("a = %v", got)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Errorf("file is still held after Close: %v", err)
	}
}

// hostile lists files that must be refused, with a word the error must hold.
func hostile() map[string]struct {
	data []byte
	want string
} {
	one := func(entry string) []byte { return raw(`{"a":`+entry+`}`, make([]byte, 8)) }
	huge := binary.LittleEndian.AppendUint64(nil, 1<<63)
	return map[string]struct {
		data []byte
		want string
	}{
		"an empty file":                       {nil, "too few"},
		"a file shorter than the length word": {[]byte{1, 2, 3}, "too few"},
		"a header length above the limit":     {huge, "limit"},
		"a header longer than the file":       {raw(`{}`, nil)[:9], "does not fit"},
		"a header that is no object":          {raw(`[]`, nil), "start with {"},
		"a header of length zero":             {raw(``, nil), "start with {"},
		"a header cut in the middle":          {raw(`{"a":{"dtype":"F32"`, nil), "ends in the middle"},
		"a header with broken JSON":           {raw(`{"a" 1}`, nil), "JSON"},
		"invalid UTF-8":                       {raw("{\"\xff\":1}", nil), "UTF-8"},
		"text after the header":               {raw(`{} x`, nil), "after"},
		"a tensor that is a number":           {raw(`{"a":5}`, nil), `"a"`},
		"the same tensor twice": {raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`,
			make([]byte, 8)), "twice"},
		"the same key twice":       {one(`{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}`), "twice"},
		"an unknown key":           {one(`{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}`), "unknown key"},
		"a missing dtype":          {one(`{"shape":[2],"data_offsets":[0,8]}`), "no dtype"},
		"an unknown dtype":         {one(`{"dtype":"F4","shape":[2],"data_offsets":[0,8]}`), "F4"},
		"a dtype that is a number": {one(`{"dtype":4,"shape":[2],"data_offsets":[0,8]}`), "dtype"},
		"a negative extent":        {one(`{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}`), "-2"},
		"a fractional extent":      {one(`{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}`), "2.5"},
		"an exponent extent":       {one(`{"dtype":"F32","shape":[1e9],"data_offsets":[0,8]}`), "1e9"},
		"an extent above 2^63":     {one(`{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}`), "9223372036854775808"},
		"a text extent":            {one(`{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}`), "not a number"},
		"a shape that overflows":   {one(`{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}`), "overflows"},
		"too many axes":            {one(`{"dtype":"F32","shape":[` + strings.Repeat("1,", 40) + `1],"data_offsets":[0,8]}`), "more than 16"},
		"a wrong size":             {one(`{"dtype":"F16","shape":[2],"data_offsets":[0,8]}`), "takes 4 bytes"},
		"offsets running backwards": {
			one(`{"dtype":"F32","shape":[2],"data_offsets":[8,0]}`), "backwards"},
		"one offset":              {one(`{"dtype":"F32","shape":[2],"data_offsets":[8]}`), "want 2"},
		"three offsets":           {one(`{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}`), "more than 2"},
		"a tensor past the end":   {raw(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, make([]byte, 8)), "truncated"},
		"a hole at the beginning": {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, make([]byte, 8)), "ends at 0"},
		"bytes after the tensors": {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 8)), "cover 4"},
		"overlapping tensors": {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`,
			make([]byte, 6)), "inside"},
		"two names for the same bytes": {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`,
			make([]byte, 4)), "inside"},
		"metadata that is not text": {raw(`{"__metadata__":{"x":1}}`, nil), "not a string"},
		"deep nesting":              {raw(`{"a":`+strings.Repeat("[", 100000), nil), "JSON"},
	}
}

func TestOpenRefusesHostileFiles(t *testing.T) {
	for name, c := range hostile() {
		t.Run(name, func(t *testing.T) {
			path := writeTemp(t, "bad.safetensors", c.data)
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatal("accepted")
			}
			if msg := err.Error(); !strings.Contains(msg, c.want) || !strings.Contains(msg, path) || strings.Contains(msg, "\n") {
				t.Errorf("error %q should be one line that names the file and says %q", msg, c.want)
			}
		})
	}
}

func TestOpenRefusesWhatIsNotAFile(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "absent.safetensors")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder was opened as a file")
	}
}

func TestOpenAcceptsEmptyTensorsAndScalars(t *testing.T) {
	f, err := OpenBytes("mem", raw(`{"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`,
		[]byte{0, 0, 128, 63}))
	if err != nil {
		t.Fatal(err)
	}
	e, _ := f.Tensor("e")
	s, _ := f.Tensor("s")
	if len(e.Float32s()) != 0 || s.Float32s()[0] != 1 {
		t.Errorf("e %v, s %v", e.Float32s(), s.Float32s())
	}
}

func FuzzOpenBytes(f *testing.F) {
	for _, c := range hostile() {
		if len(c.data) < 4096 {
			f.Add(c.data)
		}
	}
	f.Add(raw(`{"__metadata__":{"k":"v"},"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}`, make([]byte, 4)))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := OpenBytes("fuzz", data)
		if err != nil {
			return
		}
		covered := 0
		for _, name := range file.Names() {
			ten, ok := file.Tensor(name)
			if !ok || len(ten.Data) != ten.Elements()*ten.DType.Size() {
				t.Fatalf("%q: shape %v %s with %d bytes", name, ten.Shape, ten.DType, len(ten.Data))
			}
			covered += len(ten.Data)
			_ = ten.CheckFinite()
			if ten.DType.IsWeight() {
				_ = ten.Float32s()
			}
		}
		if header := int(binary.LittleEndian.Uint64(data)); covered != len(data)-8-header {
			t.Fatalf("tensors cover %d bytes of %d", covered, len(data)-8-header)
		}
	})
}
