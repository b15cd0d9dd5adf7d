package weights_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/models/weights/nf4test"
)

// matrix is a bf16 matrix of random numbers.
func matrix(name string, rows, cols int) weights.Tensor {
	rng := rand.New(rand.NewPCG(uint64(rows), uint64(cols)))
	values := make([]float32, rows*cols)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	t := weights.Tensor{Name: name, DType: weights.BF16, Shape: []int{rows, cols}, Data: make([]byte, 2*len(values))}
	numeric.BF16FromF32s(t.Data, values)
	return t
}

// quantized opens a checkpoint of one matrix in 4 bits and one that is not.
func quantized(t *testing.T, o nf4test.Options) *weights.Checkpoint {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "bf16.safetensors"), filepath.Join(dir, "nf4.safetensors")
	if err := weights.WriteFile(from, []weights.Tensor{matrix("x.weight", 301, 67), matrix("y.weight", 3, 5)}, nil); err != nil {
		t.Fatal(err)
	}
	o.Quantized = func(name string) bool { return name == "x.weight" }
	nf4test.Write(t, from, to, o)
	c, err := weights.OpenCheckpoint(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func spec() weights.Spec {
	return weights.Spec{{Name: "x.weight", Shape: []int{301, 67}}, {Name: "y.weight", Shape: []int{3, 5}}}
}

func TestMatricesIn4BitsAreReadAsTheyWereQuantized(t *testing.T) {
	x := matrix("x.weight", 301, 67)
	for _, plain := range []bool{false, true} {
		c := quantized(t, nf4test.Options{Plain: plain})
		r := weights.Check(c, spec())
		if err := r.Err(); err != nil || len(r.Unexpected) > 0 || fmt.Sprint(r.NF4) != "[x.weight]" {
			t.Fatalf("plain %v: %v, %+v", plain, err, r)
		}
		q, ok, err := c.NF4("x.weight")
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := q.CheckFinite(); err != nil {
			t.Error(err)
		}
		if _, ok, err := c.NF4("y.weight"); ok || err != nil {
			t.Error(ok, err)
		}
		l := nf4.Layout{Rows: 301, Cols: 67, Plain: plain}
		want, got := make([]byte, l.Bytes()), make([]byte, l.Bytes())
		if err := weights.QuantizeNF4(want, x, l, nf4.NewQuantizer()); err != nil {
			t.Fatal(err)
		}
		if err := q.Pack(got, l); err != nil {
			t.Fatal(err)
		}
		if plain {
			clear(want[64:1104]) // map and mean are nowhere in the file
			clear(got[64:1104])
		}
		if !bytes.Equal(got, want) {
			t.Errorf("plain %v: the packed matrix differs", plain)
		}
		values(t, q, l, want)
		if !plain { // some other block's scales may be plain
			l.Plain = true
			values(t, q, l, nil)
		}
	}
}

// values compares the numbers of a packed matrix with those that are read piece by piece.
func values(t *testing.T, q weights.NF4, l nf4.Layout, packed []byte) {
	t.Helper()
	if packed == nil {
		packed = make([]byte, l.Bytes())
		if err := q.Pack(packed, l); err != nil {
			t.Fatal(err)
		}
	}
	n := l.Elements()
	whole := make([]byte, 2*n)
	l.DequantizeBF16(whole, packed, 0)
	for _, r := range [][2]int{{0, n}, {0, 1}, {63, 65}, {1000, 17000}, {n - 1, n}} {
		got := make([]byte, 2*(r[1]-r[0]))
		if err := q.Values(got, r[0], r[1]-r[0], weights.BF16); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, whole[2*r[0]:2*r[1]]) {
			t.Errorf("%v: numbers %d to %d differ", l, r[0], r[1])
		}
	}
}

func TestQuantizingTakesAnyFloatTypeAndRefusesWhatIsNotFinite(t *testing.T) {
	x := matrix("x.weight", 2100, 1024) // more than a goroutine takes at a time
	l := nf4.Layout{Rows: 2100, Cols: 1024}
	q := nf4.NewQuantizer()
	want := make([]byte, l.Bytes())
	if err := weights.QuantizeNF4(want, x, l, q); err != nil {
		t.Fatal(err)
	}
	wide := weights.Tensor{Name: "x", DType: weights.F32, Shape: x.Shape, Data: make([]byte, 2*len(x.Data))}
	if err := weights.ConvertTo(wide.Data, x, weights.F32); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, l.Bytes())
	if err := weights.QuantizeNF4(got, wide, l, q); err != nil || !bytes.Equal(got, want) {
		t.Errorf("from fp32: %v, equal %v", err, bytes.Equal(got, want))
	}
	coded := weights.Tensor{Name: "x", DType: weights.F8E5M2, Shape: x.Shape, Data: make([]byte, len(x.Data)/2)}
	for k := range coded.Data {
		coded.Data[k] = byte(k*37%120) | byte(k&1)<<7
	}
	decoded := weights.Tensor{Name: "x", DType: weights.BF16, Shape: x.Shape, Data: make([]byte, len(x.Data))}
	if err := weights.ConvertTo(decoded.Data, coded, weights.BF16); err != nil {
		t.Fatal(err)
	}
	fromCoded, fromDecoded := make([]byte, l.Bytes()), make([]byte, l.Bytes())
	if err := errors.Join(weights.QuantizeNF4(fromCoded, coded, l, q), weights.QuantizeNF4(fromDecoded, decoded, l, q)); err != nil || !bytes.Equal(fromCoded, fromDecoded) {
		t.Errorf("from fp8: %v, equal %v", err, bytes.Equal(fromCoded, fromDecoded))
	}
	x.Data[2*2_000_000+1] = 0x7f
	x.Data[2*2_000_000] = 0x80
	if err := weights.QuantizeNF4(got, x, l, q); err == nil || !strings.Contains(err.Error(), "element 2000000") {
		t.Errorf("infinity: %v", err)
	}
}

