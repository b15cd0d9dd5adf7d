package ops_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

// randomNF4 is a 4-bit matrix of random codes and scales, and the numbers it stands for.
func (b *gemmBench) randomNF4(l nf4.Layout) (m []byte, values []float64) {
	m = make([]byte, l.Bytes())
	for i := range m {
		m[i] = byte(b.rng.Uint32())
	}
	l.PutTables(m, nf4.Tables{Code: nf4.Code(), Map: nf4.DynamicMap(), Mean: 1})
	scales := l.NestedScales(m)
	if l.Plain {
		scales = l.Scales(m)
	}
	for i := 0; i < len(scales); i += 4 {
		_, _ = binary.Encode(scales[i:], binary.LittleEndian, 0.5+b.rng.Float32())
	}
	raw := make([]byte, 2*l.Elements())
	l.DequantizeBF16(raw, m, 0)
	for i := range l.Elements() {
		values = append(values, float64(numeric.F32FromBF16(binary.LittleEndian.Uint16(raw[2*i:]))))
	}
	return m, values
}

// run computes a layer from 4 bits and from the numbers they stand for, in bf16.
func (c matmulCase) runNF4(b *gemmBench, plain bool) {
	b.Helper()
	l := nf4.Layout{Rows: c.n, Cols: c.k, Plain: plain}
	packed, w := b.randomNF4(l)
	quantized := b.arena.Alloc("4-bit weights", engine.U8, int(l.Bytes()))
	x, bias := b.values(c.types[0], c.m*c.k, 1), b.values(engine.F32, c.n, 1)
	if err := b.arena.Err(); err != nil {
		b.Fatal(err)
	}
	if err := b.dev.Upload(b.Context(), quantized, packed); err != nil {
		b.Fatal(err)
	}
	shape := []int{c.m, c.n}
	if c.headDim > 0 {
		shape = []int{c.n / c.headDim, c.m, c.headDim}
	}
	args := ops.MatmulArgs{X: b.upload(c.types[0], x, c.m, c.k), W: b.upload(engine.BF16, w, c.n, c.k), Bias: b.upload(engine.F32, bias, c.n),
		Y: b.output(c.types[3], shape...), Activation: c.activation, Add: c.add, HeadDim: c.headDim, Half: c.half}
	var old []float64
	if c.add {
		old = b.values(c.types[3], c.m*c.n, 1)
		b.put(args.Y, old)
	}
	ops.Matmul(b.dev.Compute(), args)
	same := b.finish(args.Y)
	args.W, args.NF4 = quantized, &l
	args.Y = b.output(c.types[3], shape...)
	if c.add {
		b.put(args.Y, old)
	}
	ops.Matmul(b.dev.Compute(), args)
	got := b.finish(args.Y)
	want, tolerance := c.reference(x, w, bias, nil, old)
	b.near(got, want, tolerance)
	b.sameBits(got, same)
}

// TestMatmulOf4BitsAgreesWithFloat64 also holds that a layer has the same bits as one whose weights are the same numbers in
// bf16. Sizes: blocks of 64 that end in the middle of a row, runs of 8 that do, more than 256 blocks, every kernel.
func TestMatmulOf4BitsAgreesWithFloat64(t *testing.T) {
	dev := enginetest.Open(t)
	f32, bf16 := []engine.DType{engine.F32, 0, engine.F32, engine.F32}, []engine.DType{engine.BF16, 0, engine.F32, engine.BF16}
	half := dev.Caps().HasFloat16
	for i, c := range []matmulCase{
		{m: 1, n: 37, k: 64, types: bf16}, {m: 2, n: 7, k: 5, types: f32}, {m: 8, n: 30, k: 1031, types: bf16},
		{m: 9, n: 15, k: 33, types: bf16, half: half}, {m: 33, n: 130, k: 72, types: bf16, add: true}, {m: 64, n: 200, k: 300, types: f32},
		{m: 70, n: 96, k: 136, types: bf16, headDim: 12, half: half}, {m: 130, n: 31, k: 128, types: bf16, activation: ops.GELU, half: half},
		{m: 12, n: 400, k: 328, types: bf16, half: half}, {m: 17, n: 50, k: 64, types: f32, half: half},
	} {
		plain := i%3 == 1
		t.Run(fmt.Sprintf("%dx%dx%d, half %v, plain scales %v", c.m, c.n, c.k, c.half, plain), func(t *testing.T) {
			c.runNF4(newGemmBench(t, dev, uint64(i)), plain)
		})
	}
}

func TestMatmulOf4BitsGivesTheSameBitsHoweverItIsCut(t *testing.T) {
	cut := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxDispatchCost: 2 * 128 * 200 * 64}})
	bf16 := []engine.DType{engine.BF16, 0, engine.F32, engine.F32}
	for name, c := range map[string]matmulCase{
		"rows and columns": {m: 300, n: 330, k: 72, types: bf16}, "few rows": {m: 6, n: 1400, k: 264, types: bf16},
		"runs that do not align": {m: 200, n: 300, k: 61, types: bf16},
	} {
		t.Run(name, func(t *testing.T) {
			before := cut.Compute().Counters().Dispatches
			c.runNF4(newGemmBench(t, cut, 3), false)
			if n := cut.Compute().Counters().Dispatches - before; n < 4 {
				t.Errorf("%d dispatches: the work was not cut", n)
			}
		})
	}
}

