package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
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

// Ceiling is a dispatch that computes in registers alone, so that nothing but the unit limits it.
type Ceiling struct {
	Kind   CeilingKind
	Groups int     // workgroups
	Rounds int     // of the loop; sums are exact up to 2²⁰ rounds
	A, B   float32 // operands; 0 means 2⁻⁴, for integers 1
}

// fmaChains is CHAINS of ceiling_fma.comp, fmaInvocations its workgroup.
const (
	fmaChains      = 16
	fmaInvocations = 256
)

// ceilingSubgroups is how many subgroups a workgroup has: enough for every unit of a multiprocessor.
const ceilingSubgroups = 8

// frags returns how many matrices of each operand a subgroup holds. Drivers that emulate matrices take minutes to compile
// many.
func (c Ceiling) frags(caps engine.Caps) (m, n uint32) {
	if caps.SubgroupSize <= emulatedSubgroup {
		return 1, 1
	}
	return 2, 4
}

func (c Ceiling) subgroups(caps engine.Caps) int {
	return max(1, min(ceilingSubgroups, caps.MaxInvocations/caps.SubgroupSize))
}

// Invocations returns how many words Record writes.
func (c Ceiling) Invocations(caps engine.Caps) int {
	if c.Kind == CeilingFMA {
		return c.Groups * fmaInvocations
	}
	return c.Groups * c.subgroups(caps) * caps.SubgroupSize
}

// Operations returns how many operations Record does, a multiply-add counting as two.
func (c Ceiling) Operations(caps engine.Caps) float64 {
	if c.Kind == CeilingFMA {
		return 2 * fmaChains * float64(c.Rounds) * float64(c.Invocations(caps))
	}
	s := c.shape(caps)
	m, n := c.frags(caps)
	return 2 * float64(m*n) * float64(s.M) * float64(s.N) * float64(s.K) * float64(c.Rounds) * float64(c.Groups*c.subgroups(caps))
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

// Record records the dispatch. out, F32, gets one word an invocation: what Want returns.
func (c Ceiling) Record(s *engine.Stream, out engine.Tensor) {
	caps := s.Device().Caps()
	if out.DType != engine.F32 || out.Elems() < int64(c.Invocations(caps)) {
		panic(fmt.Sprintf("ops: ceiling: out %v does not hold %d sums", out, c.Invocations(caps)))
	}
	a, b := c.operands()
	call := engine.Call{Bind: []engine.Tensor{out}, Groups: [3]uint32{uint32(c.Groups), 1, 1}, Cost: c.Operations(caps), Label: "ceiling of " + c.Kind.String()}
	if c.Kind == CeilingFMA {
		call.Shader, call.Push = shaders.CeilingFma, shaders.CeilingFmaPush{Rounds: uint32(c.Rounds), A: a, B: b}.Append(nil)
		s.Dispatch(call)
		return
	}
	call.Shader = map[CeilingKind]string{CeilingBF16: shaders.CeilingMatrixBf16, CeilingF16: shaders.CeilingMatrixF16, CeilingI8: shaders.CeilingMatrixI8}[c.Kind]
	shape := c.shape(caps)
	m, n := c.frags(caps)
	call.Spec = shaders.CeilingMatrixSpec{FragsM: m, FragsN: n, MatM: uint32(shape.M), MatN: uint32(shape.N), MatK: uint32(shape.K),
		LocalSizeX: uint32(c.subgroups(caps) * caps.SubgroupSize)}.Values()
	call.Push = shaders.CeilingMatrixPush{Rounds: uint32(c.Rounds), A: a, B: b}.Append(nil)
	s.Dispatch(call)
}

func (c Ceiling) operands() (a, b float32) {
	a, b = c.A, c.B
	usual := float32(1.0 / 16)
	if c.Kind == CeilingI8 {
		usual = 1
	}
	if a == 0 {
		a = usual
	}
	if b == 0 {
		b = usual
	}
	return a, b
}

// Want returns the sum that every invocation writes, computed the same way: x ← x·a + b from 0 for multiply-adds.
func (c Ceiling) Want(caps engine.Caps) float32 {
	a, b := c.operands()
	if c.Kind == CeilingFMA {
		var x float64
		for range c.Rounds {
			x = x*float64(a) + float64(b)
		}
		return fmaChains * float32(x)
	}
	m, n := c.frags(caps)
	return float32(m*n) * float32(c.Rounds) * float32(c.shape(caps).K) * a * b
}
