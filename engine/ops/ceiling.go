package ops

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// CeilingKind is a unit of the device whose highest rate can be measured.
type CeilingKind int

// Kinds of units.
const (
	CeilingFMA  CeilingKind = iota // fp32 multiply-adds
	CeilingBF16                    // products of bf16 matrices, sums in fp32
	CeilingF16                     // the same of fp16 matrices
	CeilingI8                      // products of matrices of signed bytes, sums in 32-bit integers
)

func (k CeilingKind) String() string {
	return [...]string{"fp32 multiply-adds", "bf16 matrices", "fp16 matrices", "int8 matrices"}[k]
}

// Ceilings returns the units that the device's kernels use.
func Ceilings(caps engine.Caps) []CeilingKind {
	list := []CeilingKind{CeilingFMA}
	if caps.Tier < engine.TierMatrix {
		return list
	}
	if caps.Matrix.BF16 != (engine.MatrixShape{}) {
		list = append(list, CeilingBF16)
	}
	if caps.Matrix.F16 != (engine.MatrixShape{}) {
		list = append(list, CeilingF16)
	}
	if caps.Matrix.I8 != (engine.MatrixShape{}) {
		list = append(list, CeilingI8)
	}
	return list
}

// Ceiling is a dispatch that computes in registers alone, so that nothing but the unit limits it. What it computes is
// different in every register and every subgroup, and random where it is matrices: units that a compiler can spare, or
// whose inputs do not change, show a rate that no real work reaches.
type Ceiling struct {
	Kind   CeilingKind
	Groups int // workgroups
	Rounds int // of the loop
	Frags  CeilingFrags
}

// CeilingFrags is how many matrices of each operand a subgroup holds; it multiplies each A with each B.
type CeilingFrags struct{ A, B int }

// CeilingFragments lists the numbers of matrices worth trying on a device, whose registers they must fit: the highest rate
// is the ceiling. Drivers that emulate matrices take minutes to compile many.
func CeilingFragments(caps engine.Caps, kind CeilingKind) []CeilingFrags {
	switch {
	case kind == CeilingFMA:
		return []CeilingFrags{{}}
	case caps.SubgroupSize <= emulatedSubgroup:
		return []CeilingFrags{{1, 1}}
	}
	return []CeilingFrags{{2, 4}, {4, 4}}
}

// fmaChains is CHAINS of ceiling_fma.comp, fmaInvocations its workgroup, fmaFactor and fmaTerm what it multiplies by and
// adds: values neither grow nor soon come to rest.
const (
	fmaChains      = 16
	fmaInvocations = 256
	fmaFactor      = -(1 - 0x1p-12)
	fmaTerm        = 0.75
)

// ceilingSubgroups is how many subgroups a workgroup has: enough for every unit of a multiprocessor. ceilingPool is how
// many different matrices of each operand there are.
const (
	ceilingSubgroups = 8
	ceilingPool      = 8
)

func (c Ceiling) subgroups(caps engine.Caps) int {
	return max(1, min(ceilingSubgroups, caps.MaxInvocations/caps.SubgroupSize))
}

// Subgroups returns how many subgroups compute; of multiply-adds, how many invocations.
func (c Ceiling) Subgroups(caps engine.Caps) int {
	if c.Kind == CeilingFMA {
		return c.Groups * fmaInvocations
	}
	return c.Groups * c.subgroups(caps)
}

// Words returns how many 32-bit words Record writes for a subgroup.
func (c Ceiling) Words(caps engine.Caps) int {
	if c.Kind == CeilingFMA {
		return 1
	}
	s := c.shape(caps)
	return s.M * s.N
}

// Operations returns how many operations Record does, a multiply-add counting as two.
func (c Ceiling) Operations(caps engine.Caps) float64 {
	each := float64(fmaChains)
	if c.Kind != CeilingFMA {
		s := c.shape(caps)
		each = float64(c.Frags.A*c.Frags.B) * float64(s.M) * float64(s.N) * float64(s.K)
	}
	return 2 * each * float64(c.Rounds) * float64(c.Subgroups(caps))
}

func (c Ceiling) shape(caps engine.Caps) engine.MatrixShape {
	switch c.Kind {
	case CeilingBF16:
		return caps.Matrix.BF16
	case CeilingI8:
		return caps.Matrix.I8
	}
	return caps.Matrix.F16
}

