package bf16z

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// coded is a matrix with all its parts.
type coded struct{ low, codes, index, pool []byte }

func encode(values []byte) coded {
	var h Histogram
	h.Add(values)
	code, n := NewCode(&h), int64(len(values)/2)
	m := coded{make([]byte, n), make([]byte, CodeBytes(n)), make([]byte, IndexBytes(n)), nil}
	code.Head(m.index)
	var e Encoder
	e.Encode(code, m.low, m.codes, values)
	for k, s := range e.Starts {
		binary.LittleEndian.PutUint32(m.index[headBytes+4*k:], s)
	}
	m.pool = e.Pool
	return m
}

func (m coded) decode() ([]byte, error) {
	dst := make([]byte, 2*len(m.low))
	return dst, Decode(dst, m.low, m.codes, m.index, m.pool)
}

func (m coded) bits() float64 {
	return 8 * float64(len(m.low)+len(m.codes)+len(m.index)+len(m.pool)) / float64(len(m.low))
}

// drawn makes n bf16 numbers.
func drawn(n int, draw func() float64) []byte {
	out := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(out[2*i:], numeric.BF16FromF32(float32(draw())))
	}
	return out
}

func TestCodedNumbersComeBackToTheBit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	everything := make([]byte, 2*65536)
	for i := range 65536 {
		binary.LittleEndian.PutUint16(everything[2*i:], uint16(i))
	}
	shuffled := bytes.Clone(everything)
	rng.Shuffle(65536, func(i, j int) {
		a, b := binary.LittleEndian.Uint16(shuffled[2*i:]), binary.LittleEndian.Uint16(shuffled[2*j:])
		binary.LittleEndian.PutUint16(shuffled[2*i:], b)
		binary.LittleEndian.PutUint16(shuffled[2*j:], a)
	})
	for _, c := range []struct {
		name     string
		values   []byte
		atMost   float64 // bits a number
		expected uint    // width
	}{
		{"none", nil, math.NaN(), 0},
		{"a word of zeros", make([]byte, 32), math.NaN(), 0},
		{"every number there is", everything, 20.1, 0},
		{"and in no order", shuffled, 20.1, 0},
		{"normal", drawn(1<<20, rng.NormFloat64), 10.85, 3},
		{"normal, a chunk and a word", drawn(ChunkValues+WordValues, rng.NormFloat64), 11.2, 3},
		{"uniform", drawn(1<<18, func() float64 { return 2*rng.Float64() - 1 }), 10.5, 2},
		{"one exponent", drawn(1<<16, func() float64 { return 1 + rng.Float64()/2 }), 10.1, 0},
		{"of three sizes", drawn(1<<16, func() float64 { return rng.NormFloat64() * math.Exp2(float64(rng.IntN(3))) }), 11.3, 3},
		{"of any size", drawn(1<<16, func() float64 { return math.Exp2(200*rng.Float64() - 100) }), 18.1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := encode(c.values)
			got, err := m.decode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, c.values) {
				t.Error("other numbers came back")
			}
			if bits := m.bits(); bits > c.atMost {
				t.Errorf("%.3f bits a number, want at most %.3f", bits, c.atMost)
			}
			if m.index[0] != byte(c.expected) {
				t.Errorf("second codes have %d bits, want %d", m.index[0], c.expected)
			}
		})
	}
}

// TestACodeOfOtherNumbersServes codes numbers by the exponents of a sample that has none of theirs.
func TestACodeOfOtherNumbersServes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var h Histogram
	h.Add(drawn(1000, rng.NormFloat64))
	code := NewCode(&h)
	values := drawn(4096, func() float64 { return 1e30 * rng.NormFloat64() })
	m := coded{low: make([]byte, 4096), codes: make([]byte, 1024), index: make([]byte, IndexBytes(4096))}
	code.Head(m.index)
	var e Encoder
	e.Encode(code, m.low, m.codes, values)
	binary.LittleEndian.PutUint32(m.index[headBytes+4:], e.Starts[1])
	m.pool = e.Pool
	if got, err := m.decode(); err != nil || !bytes.Equal(got, values) {
		t.Errorf("other numbers came back, %v", err)
	}
	var all Histogram
	all.Add(values)
	if got, want := uint64(8*len(m.pool)+8*len(m.codes)), code.Bits(&all); got < want || got > want+4*32 {
		t.Errorf("%d bits, counted %d", got, want)
	}
}

func TestDamageIsAnErrorOrOtherNumbers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	whole := encode(drawn(3*ChunkValues, func() float64 { return math.Exp2(20 * rng.NormFloat64()) }))
	for name, damage := range map[string]func(m *coded){
		"width":               func(m *coded) { m.index[0] = 5 },
		"no index":            func(m *coded) { m.index = nil },
		"start out of pool":   func(m *coded) { binary.LittleEndian.PutUint32(m.index[headBytes:], math.MaxUint32) },
		"no pool":             func(m *coded) { m.pool = nil },
		"a pool cut short":    func(m *coded) { m.pool = m.pool[:len(m.pool)-8] },
		"codes cut short":     func(m *coded) { m.codes = m.codes[:len(m.codes)-4] },
		"half a word of them": func(m *coded) { m.low = m.low[:8] },
	} {
		m := coded{bytes.Clone(whole.low), bytes.Clone(whole.codes), bytes.Clone(whole.index), bytes.Clone(whole.pool)}
		damage(&m)
		if _, err := m.decode(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzCode codes any bytes, which must come back, and decodes the same bytes as parts, which must not panic.
func FuzzCode(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add(bytes.Repeat([]byte{0, 0x3f, 0x80, 0xff}, 40), uint16(3))
	f.Add(drawn(ChunkValues+32, rand.New(rand.NewPCG(7, 8)).NormFloat64), uint16(40))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		values := data[:len(data)&^31]
		m := encode(values)
		if got, err := m.decode(); err != nil || !bytes.Equal(got, values) {
			t.Fatalf("%d bytes do not come back: %v", len(values), err)
		}
		if n := len(m.low); n > 0 {
			copy(m.codes, data)
			copy(m.index[len(m.index)-min(len(m.index), len(data)):], data)
			m.pool = data[min(int(cut), len(data)):]
			_, _ = m.decode()
		}
		n := len(data) / 4 &^ 15
		_ = Decode(make([]byte, 2*n), data[:n], data[:CodeBytes(int64(n))], data[:min(int(IndexBytes(int64(n))), len(data))], data)
	})
}

func normalMiB() []byte {
	rng := rand.New(rand.NewPCG(9, 10))
	return drawn(1<<19, rng.NormFloat64)
}

// BenchmarkEncode counts bytes of bf16.
func BenchmarkEncode(b *testing.B) {
	values := normalMiB()
	var h Histogram
	h.Add(values)
	code := NewCode(&h)
	low, codes := make([]byte, len(values)/2), make([]byte, len(values)/8)
	var e Encoder
	b.SetBytes(int64(len(values)))
	for b.Loop() {
		e.Reset()
		e.Encode(code, low, codes, values)
	}
}

func BenchmarkHistogram(b *testing.B) {
	values := normalMiB()
	b.SetBytes(int64(len(values)))
	var h Histogram
	for b.Loop() {
		h.Add(values)
	}
}
