package torchrand

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// The known answers are those of the authors' library (DEShawResearch/random123, tests/kat_vectors).
func TestPhiloxGivesTheKnownAnswers(t *testing.T) {
	for _, tc := range []struct {
		counter [4]uint32
		key     uint64
		want    [4]uint32
	}{
		{[4]uint32{}, 0, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, math.MaxUint64, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0_a4093822, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(tc.counter, tc.key); got != tc.want {
			t.Errorf("philox(%x, %x) = %x, want %x", tc.counter, tc.key, got, tc.want)
		}
	}
}

func generator(t *testing.T, seed uint64, card Card) *Generator {
	t.Helper()
	g, err := New(seed, card)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// golden is the reference file's card and how its tensor names are read: seedS.AxBxCxD.KIND.
type golden struct {
	*weights.File
	card Card
}

func openGolden(t *testing.T) golden {
	t.Helper()
	f, err := weights.Open(testdata.Shared(t, "golden/torch_cuda_randn.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var card Card
	m := f.Metadata()
	if err := json.Unmarshal([]byte(m["multi_processor_count"]), &card.Multiprocessors); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(m["max_threads_per_multi_processor"]), &card.ThreadsPerMultiprocessor); err != nil {
		t.Fatal(err)
	}
	return golden{f, card}
}

// parse splits "seed6554.3x16x24x16.f32_head".
func parse(t *testing.T, name string) (seed uint64, elements int, kind string) {
	t.Helper()
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		t.Fatalf("tensor name %q", name)
	}
	seed, err := strconv.ParseUint(strings.TrimPrefix(parts[0], "seed"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	elements = 1
	for _, d := range strings.Split(parts[1], "x") {
		n, err := strconv.Atoi(d)
		if err != nil {
			t.Fatal(err)
		}
		elements *= n
	}
	return seed, elements, parts[2]
}

// pick returns the part of a draw that a golden tensor holds.
func pick(t *testing.T, all []float32, kind string, n int) []float32 {
	t.Helper()
	switch {
	case strings.HasSuffix(kind, "_head"):
		return all[:n]
	case strings.HasSuffix(kind, "_tail"):
		return all[len(all)-n:]
	case strings.HasSuffix(kind, "_stride997"):
		var out []float32
		for i := 0; i < len(all); i += 997 {
			out = append(out, all[i])
		}
		return out
	}
	t.Fatalf("unknown kind %q", kind)
	return nil
}

func TestNormalAgreesWithTorchOnCUDA(t *testing.T) {
	g := openGolden(t)
	f32, f32Worst, bf16, bf16Wrong := 0, 0.0, 0, 0
	draws := map[string][]float32{}
	for _, name := range g.Names() {
		seed, elements, kind := parse(t, name)
		x, _ := g.Tensor(name)
		want := x.Float32s()
		rounded := strings.HasPrefix(kind, "bf16")
		key := fmt.Sprint(seed, elements, rounded)
		if draws[key] == nil {
			all := make([]float32, elements)
			if gen := generator(t, seed, g.card); rounded {
				gen.NormalBF16(all)
			} else {
				gen.Normal(all)
			}
			draws[key] = all
		}
		got := pick(t, draws[key], kind, len(want))
		if len(got) != len(want) {
			t.Fatalf("%s: %d numbers, want %d", name, len(got), len(want))
		}
		for i := range want {
			if rounded {
				bf16++
				if got[i] != want[i] {
					bf16Wrong++
				}
				continue
			}
			f32++
			d := math.Abs(float64(got[i]) - float64(want[i]))
			f32Worst = max(f32Worst, d)
			if !(d <= 2e-6) {
				t.Fatalf("%s[%d] = %v, want %v", name, i, got[i], want[i])
			}
		}
	}
	t.Logf("%d fp32 numbers differ by at most %.2g; %d of %d bf16 numbers differ", f32, f32Worst, bf16Wrong, bf16)
	if f32 != 15360 || bf16 != 41490 {
		t.Errorf("%d fp32 and %d bf16 numbers compared, want 15,360 and 41,490", f32, bf16)
	}
	if equal := 1 - float64(bf16Wrong)/float64(bf16); !(equal >= 0.9995) {
		t.Errorf("%.4f %% of the bf16 numbers are equal", 100*equal)
	}
}

// element computes one element alone, by the inverse of the layout.
func element(seed, offset uint64, threads, e uint64) float32 {
	k, j, thread := e/(4*threads), e%(4*threads)/threads, e%threads
	c := offset/4 + k
	w := philox([4]uint32{uint32(c), uint32(c >> 32), uint32(thread), uint32(thread >> 32)}, seed)
	s, co := boxMuller(w[j&2], w[j|1])
	if j%2 == 0 {
		return s
	}
	return co
}

func TestEveryElementComesFromItsPlaceInTheStream(t *testing.T) {
	card := Card{Multiprocessors: 2, ThreadsPerMultiprocessor: 1536} // 12 blocks, 3072 threads
	for _, n := range []int{1, 255, 256, 257, 3072, 3073, 4 * 3072, 4*3072 + 1, 30000} {
		g := generator(t, 42<<40|7, card)
		offset := uint64(0)
		for draw := range 3 {
			got := make([]float32, n)
			g.Normal(got)
			threads := uint64(256 * min(12, (n+255)/256))
			for e := range got {
				if want := element(42<<40|7, offset, threads, uint64(e)); got[e] != want {
					t.Fatalf("n %d, draw %d, element %d: %v, want %v", n, draw, e, got[e], want)
				}
			}
			offset += 4 * (uint64(n-1)/(4*threads) + 1)
			if g.Offset() != offset {
				t.Fatalf("n %d, draw %d: offset %d, want %d", n, draw, g.Offset(), offset)
			}
		}
	}
}

func TestOffsetsGrowAsPyTorchsDo(t *testing.T) {
	g := generator(t, 1, Card{})
	g.Normal(make([]float32, 31*64*96*16))
	if g.Offset() != 12 {
		t.Errorf("offset %d after a draw of 31·64·96·16, want 12", g.Offset())
	}
	g.Normal(nil)
	if g.Offset() != 12 {
		t.Errorf("an empty draw moved the offset to %d", g.Offset())
	}
}

func TestRoundedDrawIsTheDrawRounded(t *testing.T) {
	a, b := make([]float32, 5000), make([]float32, 5000)
	generator(t, 3, Card{}).Normal(a)
	generator(t, 3, Card{}).NormalBF16(b)
	for i := range a {
		if b[i] != numeric.RoundBF16(a[i]) {
			t.Fatalf("element %d: %v, want %v rounded", i, b[i], a[i])
		}
	}
}

func TestExtremeWordsGiveFiniteNumbers(t *testing.T) {
	for _, a := range []uint32{0, 1, 1 << 31, math.MaxUint32 - 1, math.MaxUint32} {
		for _, b := range []uint32{0, 1, 1 << 31, math.MaxUint32} {
			s, c := boxMuller(a, b)
			if r := math.Hypot(float64(s), float64(c)); !(r <= 7) {
				t.Errorf("boxMuller(%d, %d) = %v, %v", a, b, s, c)
			}
		}
	}
}

func TestImpossibleCardsAreRefused(t *testing.T) {
	for _, card := range []Card{{0, 2048}, {132, 255}, {-1, 2048}, {1 << 20, 2048}} {
		if _, err := New(0, card); err == nil {
			t.Errorf("%+v was accepted", card)
		}
	}
}

func BenchmarkNormal(b *testing.B) {
	dst := make([]float32, 31*64*96*16)
	g, err := New(1, Card{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(4 * len(dst)))
	for b.Loop() {
		g.Normal(dst)
	}
}
