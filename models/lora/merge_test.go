package lora

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// network is a checkpoint of some matrices.
func network(t testing.TB, tensors ...weights.Tensor) load.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := weights.WriteFile(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	c, err := weights.OpenCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return load.FromCheckpoint(c)
}

func read(t testing.TB, r load.Reader, name string, to engine.DType, shape ...int) []byte {
	t.Helper()
	out := make([]byte, int64(shape[0]*shape[1])*to.Size())
	if err := r.Read(t.Context(), name, shape, to, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// set opens adapters of one matrix, W, of this shape.
func set(t testing.TB, out, in int, sources ...Source) *Set {
	t.Helper()
	s, err := OpenSet(sources, weights.Spec{{Name: "W.weight", Shape: []int{out, in}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestMergedIsTheSumInDoubles compares with plain float64 arithmetic at odd sizes, more columns than are summed at a time and
// more rows than are read at a time. An element of the result is a sum of n = 2 + rank products, so it is within n·ε of
// |W| + Σ|gain·b·a|, and then rounded once to the type: half an ulp, 2⁻⁸ or 2⁻¹¹ of it.
func TestMergedIsTheSumInDoubles(t *testing.T) {
	for _, c := range []struct {
		out, in int
		ranks   []int
	}{{1, 1, []int{1}}, {3, 5, []int{2}}, {7, 1027, []int{5, 4}}, {301, 2050, []int{3}}, {64, 96, []int{8, 1, 16}}} {
		for stored, to := range map[weights.DType]engine.DType{weights.F32: engine.F32, weights.BF16: engine.BF16, weights.F16: engine.F16} {
			t.Run(fmt.Sprintf("%dx%d %v %v", c.out, c.in, c.ranks, stored), func(t *testing.T) {
				r := source()
				base := tensor("W.weight", stored, random(r, c.out*c.in), c.out, c.in)
				want, bound := values(base.Data, stored), make([]float64, c.out*c.in)
				for k, v := range want {
					bound[k] = math.Abs(v)
				}
				var sources []Source
				terms := 2
				for k, rank := range c.ranks {
					weight := []float64{0.5, -1.25, 2}[k]
					p := pair(r, "W.lora_A.weight", "W.lora_B.weight", []weights.DType{weights.F32, weights.BF16, weights.F16}[k], rank, c.out, c.in)
					alpha := tensor("W.alpha", weights.F32, []float32{3})
					sources = append(sources, Source{save(t, nil, append(p, alpha)...), weight})
					a, b := values(p[0].Data, p[0].DType), values(p[1].Data, p[1].DType)
					terms += rank
					for o := range c.out {
						for i := range c.in {
							for n := range rank {
								v := weight * 3 / float64(rank) * b[o*rank+n] * a[n*c.in+i]
								want[o*c.in+i] += v
								bound[o*c.in+i] += math.Abs(v)
							}
						}
					}
				}
				raw := read(t, set(t, c.out, c.in, sources...).Reader(network(t, base)), "W.weight", to, c.out, c.in)
				half := map[weights.DType]float64{weights.F32: 0, weights.BF16: 1.0 / 256, weights.F16: 1.0 / 2048}[stored]
				for k, got := range values(raw, stored) {
					limit := float64(terms+2)*bound[k]/(1<<24) + half*math.Abs(want[k])*1.01 + 1e-7*half
					if !(math.Abs(got-want[k]) <= limit) {
						t.Fatalf("element %d is %g, want %g ± %g", k, got, want[k], limit)
					}
				}
			})
		}
	}
}

func TestNothingIsChangedWithoutEffect(t *testing.T) {
	r := source()
	w := tensor("W.weight", weights.BF16, random(r, 96), 12, 8)
	other := tensor("V.weight", weights.BF16, random(r, 96), 12, 8)
	base := network(t, w, other)
	path := save(t, map[string]string{"trigger": "word, "}, pair(r, "W.lora_A.weight", "W.lora_B.weight", weights.F32, 2, 12, 8)...)
	none := set(t, 12, 8, Source{path, 0})
	if got := read(t, none.Reader(base), "W.weight", engine.BF16, 12, 8); !bytes.Equal(got, w.Data) {
		t.Error("weight 0 changes the matrix")
	}
	if none.Trigger() != "" {
		t.Errorf("weight 0 has trigger %q", none.Trigger())
	}
	full := set(t, 12, 8, Source{path, 1})
	if got := read(t, full.Reader(base), "W.weight", engine.BF16, 12, 8); bytes.Equal(got, w.Data) {
		t.Error("weight 1 does not change the matrix")
	}
	if got := read(t, full.Reader(base), "V.weight", engine.BF16, 12, 8); !bytes.Equal(got, other.Data) {
		t.Error("a matrix without adapter is changed")
	}
	opposite := set(t, 12, 8, Source{path, 1}, Source{path, -1})
	if got := read(t, opposite.Reader(base), "W.weight", engine.BF16, 12, 8); !bytes.Equal(got, w.Data) {
		t.Error("an adapter and its opposite change the matrix")
	}
	if got := set(t, 12, 8, Source{path, 0.5}, Source{path, 2}).Trigger(); got != "word, " {
		t.Errorf("the trigger is %q", got)
	}
}

func TestEffectsThatNoNumberHoldsAreErrors(t *testing.T) {
	r := source()
	w := tensor("W.weight", weights.F16, random(r, 96), 12, 8)
	path := save(t, nil, pair(r, "W.lora_A.weight", "W.lora_B.weight", weights.F32, 2, 12, 8)...)
	s := set(t, 12, 8, Source{path, 1e6})
	err := s.Reader(network(t, w)).Read(t.Context(), "W.weight", []int{12, 8}, engine.F16, make([]byte, 192))
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "W.weight") || !strings.Contains(err.Error(), "does not fit F16") {
		t.Errorf("error %v", err)
	}
	for _, weight := range []float64{1e7, -1e300, math.Inf(1), math.NaN()} {
		if _, err := OpenSet([]Source{{path, weight}}, weights.Spec{{Name: "W.weight", Shape: []int{12, 8}}}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("weight %g: error %v", weight, err)
		}
	}
	if err := s.Reader(network(t, w)).Read(t.Context(), "W.weight", []int{12, 8}, engine.U32, make([]byte, 384)); err == nil || !strings.Contains(err.Error(), "W.weight") {
		t.Errorf("merging into integers: error %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Reader(network(t, w)).Read(cancelled, "W.weight", []int{12, 8}, engine.F16, make([]byte, 192)); err == nil {
		t.Error("a cancelled reader reads on")
	}
}

// BenchmarkMerge merges rank 32 into a matrix of 2048×2048, in bf16.
func BenchmarkMerge(b *testing.B) {
	const n, rank = 2048, 32
	r := source()
	base := network(b, tensor("W.weight", weights.BF16, random(r, n*n), n, n))
	reader := set(b, n, n, Source{save(b, nil, pair(r, "W.lora_A.weight", "W.lora_B.weight", weights.BF16, rank, n, n)...), 1}).Reader(base)
	dst := make([]byte, 2*n*n)
	b.SetBytes(2 * n * n)
	for b.Loop() {
		if err := reader.Read(b.Context(), "W.weight", []int{n, n}, engine.BF16, dst); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*rank*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