// Record records the dispatch. in, U8, holds Operands; out, U32, gets Words words a subgroup, as Want returns them: floats, or
// integers of CeilingI8.
func (c Ceiling) Record(s *engine.Stream, out, in engine.Tensor) {
	caps := s.Device().Caps()
	words := int64(c.Subgroups(caps)) * int64(c.Words(caps))
	if out.DType != engine.U32 || out.Elems() < words || in.DType != engine.U8 || c.Kind != CeilingFMA && in.Elems() < int64(c.operandBytes(caps)) {
		panic(fmt.Sprintf("ops: ceiling: out %v does not hold %d words, or in %v no operands", out, words, in))
	}
	call := engine.Call{Bind: []engine.Tensor{out.View(0, int(words))}, Groups: [3]uint32{uint32(c.Groups), 1, 1}, Cost: c.Operations(caps), Label: "ceiling of " + c.Kind.String()}
	if c.Kind == CeilingFMA {
		call.Shader, call.Push = shaders.CeilingFma, shaders.CeilingFmaPush{Rounds: uint32(c.Rounds), A: fmaFactor, B: fmaTerm}.Append(nil)
		s.Dispatch(call)
		return
	}
	call.Shader = map[CeilingKind]string{CeilingBF16: shaders.CeilingMatrixBf16, CeilingF16: shaders.CeilingMatrixF16, CeilingI8: shaders.CeilingMatrixI8}[c.Kind]
	call.Bind = append(call.Bind, in.View(0, c.operandBytes(caps)))
	shape := c.shape(caps)
	call.Spec = shaders.CeilingMatrixSpec{FragsM: uint32(c.Frags.A), FragsN: uint32(c.Frags.B), MatM: uint32(shape.M), MatN: uint32(shape.N), MatK: uint32(shape.K),
		LocalSizeX: uint32(c.subgroups(caps) * caps.SubgroupSize)}.Values()
	call.Push = shaders.CeilingMatrixPush{Rounds: uint32(c.Rounds), Pool: ceilingPool}.Append(nil)
	s.Dispatch(call)
}

func (c Ceiling) operandBytes(caps engine.Caps) int {
	s, size := c.shape(caps), 2
	if c.Kind == CeilingI8 {
		size = 1
	}
	return ceilingPool * (s.M + s.N) * s.K * size
}

// operands are the matrices A and then B, as numbers that the type holds: normal ones, or bytes that are all as likely.
func (c Ceiling) operands(caps engine.Caps) []float32 {
	rng := rand.New(rand.NewPCG(16, uint64(c.Kind)))
	s := c.shape(caps)
	out := make([]float32, ceilingPool*(s.M+s.N)*s.K)
	for i := range out {
		switch c.Kind {
		case CeilingI8:
			out[i] = float32(rng.IntN(256) - 128)
		case CeilingBF16:
			out[i] = numeric.RoundBF16(float32(rng.NormFloat64()))
		default:
			out[i] = numeric.RoundF16(float32(rng.NormFloat64()))
		}
	}
	return out
}

// Operands returns what in must hold; of multiply-adds a few bytes that nobody reads.
func (c Ceiling) Operands(caps engine.Caps) []byte {
	if c.Kind == CeilingFMA {
		return make([]byte, 4)
	}
	var out []byte
	for _, v := range c.operands(caps) {
		switch c.Kind {
		case CeilingI8:
			out = append(out, byte(int8(v)))
		case CeilingBF16:
			out = binary.LittleEndian.AppendUint16(out, numeric.BF16FromF32(v))
		default:
			out = binary.LittleEndian.AppendUint16(out, numeric.F16FromF32(v))
		}
	}
	return out
}

// Check compares the words that a subgroup wrote with float64, and with integers that wrap. Sums of many rounds grow while
// what is added stays, so a unit that cuts bits off errs by 2⁻²³ of the sum a round at most.
func (c Ceiling) Check(caps engine.Caps, subgroup int, words []uint32) error {
	var diff, norm float64
	for i, want := range c.want(caps, subgroup) {
		if c.Kind == CeilingI8 {
			if got, want := int32(words[i]), int32(int64(want)); got != want {
				return fmt.Errorf("word %d of subgroup %d is %d, want %d", i, subgroup, got, want)
			}
			continue
		}
		d := float64(math.Float32frombits(words[i])) - want
		diff, norm = diff+d*d, norm+want*want
	}
	limit := float64(c.Rounds+64) * 0x1p-23
	if err := math.Sqrt(diff / max(norm, 1e-30)); !(err <= limit) {
		return fmt.Errorf("the sums of subgroup %d are off by %.2g, at most %.2g was expected", subgroup, err, limit)
	}
	return nil
}

// want computes what a subgroup writes: the sum of all products is that of the A times that of the B.
func (c Ceiling) want(caps engine.Caps, subgroup int) []float64 {
	if c.Kind == CeilingFMA {
		sum := 0.0
		for k := range fmaChains {
			x := float64(k+subgroup%fmaInvocations) / 16
			for range c.Rounds {
				x = x*fmaFactor + fmaTerm
			}
			sum += x
		}
		return []float64{sum}
	}
	s, all := c.shape(caps), c.operands(caps)
	add := func(from, elems, count int) []float64 {
		out := make([]float64, elems)
		for f := range count {
			at := from + (subgroup+f)%ceilingPool*elems
			for i, v := range all[at : at+elems] {
				out[i] += float64(v)
			}
		}
		return out
	}
	a, b := add(0, s.M*s.K, c.Frags.A), add(ceilingPool*s.M*s.K, s.K*s.N, c.Frags.B)
	out := make([]float64, s.M*s.N)
	for i := range out {
		for k := range s.K {
			out[i] += a[i/s.N*s.K+k] * b[k*s.N+i%s.N]
		}
		out[i] *= float64(c.Rounds)
	}
	return out
}