// TestScalesOf4BitsAreRoundedAsTheFormatSays looks at single numbers: a layer whose input picks them.
func TestScalesOf4BitsAreRoundedAsTheFormatSays(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 6)
	l := nf4.Layout{Rows: 300, Cols: 64} // every column has its own scale
	packed, w := b.randomNF4(l)
	quantized := b.arena.Alloc("4-bit weights", engine.U8, int(l.Bytes()))
	if err := b.arena.Err(); err != nil {
		t.Fatal(err)
	}
	if err := dev.Upload(t.Context(), quantized, packed); err != nil {
		t.Fatal(err)
	}
	x := make([]float64, 64*64)
	for i := range 64 {
		x[65*i] = 1
	}
	y := b.output(engine.F32, 64, 300)
	ops.Matmul(dev.Compute(), ops.MatmulArgs{X: b.upload(engine.F32, x, 64, 64), W: quantized, NF4: &l, Y: y})
	b.sameBits(b.finish(y), ref.Matmul(x, w, nil, 64, 300, 64))
}

func TestMatmulOf4BitsPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	small := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 4096}})
	arena, tight := dev.NewArena("misuse"), small.NewArena("misuse")
	defer arena.Release()
	defer tight.Release()
	l := nf4.Layout{Rows: 6, Cols: 64}
	big := nf4.Layout{Rows: 128, Cols: 64}
	alloc := func(dt engine.DType, shape ...int) engine.Tensor { return arena.Alloc("tensor", dt, shape...) }
	cases := map[string]ops.MatmulArgs{
		"bytes of another size":   {X: alloc(engine.F32, 4, 64), W: alloc(engine.U8, int(l.Bytes())-16), NF4: &l, Y: alloc(engine.F32, 4, 6)},
		"floats for bytes":        {X: alloc(engine.F32, 4, 64), W: alloc(engine.F32, 6, 64), NF4: &l, Y: alloc(engine.F32, 4, 6)},
		"bytes without layout":    {X: alloc(engine.F32, 4, 64), W: alloc(engine.U8, int(l.Bytes())), Y: alloc(engine.F32, 4, 6)},
		"inner sizes that differ": {X: alloc(engine.F32, 4, 63), W: alloc(engine.U8, int(l.Bytes())), NF4: &l, Y: alloc(engine.F32, 4, 6)},
	}
	for name, args := range cases {
		mustPanic(t, name, func() { ops.Matmul(dev.Compute(), args) })
	}
	mustPanic(t, "a matrix larger than a binding", func() {
		ops.Matmul(small.Compute(), ops.MatmulArgs{X: tight.Alloc("x", engine.F32, 4, 64), W: tight.Alloc("w", engine.U8, int(big.Bytes())), NF4: &big,
			Y: tight.Alloc("y", engine.F32, 4, 128)})
	})
}

// BenchmarkMatmulOf4Bits multiplies by matrices of the published text encoder: for one token, as when a text is continued, and
// for the two prompts of a video. Bytes are those of the weights.
func BenchmarkMatmulOf4Bits(b *testing.B) {
	dev := enginetest.Open(b)
	sizes := [][3]int{{1, 1024, 512}, {96, 1024, 512}}
	if dev.Summary.Physical.Info.Kind == "discrete gpu" {
		sizes = [][3]int{{1, 18944, 3584}, {1, 3584, 18944}, {770, 18944, 3584}, {770, 3584, 18944}}
	}
	for _, size := range sizes {
		for _, quantized := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dx%dx%d/4 bits=%v", size[0], size[1], size[2], quantized), func(b *testing.B) {
				g := newGemmBench(b, dev, 1)
				m, n, k := size[0], size[1], size[2]
				l := nf4.Layout{Rows: n, Cols: k}
				args := ops.MatmulArgs{X: g.arena.Alloc("x", engine.BF16, m, k), Y: g.arena.Alloc("y", engine.BF16, m, n), Half: dev.Caps().HasFloat16}
				if quantized {
					args.W, args.NF4 = g.arena.Alloc("w", engine.U8, int(l.Bytes())), &l
				} else {
					args.W = g.arena.Alloc("w", engine.BF16, n, k)
				}
				if err := g.arena.Err(); err != nil {
					b.Fatal(err)
				}
				s := dev.Compute()
				s.Fill(args.X, 0x3c003c00)
				s.Fill(args.W, 0x3c003c00)
				ops.Matmul(s, args)
				if err := s.Finish(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(args.W.Bytes())
				for b.Loop() {
					ops.Matmul(s, args)
					if err := s.Finish(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
