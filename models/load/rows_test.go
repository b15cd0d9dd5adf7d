package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// table writes a checkpoint with an F32 tensor "table" of these rows and opens it.
func table(t *testing.T, rows [][]float32) Reader {
	t.Helper()
	var data []byte
	for _, row := range rows {
		for _, v := range row {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	path := filepath.Join(t.TempDir(), "table.safetensors")
	w, err := weights.Create(path, []weights.TensorInfo{{Name: "table", DType: weights.F32, Shape: []int{len(rows), len(rows[0])}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := weights.OpenCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return FromCheckpoint(c)
}

// wholeReader hides that a Reader can read rows.
type wholeReader struct{ Reader }

func TestRowsAreThoseOfTheWholeTensor(t *testing.T) {
	shape := []int{4, 3}
	checkpoint := table(t, [][]float32{{1, 2, 3}, {4, 5, 6}, {-1, 0.5, 1e-3}, {7, 8, 9}})
	for name, r := range map[string]Reader{
		"of a checkpoint":                 checkpoint,
		"of a reader of whole tensors":    wholeReader{checkpoint},
		"of made-up numbers":              Synthetic(weights.BF16),
		"of made-up numbers, read wholly": wholeReader{Synthetic(weights.BF16)},
	} {
		for _, to := range []engine.DType{engine.F32, engine.BF16, engine.F16} {
			t.Run(name+" as "+to.String(), func(t *testing.T) {
				whole := make([]byte, 12*to.Size())
				if err := r.Read(t.Context(), "table", shape, to, whole); err != nil {
					t.Fatal(err)
				}
				for from := range 4 {
					for count := 1; from+count <= 4; count++ {
						got := make([]byte, int64(3*count)*to.Size())
						if err := ReadRows(t.Context(), r, "table", shape, from, count, to, got); err != nil {
							t.Fatal(err)
						}
						if want := whole[int64(3*from)*to.Size():][:len(got)]; !bytes.Equal(got, want) {
							t.Errorf("rows %d to %d are %x, want %x", from, from+count, got, want)
						}
					}
				}
			})
		}
	}
}

func TestRowsOfALargeMadeUpTensorGoOnWithThePattern(t *testing.T) {
	shape, r := []int{3000, 64}, Synthetic(weights.F32)
	whole := make([]byte, 3000*64*4)
	if err := r.Read(t.Context(), "w", shape, engine.F32, whole); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1500*64*4)
	if err := ReadRows(t.Context(), r, "w", shape, 1200, 1500, engine.F32, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, whole[1200*64*4:][:len(got)]) {
		t.Error("rows differ")
	}
}

func TestOnlyRowsThatAreReadMustBeFinite(t *testing.T) {
	r := table(t, [][]float32{{1, 2}, {3, float32(math.NaN())}})
	dst := make([]byte, 8)
	for range 2 {
		if err := ReadRows(t.Context(), r, "table", []int{2, 2}, 0, 1, engine.F32, dst); err != nil {
			t.Errorf("the sound row: %v", err)
		}
		if err := ReadRows(t.Context(), r, "table", []int{2, 2}, 1, 1, engine.F32, dst); err == nil || !strings.Contains(err.Error(), "table") {
			t.Errorf("the broken row: got %v", err)
		}
	}
	if err := ReadRows(t.Context(), r, "table", []int{2, 3}, 0, 1, engine.F32, make([]byte, 12)); err == nil {
		t.Error("a wrong shape was taken")
	}
	if err := ReadRows(t.Context(), r, "other", []int{2, 2}, 0, 1, engine.F32, dst); err == nil {
		t.Error("a missing tensor was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ReadRows(ctx, r, "table", []int{2, 2}, 0, 1, engine.F32, dst); err != context.Canceled {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestItemsAddUpToTheNeed(t *testing.T) {
	var small, large Need
	small.Add("always", "weights", 3, 20<<20)
	small.Add("always", "nothing", 0, 20<<20)
	small.AddBuffers("pass", Buffer{Label: "x", DType: engine.BF16, Shape: []int{100, 3}}, Buffer{Label: "y", DType: engine.F32, Shape: []int{7}})
	large.Add("always", "weights", 2, 100<<20)
	for _, c := range []struct {
		need  *Need
		bytes int64
		items int
	}{{&small, 60<<20 + 64<<20, 4}, {&large, 200 << 20, 1}} {
		var sum int64
		for _, i := range c.need.Items() {
			sum += i.Bytes
		}
		if c.need.Bytes() != c.bytes || sum != c.bytes || len(c.need.Items()) != c.items {
			t.Errorf("%d bytes, %d in items %+v, want %d", c.need.Bytes(), sum, c.need.Items(), c.bytes)
		}
	}
	small.AddResident("group", Group{Bytes: 1 << 20, Entries: []Entry{{}}})
	if n := Largest(&small, &large, &small); n.Bytes() != large.Bytes() || n.Staging != 1<<20 || large.Staging != 0 {
		t.Errorf("the largest need is %d bytes with %d staged, want %d with those of the smaller", n.Bytes(), n.Staging, large.Bytes())
	}
}

func TestMadeUpNumbersGoOnWhereAPieceEnds(t *testing.T) {
	piece := []byte{1, 2, 3, 4, 5, 6, 7}
	dst := make([]byte, 2*repeatBytes+11)
	for _, offset := range []int{0, 5} {
		clear(dst)
		repeat(dst, piece, offset)
		for k, b := range dst {
			if want := piece[(offset+k)%len(piece)]; b != want {
				t.Fatalf("from %d on: byte %d is %d, want %d", offset, k, b, want)
			}
		}
	}
}