// set replaces a tensor's data.
func set(name string, dt weights.DType, data ...byte) func(map[string]weights.Tensor) {
	return func(m map[string]weights.Tensor) {
		m[name] = weights.Tensor{Name: name, DType: dt, Shape: []int{len(data) / dt.Size()}, Data: data}
	}
}

func TestHostileMatricesIn4BitsAreRefusedInOneLine(t *testing.T) {
	const state = "x.weight.quant_state.bitsandbytes__nf4"
	drop := func(name string) func(map[string]weights.Tensor) {
		return func(m map[string]weights.Tensor) { delete(m, name) }
	}
	text := func(s string) func(map[string]weights.Tensor) { return set(state, weights.U8, []byte(s)...) }
	const good = `{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[301,67],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":1}`
	edit := func(old, to string) func(map[string]weights.Tensor) { return text(strings.Replace(good, old, to, 1)) }
	for name, c := range map[string]struct {
		damage func(map[string]weights.Tensor)
		want   string
	}{
		"no scales":                   {drop("x.weight.absmax"), `"x.weight.absmax" is missing`},
		"no map":                      {drop("x.weight.nested_quant_map"), `"x.weight.nested_quant_map" is missing`},
		"no description":              {drop(state), "is U8"},
		"too few codes":               {set("x.weight", weights.U8, 1, 2, 3), "3 bytes"},
		"too few scales":              {set("x.weight.absmax", weights.U8, 1, 2, 3), "want 316 of U8"},
		"code points of another type": {set("x.weight.quant_map", weights.F16, make([]byte, 32)...), "want 16 of F32"},
		"empty description":           {text(""), "JSON"},
		"no JSON":                     {text("nf4"), "JSON"},
		"two values":                  {text(good + good), "more than one"},
		"a description too long":      {text(strings.Repeat(" ", 5000) + good), "at most 4096"},
		"fp4 inside":                  {edit("nf4", "fp4"), "only nf4"},
		"blocks of 128":               {edit("64", "128"), "blocks of 128"},
		"negative shape":              {edit("[301,67]", "[-301,-67]"), "shape"},
		"enormous shape":              {edit("[301,67]", "[4000000,4000000]"), "shape"},
		"shape of three axes":         {edit("[301,67]", "[301,67,1]"), "shape"},
		"another shape":               {edit("[301,67]", "[67,301]"), "want [301 67]"},
		"nested blocks of 128":        {edit("256", "128"), "256 scales"},
		"a mean beyond fp32":          {edit(`offset":1`, `offset":1e300`), "JSON"},
		"no mean":                     {edit(`,"nested_offset":1`, ""), "mean"},
		"fp4": {func(m map[string]weights.Tensor) {
			set("x.weight.quant_state.bitsandbytes__fp4", weights.U8, 1)(m)
		}, "fp4"},
	} {
		t.Run(name, func(t *testing.T) {
			err := weights.Check(quantized(t, nf4test.Options{Damage: c.damage}), spec()).Err()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "nf4.safetensors") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
		})
	}
	t.Run("numbers beyond bf16", func(t *testing.T) {
		c := quantized(t, nf4test.Options{Damage: edit(`offset":1`, `offset":3.4e38`)})
		q, ok, err := c.NF4("x.weight")
		if !ok || err != nil {
			t.Fatal(err)
		}
		if err := q.CheckFinite(); err == nil || !strings.Contains(err.Error(), "x.weight") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("scales that are not finite", func(t *testing.T) {
		c := quantized(t, nf4test.Options{Damage: set("x.weight.nested_absmax", weights.F32, 0, 0, 0x80, 0x7f, 0, 0, 0, 0)})
		q, ok, err := c.NF4("x.weight")
		if !ok || err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{q.Pack(make([]byte, q.Layout.Bytes()), q.Layout), q.CheckFinite(), q.Values(make([]byte, 20), 3, 10, weights.BF16)} {
			if err == nil || !strings.Contains(err.Error(), "nested_absmax") {
				t.Errorf("got %v", err)
			}
		}
	})
}
